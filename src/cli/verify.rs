//! `strata verify`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueHint};
use strata_stages::STAGES;

use super::run::Run;
use super::say::say;
use super::{Outcome, Place};
use crate::manifest::Manifest;
use crate::provenance::export;
use crate::store::Store;
use crate::store::signing::{Signer, Trust};

/// Hash every object of the store, read every table, and report what is damaged
///
/// What is found, the next run sees and computes again.
#[derive(Args)]
#[command(after_help = "Examples:
  strata verify && echo sound
  strata verify paper-v1     an exported folder
  strata verify --repair     moves what is damaged to artifacts/damaged and runs the pipeline")]
pub struct Verify {
    /// Set aside what is damaged, and run the pipeline
    #[arg(long)]
    repair: bool,
    /// An exported folder, which is checked by itself
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "repair")]
    folder: Option<PathBuf>,
}

impl Verify {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let layout = place.layout()?;
        let exported = |folder: &Path| folder.join(export::CONTENTS).is_file();
        if let Some(folder) = self.folder.as_deref().or_else(|| Some(layout.root()).filter(|root| exported(root))) {
            return of_export(place, folder);
        }
        let mut store = Store::at(layout);
        // A store can be verified without its pipeline.
        if let Ok(manifest) = Manifest::load_to_estimate(place.pipeline()) {
            store.trust = Trust { keys: manifest.trust, signer: Signer::own()? };
        }
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

fn of_export(place: &Place, folder: &Path) -> Result<Outcome> {
    let (checked, problems) = export::verify(folder, STAGES)?;
    for problem in &problems {
        say!("{problem}");
    }
    place.note(format_args!("{checked} files checked, {} problems", problems.len()))?;
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::TaskFailed })
}
