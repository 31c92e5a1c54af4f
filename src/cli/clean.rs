//! `strata clean`

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use super::say::say;
use super::{Outcome, Place};
use crate::plan::Plan;
use crate::store::Store;

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
        let root = place.store_root()?;
        if !root.join("cache").exists() {
            say!("nothing to remove: there is no store at {}", root.display());
            return Ok(Outcome::Done);
        }
        let _lock = Store::open(&root).lock_exclusive()?;
        if self.all {
            return self.remove_all(&root);
        }
        let workspace = place.open()?;
        let store = &workspace.store;
        let mut plan = Plan::new(&workspace.graph, store);
        plan.expand_all(&vec![true; workspace.graph.nodes.len()])?;
        let mut keep_records = BTreeSet::new();
        let mut keep_objects = BTreeSet::new();
        for task in plan.states.iter().flat_map(|state| &state.tasks) {
            keep_records.insert(store.record_path(task.key));
            keep_objects.extend(task.outputs.iter().flatten().map(|output| store.object_path(output)));
        }
        // What a view still shows stays, even where its node is stale now: it is the last known result.
        for node in &workspace.graph.nodes {
            for key in crate::latest::read(store, &node.label()) {
                keep_records.insert(store.record_path(key));
                let outputs = store.record(key).map(|record| record.outputs).unwrap_or_default();
                keep_objects.extend(outputs.iter().map(|output| store.object_path(output)));
            }
        }
        let (mut count, mut bytes) = (0u64, 0u64);
        for folder in ["records", "objects", "cache"] {
            for path in files(&root.join(folder))? {
                let left = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp-"));
                let kept = folder == "cache" || keep_records.contains(&path) || keep_objects.contains(&path);
                if left || !kept {
                    bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    count += 1;
                    if !self.dry_run {
                        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                    }
                }
            }
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        say!("{verb} {count} files, {:.1} MB", bytes as f64 / 1e6);
        Ok(Outcome::Done)
    }

    fn remove_all(&self, root: &Path) -> Result<Outcome> {
        for folder in ["tables", "models", "corpus", "report", "records", "objects", "cache"] {
            let path = root.join(folder);
            if path.exists() {
                if self.dry_run {
                    say!("would remove {}", path.display());
                } else {
                    fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
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
