//! What of a store nobody uses any more.
//!
//! Kept is what the views of a registered pipeline were made from, what is pinned, what a pipeline reads as an input, and what is
//! younger than the user says. The rest of the records and objects goes, and what killed runs left. Nothing else is looked at.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::Store;
use super::disk::is_temporary;
use crate::key::Key;

/// Files that can go, with their bytes. Records come before objects.
#[derive(Debug, Default)]
pub struct Garbage {
    pub files: Vec<(PathBuf, u64)>,
}

impl Garbage {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Store {
    /// What could go, with everything kept that is younger than `keep`.
    ///
    /// # Errors
    /// When the store, its pipelines or its pins cannot be read: what they keep would not be known.
    pub fn garbage(&self, keep: Duration) -> Result<Garbage> {
        let mut keys: HashSet<Key> = self.shown_keys();
        let pins = self.pins()?;
        keys.extend(pins.iter().flat_map(|(_, pin)| &pin.keys).filter_map(|key| key.parse::<Key>().ok()));
        let oldest = SystemTime::now().checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH);
        let is_old = |path: &Path| {
            let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified <= oldest)
        };
        let mut objects: BTreeSet<PathBuf> = self
            .roots()?
            .into_iter()
            .flat_map(|(_, root)| root.inputs)
            .map(|path| self.layout.root().join(path))
            .collect();
        let mut garbage = Garbage::default();
        for path in files_below(&self.layout.records())? {
            let key = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Key>().ok());
            let used = key.is_some_and(|key| keys.contains(&key));
            if !is_temporary(&path) && (used || !is_old(&path)) {
                let record = key.and_then(|key| self.record(key));
                objects
                    .extend(record.iter().flat_map(|record| &record.outputs).map(|output| self.layout.object(output)));
            } else {
                garbage.push(path);
            }
        }
        for path in files_below(&self.layout.objects())? {
            if is_temporary(&path) || (!objects.contains(&path) && is_old(&path)) {
                garbage.push(path);
            }
        }
        let remembered = self.layout.pipelines().into_iter().map(|layout| layout.latest_folder());
        for folder in remembered.chain([self.layout.cache()]) {
            files_below(&folder)?.into_iter().filter(|path| is_temporary(path)).for_each(|path| garbage.push(path));
        }
        for path in files_below(&self.layout.damaged())?.into_iter().filter(|path| is_old(path)) {
            garbage.push(path);
        }
        Ok(garbage)
    }

    /// Removes it. Whoever calls this has the store to himself, and found it while he had.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn collect(&self, garbage: &Garbage) -> Result<()> {
        for (path, _) in &garbage.files {
            self.disk.remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            self.fingerprints.forget(path);
        }
        self.save_fingerprints()
    }
}

impl Garbage {
    fn push(&mut self, path: PathBuf) {
        let bytes = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        self.files.push((path, bytes));
    }
}

/// Files and links below a folder; none where it is absent. A link is not followed.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { pending.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    Ok(found)
}
