//! What of a graph is done: for every node whose inputs are known, its tasks, their keys, and which of them
//! the store already holds.
//!
//! A node passes through three states: waiting (some input's outputs are not known), expanded (its tasks and
//! their keys are known, some stale), finished (every task's outputs are known). `run` moves nodes along by
//! running stale tasks; `status` and `explain` look at how far they get without running any.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use strata_stages::Part;

use crate::graph::{FileRole, From, Graph};
use crate::key::{InputContent, Key, KeyDocument};
use crate::store::{FileState, OutputRecord, Store};

pub struct Plan<'a> {
    pub graph: &'a Graph,
    pub store: &'a Store,
    pub states: Vec<NodeState>,
    external: HashMap<PathBuf, (FileState, String)>,
}

#[derive(Default)]
pub struct NodeState {
    /// Known once every input is; empty before.
    pub tasks: Vec<TaskState>,
    pub expanded: bool,
    /// The parts of every task in order; known once every task is done.
    pub outputs: Option<Vec<OutputRecord>>,
}

pub struct TaskState {
    pub key: Key,
    pub outputs: Option<Vec<OutputRecord>>,
}

/// A part as a task reads it.
#[derive(Clone)]
pub struct ResolvedPart {
    pub part: Part,
    content: InputContent,
    /// For a file of the user's, what it was when it was hashed.
    pub external: Option<FileState>,
}

pub type ResolvedInputs = BTreeMap<String, Vec<ResolvedPart>>;

impl<'a> Plan<'a> {
    pub fn new(graph: &'a Graph, store: &'a Store) -> Plan<'a> {
        let states = graph.nodes.iter().map(|_| NodeState::default()).collect();
        Plan { graph, store, states, external: HashMap::new() }
    }

    /// Whether all inputs of a node are known.
    pub fn ready(&self, index: usize) -> bool {
        let node = &self.graph.nodes[index];
        node.absent().is_none() && node.upstream().all(|upstream| self.states[upstream].outputs.is_some())
    }

    /// Finds a ready node's tasks and which of them are done. With `force` none counts as done.
    ///
    /// # Errors
    /// When a file of the user's cannot be read.
    pub fn expand(&mut self, index: usize, force: bool) -> Result<()> {
        let inputs = self.inputs(index)?;
        let tasks = self.task_count(index, &inputs);
        let mut states = Vec::with_capacity(tasks);
        for task in 0..tasks {
            let key = self.document(index, &self.task_inputs(index, task, &inputs)).key();
            let outputs = if force { None } else { self.store.finished(key) };
            states.push(TaskState { key, outputs });
        }
        let state = &mut self.states[index];
        state.tasks = states;
        state.expanded = true;
        self.settle(index);
        Ok(())
    }

    /// Expands everything that can be without running a task, in order; errors are left to the run that meets them.
    pub fn expand_all(&mut self, wanted: &[bool]) -> Result<()> {
        for (index, wanted) in wanted.iter().enumerate() {
            if *wanted && self.ready(index) {
                self.expand(index, false)?;
            }
        }
        Ok(())
    }

    /// Notes a finished task; returns whether the node is finished with it.
    pub fn finish(&mut self, index: usize, task: usize, outputs: Vec<OutputRecord>) -> bool {
        self.states[index].tasks[task].outputs = Some(outputs);
        self.settle(index)
    }

    fn settle(&mut self, index: usize) -> bool {
        let state = &mut self.states[index];
        let done = state.tasks.iter().all(|task| task.outputs.is_some());
        if done {
            let parts = state.tasks.iter().filter_map(|task| task.outputs.clone());
            state.outputs = Some(parts.flatten().collect());
        }
        done
    }

    /// All inputs of a ready node.
    pub fn inputs(&mut self, index: usize) -> Result<ResolvedInputs> {
        let graph = self.graph;
        let mut inputs = ResolvedInputs::new();
        for input in &graph.nodes[index].inputs {
            let parts = match &input.from {
                From::Files { role, files } => {
                    let mut parts = Vec::new();
                    for (name, path) in files {
                        parts.push(self.external_part(*role, name, path)?);
                    }
                    parts
                }
                From::Absent(what) => bail!("{what}"),
                From::Node { index: upstream, files } => {
                    let outputs = self.states[*upstream].outputs.iter().flatten();
                    let outputs = outputs.filter(|output| files.admits(&output.name));
                    outputs.map(|output| self.stored_part(output, input.columns)).collect()
                }
            };
            inputs.insert(input.role.clone(), parts);
        }
        Ok(inputs)
    }

    /// The inputs of one task: of the role that splits the node, one part.
    pub fn task_inputs(&self, index: usize, task: usize, inputs: &ResolvedInputs) -> ResolvedInputs {
        let mut own = inputs.clone();
        if let Some(role) = self.graph.nodes[index].node.per_part
            && let Some(parts) = own.get_mut(role)
        {
            *parts = parts.get(task).cloned().into_iter().collect();
        }
        own
    }

    fn task_count(&self, index: usize, inputs: &ResolvedInputs) -> usize {
        match self.graph.nodes[index].node.per_part {
            Some(role) => inputs.get(role).map_or(0, Vec::len),
            None => 1,
        }
    }

    pub fn document(&self, index: usize, inputs: &ResolvedInputs) -> KeyDocument {
        let node = &self.graph.nodes[index];
        let contents = inputs
            .iter()
            .map(|(role, parts)| (role.clone(), parts.iter().map(|part| part.content.clone()).collect()))
            .collect();
        KeyDocument {
            stage: node.node.stage.to_string(),
            version: node.stage.version,
            params: node.node.params.clone(),
            inputs: contents,
        }
    }

    fn stored_part(&self, output: &OutputRecord, columns: Option<&[&str]>) -> ResolvedPart {
        let part = Part { path: self.store.object_path(output), name: output.name.clone() };
        let content = if output.columns.is_empty() {
            InputContent::File { name: output.name.clone(), content: output.object.clone() }
        } else {
            let read = |name: &String| columns.is_none_or(|columns| columns.contains(&name.as_str()));
            let kept = output.columns.iter().filter(|(name, _)| read(name));
            InputContent::Columns { columns: kept.map(|(name, hash)| (name.clone(), hash.clone())).collect() }
        };
        ResolvedPart { part, content, external: None }
    }

    fn external_part(&mut self, role: FileRole, name: &str, path: &PathBuf) -> Result<ResolvedPart> {
        if !self.external.contains_key(path) {
            let state = FileState::of(path).with_context(|| format!("cannot read {}", path.display()))?;
            let hash = self.store.fingerprints.hash(path, state);
            let hash = hash.with_context(|| format!("cannot read {}", path.display()))?;
            self.external.insert(path.clone(), (state, hash));
        }
        let (state, content) = self.external[path].clone();
        // A model's file is read by its name; a dataset's own name is not content, only its format.
        let role = match role {
            FileRole::Model => name.to_string(),
            FileRole::Dataset => {
                path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().into_owned())
            }
        };
        Ok(ResolvedPart {
            part: Part { path: path.clone(), name: name.to_string() },
            content: InputContent::File { name: role, content },
            external: Some(state),
        })
    }
}
