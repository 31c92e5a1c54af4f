//! `strata.lock`: what every file was that a pipeline read, so that its keys are known where the files are not.
//!
//! It lies beside pipeline.toml and belongs with it. A colleague who has the two and a remote gets the tables without the models and the
//! datasets behind them. Of what comes from the hub it also holds which commit a revision was, so that it stays the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use strata_stages::contract::file::{CONFIGURATION, read_text};

use crate::diagnostic::Diagnostic;
use crate::hub::environment::Environment;
use crate::hub::snapshot::Pins;
use crate::store::disk::Disk;
use crate::store::names::ObjectHash;

const NAME: &str = "strata.lock";
/// Bytes of the largest one: a hundred thousand files with long names.
const LARGEST: u64 = 32 << 20;
const HEADER: &str =
    "# The blake3 of every file that this pipeline read. `strata run` writes it; keep it beside pipeline.toml.\n";
/// What stands before the path of a file of the hub's cache, which lies elsewhere on every machine.
const CACHED: &str = "hub:";

/// The hashes of files by their paths, which are as in pipeline.toml: relative to its folder, or absolute; those of the hub's cache relative
/// to that.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lock {
    folder: PathBuf,
    files: BTreeMap<PathBuf, ObjectHash>,
    /// What the config.json of a model's folder says: some stages plan by it.
    configs: BTreeMap<PathBuf, String>,
    /// What the hub's repositories were.
    pub pins: Pins,
    /// Folders and files of the hub's cache that are not whole here. It is not written.
    awaited: BTreeMap<PathBuf, Awaited>,
}

/// Something of the hub's that is not whole here.
#[derive(Debug, Clone, PartialEq)]
struct Awaited {
    what: String,
    /// Whether all of its files are known by their hashes, so that nothing of it need be here until a stage reads it.
    known: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<PathBuf, ObjectHash>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configs: BTreeMap<PathBuf, String>,
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    hub: Pins,
}

impl Lock {
    /// Of a pipeline file's folder; empty where there is none.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn load(folder: &Path) -> Result<Lock, Diagnostic> {
        let path = folder.join(NAME);
        if !path.exists() {
            return Ok(Lock { folder: folder.to_path_buf(), ..Lock::default() });
        }
        let damaged = |why: String| {
            let why = why.trim().to_string();
            Diagnostic::plain(format!("{} cannot be used: {why}", path.display()))
                .help("without it a run reads the files themselves, and writes it again")
        };
        let text = read_text(&path, LARGEST).map_err(|error| damaged(format!("{error:#}")))?;
        let written: Written = toml_edit::de::from_str(&text).map_err(|error| damaged(error.message().to_string()))?;
        if written.version != 1 {
            return Err(damaged(format!("it is of version {}, and this Strata reads version 1", written.version)));
        }
        let Written { files, configs, hub: pins, .. } = written;
        Ok(Lock { folder: folder.to_path_buf(), files, configs, pins, awaited: BTreeMap::new() })
    }

    /// Whether it says anything.
    pub fn is_written(&self) -> bool {
        !self.files.is_empty()
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn name(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&Environment::own().cache) {
            Ok(cached) => Path::new(CACHED).join(cached),
            Err(_) => path.strip_prefix(&self.folder).unwrap_or(path).to_path_buf(),
        }
    }

    /// The path of which this is the name.
    fn place(&self, name: &Path) -> PathBuf {
        match name.strip_prefix(CACHED) {
            Ok(cached) => Environment::own().cache.join(cached),
            Err(_) => self.folder.join(name),
        }
    }

    /// From now on a folder or file counts as one that is not here, though some of its files may be. `what` is said of it.
    pub fn wait_for(&mut self, path: PathBuf, files: &[PathBuf], what: String) {
        let known = !files.is_empty() && files.iter().all(|file| self.hash(file).is_some());
        self.awaited.insert(path, Awaited { what, known });
    }

    /// What is said of a folder or file of the hub's that is not whole here, and whose files are not all known.
    pub fn awaited(&self, path: &Path) -> Option<&str> {
        self.awaited.get(path).filter(|awaited| !awaited.known).map(|awaited| awaited.what.as_str())
    }

    /// Whether it speaks for a folder, which is not here.
    pub fn speaks_for(&self, folder: &Path) -> bool {
        match self.awaited.get(folder) {
            Some(awaited) => awaited.known,
            None => !folder.exists() && self.knows(folder),
        }
    }

    /// What it says of files that are not here, and nothing else.
    pub fn awaited_alone(&self) -> Lock {
        Lock { awaited: self.awaited.clone(), ..Lock::default() }
    }

    /// What a file was.
    pub fn hash(&self, path: &Path) -> Option<ObjectHash> {
        self.files.get(&self.name(path)).copied()
    }

    /// Whether it says what a file was, or the files of a folder.
    pub fn knows(&self, path: &Path) -> bool {
        let name = self.name(path);
        self.files.range(name.clone()..).next().is_some_and(|(found, _)| found.starts_with(&name))
    }

    /// The names of the files of a folder that it knows.
    pub fn names(&self, folder: &Path) -> Vec<String> {
        let folder = self.name(folder);
        let below = self.files.keys().filter_map(|path| path.strip_prefix(&folder).ok());
        below.filter(|name| name.components().count() == 1).map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// What the config.json says of the folders that are not here, by folder.
    pub fn configs(&self) -> BTreeMap<PathBuf, String> {
        let folders = self.configs.iter().map(|(folder, text)| (self.place(folder), text.clone()));
        folders.filter(|(folder, _)| !folder.exists()).collect()
    }

    /// Writes what files are now, where that is news. Of those in `known` that were not read this time, what was said stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn update<'a>(
        &self,
        known: impl Iterator<Item = &'a Path>,
        now: &BTreeMap<PathBuf, ObjectHash>,
        disk: &Disk,
    ) -> Result<()> {
        let (mut files, mut configs) = (BTreeMap::new(), BTreeMap::new());
        for path in known {
            if let Some(hash) = now.get(path).copied().or_else(|| self.hash(path)) {
                files.insert(self.name(path), hash);
            }
            let Some(folder) = path.parent().filter(|folder| !configs.contains_key(&self.name(folder))) else {
                continue;
            };
            let here = read_text(&folder.join("config.json"), CONFIGURATION).ok();
            if let Some(text) = here.or_else(|| self.configs.get(&self.name(folder)).cloned()) {
                configs.insert(self.name(folder), text);
            }
        }
        if (&files, &configs) == (&self.files, &self.configs) {
            return Ok(());
        }
        self.write(files, configs, self.pins.clone(), disk)
    }

    /// Writes what the hub's repositories are now, where that is news.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn pin(&self, pins: Pins, disk: &Disk) -> Result<()> {
        if pins == self.pins {
            return Ok(());
        }
        self.write(self.files.clone(), self.configs.clone(), pins, disk)
    }

    fn write(
        &self,
        files: BTreeMap<PathBuf, ObjectHash>,
        configs: BTreeMap<PathBuf, String>,
        hub: Pins,
        disk: &Disk,
    ) -> Result<()> {
        let path = self.path();
        let text = toml_edit::ser::to_string_pretty(&Written { version: 1, files, configs, hub })?;
        disk.replace(&path, format!("{HEADER}{text}").as_bytes()).with_context(|| format!("writing {}", path.display()))
    }
}
