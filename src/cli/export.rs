//! `strata export`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueHint};
use clap_complete::ArgValueCompleter;

use super::{Outcome, Place, complete};
use crate::provenance::export;

/// Write a target's results to a folder of their own, with the records of all behind them: what accompanies a paper
///
/// Tables are files in Hive layout. Of a report its tables come along. Models and datasets do not: their hashes do. `strata verify DIR`
/// checks the folder anywhere.
#[derive(Args)]
#[command(after_help = "Examples:
  strata export report paper-v1
  strata export 'hidden_states[base,insecure]' states --with-inputs
  strata verify paper-v1")]
pub struct Export {
    /// A stage, or STAGE[NAME,NAME…]
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    target: String,
    /// A folder that is empty or not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    to: PathBuf,
    /// The tables of everything behind the target too
    #[arg(long)]
    with_inputs: bool,
}

impl Export {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        let store = &workspace.store;
        store.prepare()?;
        let _lock = store.lock_shared()?;
        let (wanted, plan) = workspace.finished(&self.target)?;
        let own: Vec<_> = workspace.asked(std::slice::from_ref(&self.target))?.iter().collect();
        let mut shown = export::shown(&plan, &own);
        if self.with_inputs {
            let tables = wanted.iter().filter(|id| workspace.graph.node(*id).stage.table().is_some());
            tables.for_each(|id| shown.insert(id));
        }
        let written = export::export(&plan, &wanted, &shown, &self.target, place.pipeline(), &self.to)?;
        store.keep_fingerprints();
        place.note(format_args!(
            "{} files, {:.1} MB, and {} records; `strata verify {}` checks them anywhere",
            written.files,
            written.bytes as f64 / 1e6,
            written.records,
            self.to.display(),
        ))?;
        Ok(Outcome::Done)
    }
}
