//! Who uses a store: the pipelines that were run on it, and what is pinned. `strata gc` keeps what these reach.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Store;
use super::layout::Layout;
use super::names::wrong_with;
use crate::graph::{From, Graph};
use crate::key::Key;

/// A pipeline that was run on the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Files of this store that the pipeline reads as inputs (weights below `models/`), relative to the store.
    pub inputs: BTreeSet<PathBuf>,
}

/// Results that are kept under a name, whatever the pipeline that made them does next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    pub target: String,
    pub pipeline: PathBuf,
    /// The time in UTC, as RFC 3339 writes it.
    pub at: String,
    /// The keys of the target's tasks and of those behind them.
    pub keys: BTreeSet<String>,
    /// The same by node, in the order of the tasks; earlier pins have none.
    #[serde(default)]
    pub nodes: BTreeMap<String, PinnedNode>,
}

/// A node that is pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedNode {
    pub stage: String,
    pub keys: Vec<String>,
}

impl Root {
    pub fn is_gone(&self) -> bool {
        !self.pipeline.exists()
    }
}

impl Store {
    /// Writes down that a pipeline uses this store, where that is not known.
    ///
    /// # Errors
    /// When another pipeline has its name, or the store cannot be written.
    pub fn register(&self, pipeline: &Path, graph: &Graph) -> Result<()> {
        let root = Root { pipeline: std::path::absolute(pipeline)?, inputs: self.inputs(graph) };
        let path = self.layout.root_file();
        let known = read::<Root>(&path);
        if known.as_ref() == Some(&root) {
            return Ok(());
        }
        // One that was moved keeps its name.
        if let Some(other) = known.filter(|known| known.pipeline != root.pipeline && !known.is_gone()) {
            let (store, other) = (self.layout.root().display(), other.pipeline.display());
            bail!("{} is the name of {other} in the store {store}: give one of them another", self.layout.name());
        }
        self.disk.replace(&path, &serde_json::to_vec_pretty(&root)?)
    }

    /// Files of this store among what a graph reads as the user's.
    fn inputs(&self, graph: &Graph) -> BTreeSet<PathBuf> {
        let Ok(own) = fs::canonicalize(self.layout.root()) else { return BTreeSet::new() };
        let (mut seen, mut folders) = (HashSet::new(), HashMap::new());
        let inputs = graph.nodes().flat_map(|(_, node)| node.inputs.iter().flat_map(|input| input.from.each()));
        let files = inputs.filter_map(|from| match from {
            From::Files { files, .. } => Some(files),
            From::Node { .. } | From::Together(_) | From::Setting(_) | From::Absent { .. } => None,
        });
        let files = files.flat_map(|files| files.iter()).map(|(_, path)| path).filter(|path| seen.insert(*path));
        // A file that is no link lies in its folder, and many files lie in one.
        let mut real = |path: &Path| {
            if path.symlink_metadata().ok()?.is_symlink() {
                return fs::canonicalize(path).ok();
            }
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            let folder = folders.entry(folder.to_path_buf()).or_insert_with(|| fs::canonicalize(folder).ok());
            Some(folder.as_ref()?.join(path.file_name()?))
        };
        let within = |path: PathBuf| Some(path.strip_prefix(&own).ok()?.to_path_buf());
        files.filter_map(|path| within(real(path)?)).collect()
    }

    /// The pipelines that use this store, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn roots(&self) -> Result<Vec<(String, Root)>> {
        named(&self.layout.roots())
    }

    /// What is pinned, by name.
    ///
    /// # Errors
    /// When the pins cannot be listed.
    pub fn pins(&self) -> Result<Vec<(String, Pin)>> {
        named(&self.layout.pins())
    }

    /// # Errors
    /// When the name cannot be a file's, another pin has it, or the store cannot be written.
    pub fn pin(&self, name: &str, pin: &Pin) -> Result<()> {
        let path = self.pin_path(name)?;
        if path.exists() {
            bail!("there is a pin \"{name}\" already; `strata pin --remove {name}` lets go of it");
        }
        self.disk.replace(&path, &serde_json::to_vec_pretty(pin)?)
    }

    /// # Errors
    /// When there is no such pin, or the store cannot be written.
    pub fn unpin(&self, name: &str) -> Result<()> {
        let path = self.pin_path(name)?;
        if !path.exists() {
            let known: Vec<String> = self.pins()?.into_iter().map(|(name, _)| name).collect();
            bail!("there is no pin \"{name}\"; the pins are: {}", known.join(", "));
        }
        self.disk.remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    fn pin_path(&self, name: &str) -> Result<PathBuf> {
        if let Some(why) = wrong_with(name) {
            bail!("{name:?} cannot be a pin's name: {why}");
        }
        Ok(self.layout.pins().join(format!("{name}.json")))
    }

    /// Lets go of a pipeline: what it alone used is garbage then, and its views go.
    ///
    /// # Errors
    /// When there is no such pipeline, or the store cannot be written.
    pub fn forget(&self, name: &str) -> Result<()> {
        let roots = self.roots()?;
        if !roots.iter().any(|(known, _)| known == name) {
            let known: Vec<&str> = roots.iter().map(|(name, _)| name.as_str()).collect();
            bail!("no pipeline \"{name}\" uses this store; those that do are: {}", known.join(", "));
        }
        let layout = self.layout.of_name(name);
        for folder in [layout.latest_folder(), layout.tables()] {
            if folder.exists() {
                self.disk.remove_folder(&folder)?;
            }
        }
        if layout.is_nested() && layout.view_root().exists() {
            self.disk.remove_folder(layout.view_root())?;
        }
        let path = layout.root_file();
        self.disk.remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The keys that the views of every pipeline were last made from.
    pub fn shown_keys(&self) -> HashSet<Key> {
        let files = self.layout.pipelines().into_iter().flat_map(|layout| listed(&layout.latest_folder()));
        let texts = files.filter_map(|path| fs::read_to_string(path).ok());
        texts.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<Key>>()).collect()
    }
}

/// The files of a folder.
fn listed(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The JSON files of a folder by their names without the ending. One that cannot be read is an error: what it keeps is not known.
fn named<T: for<'de> Deserialize<'de>>(folder: &Path) -> Result<Vec<(String, T)>> {
    let mut found = Vec::new();
    for path in listed(folder) {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        let Some(name) = name.filter(|name| wrong_with(name).is_none()) else { continue };
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        found.push((name.to_string(), value));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// The name of a pipeline file among those of a store: its folder, and a hash of its path.
pub fn name_of(pipeline: &Path) -> String {
    let folder = pipeline.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let folder: String = folder.chars().map(plain).take(40).collect();
    let hash = blake3::hash(pipeline.as_os_str().as_encoded_bytes()).to_hex();
    format!("{folder}-{}", &hash[..8])
}

/// The layouts of all pipelines that have views in a store.
pub fn layouts(own: &Layout, folder: &Path) -> Vec<Layout> {
    let names = listed(folder).into_iter().filter_map(|path| path.file_name()?.to_str().map(str::to_string));
    let top = own.at_top();
    let nested = names.filter(|name| wrong_with(name).is_none()).map(|name| top.of_name(&name));
    std::iter::once(top.clone()).chain(nested.collect::<Vec<_>>()).collect()
}
