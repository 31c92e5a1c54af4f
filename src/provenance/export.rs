//! A folder with results that carries its records along: what accompanies a paper, and can be checked anywhere, without the models,
//! the datasets or the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use strata_stages::{Outputs, Stage};

use super::lineage::{Lineage, Read as WhatWasRead};
use crate::graph::{NodeId, NodeSet};
use crate::key::{InputContent, Key};
use crate::outputs::unfit;
use crate::plan::Plan;
use crate::store::disk::{Disk, Temporary};
use crate::store::layout::{Layout, record_name, view};
use crate::store::names::{ObjectHash, wrong_with};
use crate::store::{FileState, OutputRecord, Record, Store, holds, views};

/// The file that says what a folder holds, written last.
pub const CONTENTS: &str = "export.json";
const PIPELINE: &str = "pipeline.toml";
const FORMAT: u32 = 1;

/// `export.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Contents {
    format: u32,
    pub target: String,
    /// The time in UTC, as RFC 3339 writes it.
    pub at: String,
    pub program: String,
    /// blake3 of pipeline.toml.
    pipeline: String,
    /// The target's nodes and all behind them.
    pub nodes: Vec<Exported>,
    /// The files of the user's that these were made from.
    pub files: Vec<ReadFile>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Exported {
    pub label: String,
    pub stage: String,
    /// Its tasks in order.
    pub keys: Vec<String>,
    /// Where its outputs lie; none of a node of which only the records are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// A file that is not here, by the blake3 of its bytes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReadFile {
    pub path: String,
    pub blake3: String,
}

/// How much was written.
#[derive(Debug, Default)]
pub struct Written {
    pub files: usize,
    pub bytes: u64,
    pub records: usize,
}

/// Writes the finished nodes of a plan to a folder that is empty or not there: the records of all wanted nodes, and the outputs of
/// those to be shown.
///
/// # Errors
/// When the folder holds something, an object is not what its record says, or a file cannot be written.
pub fn export(
    plan: &Plan,
    wanted: &NodeSet,
    shown: &NodeSet,
    target: &str,
    pipeline: &Path,
    to: &Path,
) -> Result<Written> {
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
        bail!("{} is not empty; export to a new folder", to.display());
    }
    let (disk, layout) = (Disk::default(), Layout::new(to));
    let (mut written, mut recorded) = (Written::default(), HashSet::new());
    let mut nodes = Vec::new();
    for id in wanted.iter() {
        let (node, state) = (plan.graph.node(id), plan.state(id));
        for key in state.done().into_iter().filter(|key| recorded.insert(*key)) {
            let from = plan.store.layout.record(key);
            let text = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            disk.replace(&layout.record(key), &text)?;
            written.records += 1;
        }
        let mut folder = None;
        if shown.contains(id) {
            let relative = view(node.stage, &node.bindings);
            let outputs = state.outputs().unwrap_or_default();
            for (output, name) in outputs.iter().zip(views::names(outputs)) {
                copy(&disk, plan.store, output, &to.join(&relative).join(name))?;
                written.files += 1;
                written.bytes += output.bytes;
            }
            folder = Some(relative.to_string_lossy().into_owned());
        }
        let keys = state.done().iter().map(Key::to_string).collect();
        nodes.push(Exported { label: node.label(), stage: node.stage.name.to_string(), keys, folder });
    }
    let text = fs::read(pipeline).with_context(|| format!("cannot read {}", pipeline.display()))?;
    disk.replace(&to.join(PIPELINE), &text)?;
    let contents = Contents {
        format: FORMAT,
        target: target.to_string(),
        at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        program: concat!("strata ", env!("CARGO_PKG_VERSION")).to_string(),
        pipeline: blake3::hash(&text).to_hex().to_string(),
        nodes,
        files: files(plan, wanted, pipeline),
    };
    disk.replace(&to.join(CONTENTS), &serde_json::to_vec_pretty(&contents)?)?;
    Ok(written)
}

