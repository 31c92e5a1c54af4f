//! `strata clean`

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use strata_stages::STAGES;

use super::say::say;
use super::{Outcome, Place};
use crate::plan::Plan;
use crate::store::Store;
use crate::store::disk::is_temporary;

/// Remove objects and records that the pipeline no longer uses, and leftovers of killed runs
#[derive(Args)]
#[command(after_help = "Examples:
  strata clean --dry-run     what would go, and how many bytes
  strata clean               keep what the pipeline as it is now uses
  strata clean --all         remove the whole store")]
pub struct Clean {
    /// Remove everything: objects, records, views and caches
    #[arg(long)]
    all: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl Clean {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let layout = place.layout()?;
        if !layout.cache().exists() {
            place.note(format_args!("nothing to remove: there is no store at {}", layout.root().display()))?;
            return Ok(Outcome::Done);
        }
        let opened = Store::open(layout.root());
        let _lock = opened.lock_exclusive()?;
        if self.all {
            return self.remove_all(&opened);
        }
        let workspace = place.open()?;
        let store = &workspace.store;
        let mut plan = Plan::new(&workspace.graph, store);
        plan.expand_all(&workspace.graph.all())?;
        let mut keep_records = BTreeSet::new();
        let mut keep_objects = BTreeSet::new();
        for (_, state) in plan.states() {
            keep_records.extend(state.done().into_iter().map(|key| store.layout.record(key)));
            keep_objects.extend(state.parts().into_iter().map(|output| store.layout.object(output)));
        }
        // What a view still shows stays, even where its node is stale now: it is the last known result.
        for (_, node) in workspace.graph.nodes() {
            for key in crate::latest::read(store, &node.label()) {
                keep_records.insert(store.layout.record(key));
                let outputs = store.record(key).map(|record| record.outputs).unwrap_or_default();
                keep_objects.extend(outputs.iter().map(|output| store.layout.object(output)));
            }
        }
        let (mut count, mut bytes) = (0u64, 0u64);
        for folder in [layout.records(), layout.objects(), layout.cache()] {
            for path in files(&folder)? {
                let left = is_temporary(&path);
                let kept = folder == layout.cache() || keep_records.contains(&path) || keep_objects.contains(&path);
                if left || !kept {
                    bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    count += 1;
                    if !self.dry_run {
                        store.disk.remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                    }
                }
            }
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        say!("{verb} {count} files, {:.1} MB", bytes as f64 / 1e6);
        Ok(Outcome::Done)
    }

    fn remove_all(&self, store: &Store) -> Result<Outcome> {
        for path in store.layout.folders(STAGES) {
            if path.exists() {
                if self.dry_run {
                    say!("would remove {}", path.display());
                } else {
                    store.disk.remove_folder(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        Ok(Outcome::Done)
    }
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
