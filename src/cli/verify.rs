//! `strata verify`

use anyhow::Result;
use clap::Args;
use strata_stages::STAGES;

use super::run::Run;
use super::say::say;
use super::{Outcome, Place};
use crate::store::Store;

/// Hash every object of the store, read every table, and report what is damaged
///
/// What is found, the next run sees and computes again.
#[derive(Args)]
#[command(after_help = "Examples:
  strata verify && echo sound
  strata verify --repair     moves what is damaged to artifacts/damaged and runs the pipeline")]
pub struct Verify {
    /// Set aside what is damaged, and run the pipeline
    #[arg(long)]
    repair: bool,
}

impl Verify {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let store = Store::at(place.layout()?);
        let verified = store.verify(STAGES)?;
        for problem in &verified.problems {
            say!("{problem}");
        }
        place.note(format_args!("{} objects checked, {} problems", verified.objects, verified.problems.len()))?;
        if !self.repair {
            return Ok(if verified.problems.is_empty() { Outcome::Done } else { Outcome::TaskFailed });
        }
        if !verified.problems.is_empty() {
            let _lock = store.lock_shared()?;
            let moved = store.set_aside(&verified)?;
            place.note(format_args!("{moved} files set aside in {}", store.layout.damaged().display()))?;
        }
        Run::everything().execute(place)
    }
}