/// The user's files that wanted nodes were made from; paths relative to the pipeline's folder where they lie below it, else names.
fn files(plan: &Plan, wanted: &NodeSet, pipeline: &Path) -> Vec<ReadFile> {
    let keys: HashMap<Key, Vec<NodeId>> =
        wanted.iter().flat_map(|id| plan.state(id).done().into_iter().map(move |key| (key, vec![id]))).collect();
    let tasks = keys.iter().map(|(key, nodes)| (nodes.first().copied(), *key)).collect();
    let lineage = Lineage::of_tasks(plan.store, plan.graph, keys.clone());
    let beside = pipeline.parent().unwrap_or(Path::new(""));
    let mut found = BTreeSet::new();
    for read in lineage.behind(tasks).into_iter().flat_map(|step| step.reads) {
        let WhatWasRead::File { name, content, path, .. } = read else { continue };
        let shown = path.map(|path| match path.strip_prefix(beside) {
            Ok(below) => below.to_path_buf(),
            Err(_) => path.file_name().map_or_else(PathBuf::new, PathBuf::from),
        });
        let path = shown.map_or(name, |path| path.to_string_lossy().into_owned());
        found.insert(ReadFile { path, blake3: content });
    }
    found.into_iter().collect()
}

/// Copies an object's bytes, which must be those of its name.
fn copy(disk: &Disk, store: &Store, output: &OutputRecord, to: &Path) -> Result<()> {
    let from = store.layout.object(output);
    let mut file = File::open(&from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut temporary = Temporary::create(disk, to.parent().unwrap_or(Path::new(".")))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("cannot read {}", from.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        temporary.write_all(&buffer[..read]).with_context(|| format!("cannot write {}", to.display()))?;
    }
    if ObjectHash::from(hasher.finalize()) != output.object {
        bail!("{} is damaged; `strata verify --repair` makes it again", from.display());
    }
    temporary.rename(to)
}

impl Contents {
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(folder: &Path) -> Result<Contents> {
        let path = folder.join(CONTENTS);
        let fail = || format!("cannot read {}", path.display());
        FileState::of_input(&path).with_context(fail)?;
        let text = fs::read(&path).with_context(fail)?;
        let contents: Contents = serde_json::from_slice(&text).with_context(fail)?;
        if contents.format != FORMAT {
            bail!("{} is of format {}, and this Strata reads format {FORMAT}", path.display(), contents.format);
        }
        let leads_out = |folder: &&String| folder.split('/').any(|part| wrong_with(part).is_some());
        if let Some(folder) = contents.nodes.iter().filter_map(|node| node.folder.as_ref()).find(leads_out) {
            bail!("{} names the folder {folder:?}, which cannot be one of an export", path.display());
        }
        Ok(contents)
    }
}

/// Checks an exported folder by itself. Returns how many files were checked and what is wrong, in words.
///
/// Every record must be as it was written and every file what a record says; what a task read must have been made by another whose
/// record is here, or be one of the files that are named.
///
/// # Errors
/// When the folder is no exported one.
pub fn verify(folder: &Path, stages: &[&Stage]) -> Result<(usize, Vec<String>)> {
    let contents = Contents::read(folder)?;
    let store = Store::at(Layout::new(&std::path::absolute(folder)?));
    let mut problems = Vec::new();
    let pipeline = fs::read(folder.join(PIPELINE)).ok().map(|text| blake3::hash(&text).to_hex().to_string());
    if pipeline.as_ref() != Some(&contents.pipeline) {
        problems.push(format!("{PIPELINE} is not what was exported"));
    }
    let mut records: BTreeMap<String, Record> = BTreeMap::new();
    for text in contents.nodes.iter().flat_map(|node| &node.keys) {
        let Ok(key) = text.parse::<Key>() else {
            problems.push(format!("{CONTENTS} names {text:?}, which is no key"));
            continue;
        };
        match store.examine(key) {
            Ok(Some(record)) => drop(records.insert(text.clone(), record)),
            Ok(None) => problems.push(format!("{} is missing", record_name(key))),
            Err(fault) => problems.push(format!("{} {fault}", record_name(key))),
        }
    }
    problems.extend(unmade(&records, &contents.files));
    let mut checked = 0;
    for node in &contents.nodes {
        let tasks: Vec<&Record> = node.keys.iter().filter_map(|key| records.get(key)).collect();
        if let Some(other) = tasks.iter().find(|record| record.document.stage != node.stage) {
            problems.push(format!("{}: a record of {} is named as one of its own", node.label, other.document.stage));
        }
        let stage = stages.iter().find(|stage| stage.name == node.stage);
        let of_version = |record: &&&Record| stage.is_some_and(|stage| stage.version == record.document.version);
        for record in tasks.iter().filter(of_version) {
            if let Some(why) = stage.and_then(|stage| unfit(stage, false, &record.outputs)) {
                problems.push(format!("{}: a record names {why}", node.label));
            }
        }
        let Some(shown) = &node.folder else { continue };
        if tasks.len() < node.keys.len() {
            continue;
        }
        let outputs: Vec<OutputRecord> = tasks.iter().flat_map(|record| record.outputs.clone()).collect();
        let names: Vec<String> = views::names(&outputs).collect();
        for (output, name) in outputs.iter().zip(&names) {
            checked += 1;
            if let Err(error) = check(&folder.join(shown).join(name), output) {
                problems.push(format!("{shown}/{name} {error:#}"));
            }
        }
        let names: HashSet<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        for extra in views::files_below(&folder.join(shown))?.into_iter().filter(|file| !names.contains(file)) {
            problems.push(format!("{shown}/{} is of no record", extra.display()));
        }
    }
    Ok((checked, problems))
}

/// What tasks read that neither a record here made nor is named as a file.
fn unmade(records: &BTreeMap<String, Record>, files: &[ReadFile]) -> Vec<String> {
    let known: HashSet<&str> = files.iter().map(|file| file.blake3.as_str()).collect();
    let outputs = || records.values().flat_map(|record| &record.outputs);
    let objects: HashSet<String> = outputs().map(|output| output.object.to_hex()).collect();
    let mut columns: HashMap<(&String, &String), Vec<&OutputRecord>> = HashMap::new();
    for output in outputs() {
        output.columns.iter().for_each(|column| columns.entry(column).or_default().push(output));
    }
    let made = |part: &InputContent| match part {
        InputContent::File { name, content } => {
            known.contains(content.as_str())
                || objects.contains(content)
                || *content == blake3::hash(name.as_bytes()).to_hex().as_str()
        }
        InputContent::Columns { columns: read } => match read.iter().next() {
            None => true,
            Some(first) => columns.get(&first).is_some_and(|outputs| {
                let has =
                    |output: &&OutputRecord| read.iter().all(|(name, hash)| output.columns.get(name) == Some(hash));
                outputs.iter().any(has)
            }),
        },
    };
    let mut found = Vec::new();
    for (key, record) in records {
        for (role, parts) in &record.document.inputs {
            if !parts.iter().all(made) {
                let stage = &record.document.stage;
                found.push(format!(
                    "records/{key}.json: {stage} read {role}, which no record here made and {CONTENTS} does not name"
                ));
            }
        }
    }
    found
}

fn check(path: &Path, output: &OutputRecord) -> Result<()> {
    let Ok(state) = FileState::of_input(path) else { bail!("is missing") };
    let mut hasher = blake3::Hasher::new();
    if state.size == output.bytes {
        hasher.update_mmap_rayon(path).context("cannot be read")?;
    }
    if state.size != output.bytes || ObjectHash::from(hasher.finalize()) != output.object {
        bail!("is not what its record says");
    }
    holds(path, output).context("is not what its record says")
}

/// The wanted nodes whose outputs an export of some nodes shows: their own, and of what readers open (a report) the tables that it was
/// made from.
pub fn shown(plan: &Plan, of: &[NodeId]) -> NodeSet {
    let mut shown = plan.graph.none();
    for id in of {
        shown.insert(*id);
        if matches!(plan.graph.node(*id).stage.outputs, Outputs::Files { .. }) {
            let tables = plan.graph.node(*id).upstream().filter(|id| plan.graph.node(*id).stage.table().is_some());
            tables.for_each(|id| shown.insert(id));
        }
    }
    shown
}
