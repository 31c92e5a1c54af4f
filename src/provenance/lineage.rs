//! From results back to the files that they were made from: which task made what another read, by the contents that the
//! records hold.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::graph::{From, Graph, NodeId, NodeSet};
use crate::key::{InputContent, Key};
use crate::latest;
use crate::store::{FileState, Record, Store};

/// Records, and which of them made a content.
pub struct Lineage<'a> {
    store: &'a Store,
    graph: Option<&'a Graph>,
    records: HashMap<Key, Record>,
    nodes: HashMap<Key, Vec<NodeId>>,
    by_column: HashMap<(String, String), Vec<Key>>,
    by_object: HashMap<String, Vec<Key>>,
}

/// A task, and where what it read came from.
pub struct Step<'a> {
    pub key: Key,
    /// The node as whose task it was met, where the pipeline is known.
    pub node: Option<NodeId>,
    pub record: &'a Record,
    pub reads: Vec<Read>,
}

/// What a task read under a role.
pub enum Read {
    Task {
        role: String,
        key: Key,
    },
    File {
        role: String,
        /// As the task was given it; of a dataset its ending.
        name: String,
        /// blake3 of its bytes.
        content: String,
        path: Option<PathBuf>,
        now: Now,
    },
    /// A word of the pipeline's that is no file.
    Setting {
        role: String,
        text: String,
    },
    /// A part of a table whose record is not there.
    Lost {
        role: String,
    },
}

/// How a file of the user's is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    Same,
    Changed,
    Gone,
    /// The pipeline that names it is not known.
    Unknown,
}

impl<'a> Lineage<'a> {
    /// Of the nodes of a pipeline, as they were last shown.
    pub fn of_nodes(store: &'a Store, graph: &'a Graph, wanted: &NodeSet) -> Lineage<'a> {
        let mut nodes: HashMap<Key, Vec<NodeId>> = HashMap::new();
        for id in wanted.iter() {
            for key in latest::read(store, &graph.node(id).label()) {
                nodes.entry(key).or_default().push(id);
            }
        }
        Lineage::of_tasks(store, graph, nodes)
    }

    /// Of these tasks of a pipeline.
    pub fn of_tasks(store: &'a Store, graph: &'a Graph, nodes: HashMap<Key, Vec<NodeId>>) -> Lineage<'a> {
        Lineage::new(store, Some(graph), nodes.keys().copied().collect(), nodes)
    }

    /// Of these records.
    pub fn of_keys(store: &'a Store, keys: Vec<Key>) -> Lineage<'a> {
        Lineage::new(store, None, keys, HashMap::new())
    }

    fn new(
        store: &'a Store,
        graph: Option<&'a Graph>,
        keys: Vec<Key>,
        nodes: HashMap<Key, Vec<NodeId>>,
    ) -> Lineage<'a> {
        let records: HashMap<Key, Record> =
            keys.par_iter().filter_map(|key| Some((*key, store.record(*key)?))).collect();
        let (mut by_column, mut by_object) = (HashMap::new(), HashMap::new());
        for (key, record) in &records {
            for output in &record.outputs {
                by_object.entry(output.object.to_hex()).or_insert_with(Vec::new).push(*key);
                for (name, hash) in &output.columns {
                    by_column.entry((name.clone(), hash.clone())).or_insert_with(Vec::new).push(*key);
                }
            }
        }
        Lineage { store, graph, records, nodes, by_column, by_object }
    }

    pub fn record(&self, key: Key) -> Option<&Record> {
        self.records.get(&key)
    }

    /// A task of a stage that made a column of this name and these values.
    pub fn maker_of_column(&self, stage: &str, name: &str, hash: &str) -> Option<&Record> {
        let keys = self.by_column.get(&(name.to_string(), hash.to_string()))?;
        keys.iter().filter_map(|key| self.records.get(key)).find(|record| record.document.stage == stage)
    }

    /// The tasks that made an object, and as which nodes.
    pub fn makers_of(&self, object: &str) -> Vec<(Option<NodeId>, Key)> {
        let keys = self.by_object.get(object).into_iter().flatten();
        keys.map(|key| (self.nodes.get(key).and_then(|nodes| nodes.first()).copied(), *key)).collect()
    }

    /// These tasks and all behind them, each once, those that read before those that are read.
    pub fn behind(&self, tasks: Vec<(Option<NodeId>, Key)>) -> Vec<Step<'_>> {
        let mut pending: VecDeque<_> = tasks.into();
        let (mut seen, mut steps) = (HashSet::new(), Vec::new());
        let mut files = Files::default();
        while let Some((node, key)) = pending.pop_front() {
            if !seen.insert(key) {
                continue;
            }
            let Some(record) = self.records.get(&key) else { continue };
            let mut reads = Vec::new();
            for (role, parts) in &record.document.inputs {
                for part in parts {
                    match self.maker(node, role, part) {
                        Some((upstream, key)) => {
                            reads.push(Read::Task { role: role.clone(), key });
                            pending.push_back((upstream, key));
                        }
                        None => reads.push(self.file(node, role, part, &mut files)),
                    }
                }
            }
            steps.push(Step { key, node, record, reads });
        }
        steps
    }

    /// The task that made what a task read; of several the one of a node that the reader's node reads.
    pub fn maker(&self, reader: Option<NodeId>, role: &str, part: &InputContent) -> Option<(Option<NodeId>, Key)> {
        let keys = match part {
            InputContent::File { content, .. } => self.by_object.get(content)?,
            InputContent::Columns { columns } => {
                let (name, hash) = columns.iter().next()?;
                self.by_column.get(&(name.clone(), hash.clone()))?
            }
        };
        let read: Vec<NodeId> = match (self.graph, reader) {
            (Some(graph), Some(reader)) => {
                let inputs = graph.node(reader).inputs.iter().filter(|input| input.role == role);
                let from = inputs.flat_map(|input| input.from.each());
                from.filter_map(|from| if let From::Node { node, .. } = from { Some(*node) } else { None }).collect()
            }
            _ => Vec::new(),
        };
        let made = keys.iter().filter(|key| self.records.get(*key).is_some_and(|record| holds(record, part)));
        let of = |key: &Key| self.nodes.get(key).map_or(&[][..], Vec::as_slice);
        let found = made.map(|key| (of(key).iter().copied().find(|node| read.contains(node)), *key));
        let (node, key) = found.max_by_key(|(node, key)| (node.is_some(), std::cmp::Reverse(key.to_bytes())))?;
        Some((node.or_else(|| of(&key).first().copied()), key))
    }

    fn file(&self, reader: Option<NodeId>, role: &str, part: &InputContent, files: &mut Files) -> Read {
        let role = role.to_string();
        let InputContent::File { name, content } = part else { return Read::Lost { role } };
        if *content == blake3::hash(name.as_bytes()).to_hex().as_str() {
            return Read::Setting { role, text: name.clone() };
        }
        let named: Vec<&PathBuf> = match (self.graph, reader) {
            (Some(graph), Some(reader)) => {
                let inputs = graph.node(reader).inputs.iter().filter(|input| input.role == role);
                let mut paths = Vec::new();
                for from in inputs.flat_map(|input| input.from.each()) {
                    match from {
                        From::Files { files, .. } => {
                            let known = |(known, path): &&(String, PathBuf)| {
                                let ending = path.extension().map_or(Some(""), |ending| ending.to_str());
                                known == name || ending == Some(name)
                            };
                            paths.extend(files.iter().filter(known).map(|(_, path)| path));
                        }
                        From::Absent { path, .. } => paths.push(path),
                        From::Node { .. } | From::Together(_) | From::Setting(_) => {}
                    }
                }
                paths
            }
            _ => Vec::new(),
        };
        let states: Vec<(&PathBuf, Now)> =
            named.into_iter().map(|path| (path, files.now(self.store, path, content))).collect();
        let same = states.iter().find(|(_, now)| *now == Now::Same).or(states.first());
        let (path, now) = same.map_or((None, Now::Unknown), |(path, now)| (Some((*path).clone()), *now));
        Read::File { role, name: name.clone(), content: content.clone(), path, now }
    }
}

