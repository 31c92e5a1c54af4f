//! `strata verify`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueHint};
use strata_stages::STAGES;

use super::run::Run;
use super::sample::{self, Sample};
use super::say::say;
use super::{Outcome, Place};
use crate::manifest::{Manifest, OfHub, nearest_sibling};
use crate::provenance::export;
use crate::store::Store;
use crate::store::layout::Layout;
use crate::store::signing::{Signer, Trust};

/// Hash every object of the store, read every table, and report what is damaged
///
/// What is found, the next run sees and computes again.
#[derive(Args)]
#[command(after_help = "Examples:
  strata verify && echo sound
  strata verify paper-v1     an exported folder
  strata verify --sample 5%  computes a twentieth of the tasks again, which finds whoever signed false numbers
  strata verify --repair     moves what is damaged to artifacts/damaged and runs the pipeline")]
pub struct Verify {
    /// Set aside what is damaged, and run the pipeline
    #[arg(long)]
    repair: bool,
    /// An exported folder, which is checked by itself
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["repair", "sample"])]
    folder: Option<PathBuf>,
    /// Compute so many of the pipeline's finished tasks again and compare, instead: a share (5%), or a number
    #[arg(long, value_name = "HOW MANY")]
    sample: Option<Sample>,
    /// Which tasks a sample takes, to take the same again
    #[arg(long, requires = "sample")]
    seed: Option<u64>,
    /// How far numbers of a sample may differ, as a share of their column's largest: other machines add up in another order
    #[arg(long, requires = "sample", value_name = "SHARE", default_value_t = 1e-4)]
    tolerance: f64,
}

impl Verify {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        if let Some(sample) = self.sample {
            return self.sample(place, sample);
        }
        let layout = place.layout()?;
        let exported = |folder: &Path| folder.join(export::CONTENTS).is_file();
        if let Some(folder) = self.folder.as_deref().or_else(|| Some(layout.root()).filter(|root| exported(root))) {
            return of_export(place, folder);
        }
        if !is_store(&layout) {
            let near = nearest_sibling(layout.root()).map(|near| format!("; is it {}?", near.display()));
            bail!("there is no store at {}{}", layout.root().display(), near.unwrap_or_default());
        }
        let mut store = Store::at(layout);
        // A store can be verified without its pipeline.
        if let Ok(manifest) = Manifest::load_to_estimate(place.pipeline(), OfHub::default()) {
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

    fn sample(&self, place: &Place, sample: Sample) -> Result<Outcome> {
        let (outcome, differ) = sample::run(place, sample, self.seed, self.tolerance)?;
        if !self.repair || differ.is_empty() {
            return Ok(outcome);
        }
        let store = Store::at(place.layout()?);
        for key in &differ {
            let path = store.layout.record(*key);
            let aside = store.disk.set_aside(&path, &store.layout.damaged());
            aside.with_context(|| format!("cannot move {} away", path.display()))?;
        }
        place.note(format_args!("{} records set aside in {}", differ.len(), store.layout.damaged().display()))?;
        Run::everything().execute(place)
    }
}

/// Whether a folder is a store, or may become one: a run may have ended before anything was in it.
fn is_store(layout: &Layout) -> bool {
    let folders = [layout.records(), layout.objects(), layout.cache()];
    let is_empty = || layout.root().read_dir().is_ok_and(|mut entries| entries.next().is_none());
    folders.iter().any(|folder| folder.is_dir()) || is_empty()
}

fn of_export(place: &Place, folder: &Path) -> Result<Outcome> {
    let (checked, problems) = export::verify(folder, STAGES)?;
    for problem in &problems {
        say!("{problem}");
    }
    place.note(format_args!("{checked} files checked, {} problems", problems.len()))?;
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::TaskFailed })
}
