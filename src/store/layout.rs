//! Every path inside a store.
//!
//! What is kept: `objects/ab/abcd….parquet` and `records/<key>.json`. What is shown, as links to objects: see [`view`].
//! What is only remembered and may be deleted: `cache/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use strata_stages::{Outputs, Stage};

use super::OutputRecord;
use super::names::{Extension, ObjectHash};
use super::roots::{layouts, name_of};
use crate::key::Key;

const OBJECTS: &str = "objects";
pub const RECORDS: &str = "records";
const CACHE: &str = "cache";
const PIPELINES: &str = "pipelines";
const DAMAGED: &str = "damaged";
const TABLES: &str = "tables";
const MODELS: &str = "models";

/// The paths of the store at one root, and of the views of one pipeline in it.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    /// Where this pipeline's views lie: the root, or a folder of its own in a store that others use too.
    views: PathBuf,
    /// The pipeline's name among those of the store.
    name: String,
}

/// The name of the pipeline whose views lie at the top of the store.
const OWN: &str = "own";

impl Layout {
    /// With the views at the top.
    pub fn new(root: &Path) -> Layout {
        Layout { root: root.to_path_buf(), views: root.to_path_buf(), name: OWN.to_string() }
    }

    /// Of pipeline.toml beside its own store the views lie at the store's top; every other pipeline has a folder of its own, called by the
    /// name that it gives itself, or by its path.
    ///
    /// # Errors
    /// When the current folder cannot be asked for.
    pub fn of_pipeline(root: &Path, pipeline: &Path, named: Option<&str>) -> Result<Layout> {
        let pipeline = std::path::absolute(pipeline)?;
        let own = root.parent().map(|folder| folder.join("pipeline.toml"));
        let top = Layout::new(root);
        if own.as_ref() == Some(&pipeline) {
            return Ok(top);
        }
        Ok(top.of_name(&named.map_or_else(|| name_of(&pipeline), str::to_string)))
    }

    /// The same store, with the views of the pipeline of this name.
    pub fn of_name(&self, name: &str) -> Layout {
        let views = if name == OWN { self.root.clone() } else { self.root.join(PIPELINES).join(name) };
        Layout { root: self.root.clone(), views, name: name.to_string() }
    }

    /// The same store, with the views at the top.
    pub fn at_top(&self) -> Layout {
        self.of_name(OWN)
    }