/// Whether an output of a record is what was read.
fn holds(record: &Record, part: &InputContent) -> bool {
    record.outputs.iter().any(|output| match part {
        InputContent::File { name, content } => output.object.to_hex() == *content && output.file_name() == name,
        InputContent::Columns { columns } => {
            columns.iter().all(|(name, hash)| output.columns.get(name).is_some_and(|known| known == hash))
        }
    })
}

/// The hashes of the user's files, each asked for once.
#[derive(Default)]
struct Files(HashMap<PathBuf, Option<String>>);

impl Files {
    fn now(&mut self, store: &Store, path: &Path, content: &str) -> Now {
        let hash = || {
            let state = FileState::of_input(path).ok()?;
            store.fingerprints.hash(path, state).ok()
        };
        match self.0.entry(path.to_path_buf()).or_insert_with(hash) {
            Some(hash) if hash == content => Now::Same,
            Some(_) => Now::Changed,
            None => Now::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, target};

    #[test]
    fn a_result_is_followed_to_the_files_that_it_was_made_from() {
        let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
        let store = bench.store();
        bench.run(&store).expect("a run");
        let graph = bench.graph();
        let page = graph.find(&target("page")).expect("one")[0];
        let lineage = Lineage::of_nodes(&store, &graph, &graph.all());
        let keys = latest::read(&store, "page");
        let steps = lineage.behind(keys.into_iter().map(|key| (Some(page), key)).collect());
        let labels: Vec<String> = steps.iter().filter_map(|step| Some(graph.node(step.node?).label())).collect();
        assert_eq!(labels.len(), steps.len());
        assert_eq!((labels[0].as_str(), labels[1].as_str()), ("page", "gather"));
        assert_eq!(labels.iter().filter(|label| *label == "shout[one]").count(), 2, "a task a part: {labels:?}");
        let files = |steps: &[Step]| {
            let reads = steps.iter().flat_map(|step| &step.reads);
            let mut files: Vec<(PathBuf, Now)> = reads
                .filter_map(|read| match read {
                    Read::File { path, now, .. } => Some((path.clone()?, *now)),
                    _ => None,
                })
                .collect();
            files.sort_by(|(a, _), (b, _)| a.cmp(b));
            files
        };
        assert_eq!(files(&steps), [(bench.path("one"), Now::Same), (bench.path("two"), Now::Same)]);
        bench.write("two", "changed");
        std::fs::remove_file(bench.path("one")).expect("removed");
        let keys = latest::read(&store, "page");
        let steps = lineage.behind(keys.into_iter().map(|key| (Some(page), key)).collect());
        assert_eq!(files(&steps), [(bench.path("one"), Now::Gone), (bench.path("two"), Now::Changed)]);

        // Without the pipeline the tasks are found by their contents alone.
        let alone = Lineage::of_keys(&store, store.keys().expect("keys"));
        let keys = latest::read(&store, "page");
        let steps = alone.behind(keys.into_iter().map(|key| (None, key)).collect());
        let stages: HashSet<&str> = steps.iter().map(|step| step.record.document.stage.as_str()).collect();
        assert_eq!(stages, ["page", "gather", "shout", "lines"].into());
        assert!(steps.iter().flat_map(|step| &step.reads).all(|read| !matches!(read, Read::Lost { .. })));
    }
}