    /// Of all pipelines that have views here.
    pub fn pipelines(&self) -> Vec<Layout> {
        layouts(self, &self.root.join(PIPELINES))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_nested(&self) -> bool {
        self.views != self.root
    }

    /// What the pipeline's views are relative to.
    pub fn view_root(&self) -> &Path {
        &self.views
    }

    /// How many folders the views lie below the store's root.
    pub fn view_depth(&self) -> usize {
        self.views.components().count() - self.root.components().count()
    }

    /// The pipelines that use the store, a file each.
    pub fn roots(&self) -> PathBuf {
        self.root.join("roots")
    }

    /// This pipeline's.
    pub fn root_file(&self) -> PathBuf {
        self.roots().join(format!("{}.json", self.name))
    }

    /// What is pinned, a file each.
    pub fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// What is only remembered of this pipeline.
    fn own_cache(&self) -> PathBuf {
        self.views.join(CACHE)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn objects(&self) -> PathBuf {
        self.root.join(OBJECTS)
    }

    pub fn object(&self, output: &OutputRecord) -> PathBuf {
        self.root.join(output.object_path())
    }

    pub fn records(&self) -> PathBuf {
        self.root.join(RECORDS)
    }

    pub fn record(&self, key: Key) -> PathBuf {
        self.root.join(record_name(key))
    }

    /// All tables' views.
    pub fn tables(&self) -> PathBuf {
        self.views.join(TABLES)
    }

    /// One table's views.
    pub fn table(&self, name: &str) -> PathBuf {
        self.tables().join(name)
    }

    /// Where a reader of a stage's files begins (the report's page); `None` for a stage that makes something else.
    pub fn front(&self, stage: &Stage) -> Option<PathBuf> {
        match stage.outputs {
            Outputs::Files { open } => Some(self.views.join(view(stage, &[])).join(open)),
            Outputs::Table(_) | Outputs::Model | Outputs::Corpus => None,
        }
    }

    pub fn cache(&self) -> PathBuf {
        self.root.join(CACHE)
    }

    /// Where files lie that are being fetched.
    pub fn partial(&self) -> PathBuf {
        self.cache().join("partial")
    }

    /// The records of tasks whose objects are in a remote and not here.
    pub fn all_elsewhere(&self) -> PathBuf {
        self.cache().join("elsewhere")
    }

    /// The record of a task whose objects are in a remote and not here.
    pub fn elsewhere(&self, key: Key) -> PathBuf {
        self.all_elsewhere().join(format!("{key}.json"))
    }

    /// Where what is damaged is set aside.
    pub fn damaged(&self) -> PathBuf {
        self.root.join(DAMAGED)
    }

    /// Locked while the store is in use.
    pub fn lock(&self) -> PathBuf {
        self.cache().join("lock")
    }

    /// Its bytes are locked while tasks are computed.
    pub fn task_locks(&self) -> PathBuf {
        self.cache().join("tasks")
    }

    /// The remembered hashes of files.
    pub fn fingerprints(&self) -> PathBuf {
        self.cache().join("fingerprints")
    }

    /// A file whose modification time says when any run last changed a view.
    pub fn shown(&self) -> PathBuf {
        self.own_cache().join("shown")
    }

    /// The set of views that were shown when views were last pruned.
    pub fn nodes(&self) -> PathBuf {
        self.own_cache().join("nodes")
    }

    /// The keys that a node's view was last made from.
    pub fn latest(&self, label: &str) -> PathBuf {
        self.latest_folder().join(hashed(label.as_bytes()))
    }

    pub fn latest_folder(&self) -> PathBuf {
        self.views.join("latest")
    }

    /// What is kept of a pipeline's jobs on a cluster.
    pub fn slurm(&self) -> PathBuf {
        self.own_cache().join("slurm")
    }

    /// What the last runs with nothing to do rested on.
    pub fn all_unchanged(&self) -> PathBuf {
        self.own_cache().join("unchanged")
    }

    /// What a pipeline file's last run with nothing to do rested on.
    ///
    /// # Errors
    /// When the current folder cannot be asked for.
    pub fn unchanged(&self, pipeline: &Path) -> Result<PathBuf> {
        let pipeline = std::path::absolute(pipeline)?;
        Ok(self.all_unchanged().join(hashed(pipeline.as_os_str().as_encoded_bytes())))
    }

    /// The top folders of views under this registry of stages.
    pub fn views(&self, stages: &[&Stage]) -> BTreeSet<PathBuf> {
        stages.iter().filter_map(|stage| Some(self.views.join(view(stage, &[]).iter().next()?))).collect()
    }
}

/// `objects/ab/abcd….parquet`, relative to the root; a remote's objects lie in the same place.
pub fn object_path(hash: ObjectHash, extension: Option<&Extension>) -> PathBuf {
    let mut path = format!("{OBJECTS}/{}/", object_folder(hash));
    write_object_name(hash, extension, &mut path);
    PathBuf::from(path)
}

/// The folder of an object among all objects.
pub fn object_folder(hash: ObjectHash) -> String {
    blake3::Hash::from_bytes(hash.to_bytes()).to_hex()[..2].to_string()
}

/// An object's name in its folder, into a text that is used again for the next of a hundred thousand.
pub fn write_object_name(hash: ObjectHash, extension: Option<&Extension>, out: &mut String) {
    out.push_str(&blake3::Hash::from_bytes(hash.to_bytes()).to_hex());
    if let Some(extension) = extension {
        out.push('.');
        out.push_str(extension.as_str());
    }
}

/// `records/<key>.json`, relative to the root; a remote's records lie in the same place.
pub fn record_name(key: Key) -> String {
    let mut name = format!("{RECORDS}/");
    write_record_name(key, &mut name);
    name
}

/// A record's name among all records, into a text that is used again.
pub fn write_record_name(key: Key, out: &mut String) {
    out.push_str(&blake3::Hash::from_bytes(key.to_bytes()).to_hex());
    out.push_str(".json");
}

/// The folder of a node's view, relative to the root: `tables/<table>/model=…/dataset=…` for a table,
/// `models/<name>` for a model, `<stage>/…` for other files.
pub fn view(stage: &Stage, bindings: &[(&'static str, String)]) -> PathBuf {
    let named = |root: PathBuf| bindings.iter().fold(root, |path, (name, value)| path.join(format!("{name}={value}")));
    match stage.outputs {
        Outputs::Table(table) => named(Path::new(TABLES).join(table.name)),
        Outputs::Model => bindings.iter().fold(PathBuf::from(MODELS), |path, (_, value)| path.join(value)),
        Outputs::Corpus | Outputs::Files { .. } => named(PathBuf::from(stage.name)),
    }
}

/// A file's name for something whose own name may hold any character.
fn hashed(name: &[u8]) -> String {
    blake3::hash(name).to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_stages::STAGES;

    #[test]
    fn a_view_lies_where_its_stages_outputs_say() {
        let model = |name: &str| [("model", name.to_string())];
        let found = |outputs: fn(&Outputs) -> bool| STAGES.iter().find(|stage| outputs(&stage.outputs)).expect("one");
        let table = found(|outputs| matches!(outputs, Outputs::Table(table) if table.name == "tokens"));
        assert_eq!(view(table, &model("base")), Path::new("tables/tokens/model=base"));
        let maker = found(|outputs| matches!(outputs, Outputs::Model));
        assert_eq!(view(maker, &model("base")), Path::new("models/base"));
        let report = found(|outputs| matches!(outputs, Outputs::Files { .. }));
        assert_eq!(view(report, &[]), Path::new(report.name));
    }

    #[test]
    fn a_tables_folder_has_its_stages_name() {
        for stage in STAGES {
            assert!(stage.table().is_none_or(|table| table.name == stage.name), "{}", stage.name);
        }
    }

    #[test]
    fn no_two_kinds_of_folder_have_one_name() {
        let views = Layout::new(Path::new("")).views(STAGES);
        for own in [OBJECTS, RECORDS, CACHE, DAMAGED, PIPELINES, "roots", "pins", "latest"] {
            assert!(!views.contains(Path::new(own)), "{own}");
        }
    }
}
