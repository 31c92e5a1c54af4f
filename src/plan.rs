//! What of a graph is done: for every node whose inputs are known, its tasks, their keys, and which of them
//! the store already holds.
//!
//! ```text
//!             every input is known                every task is done
//!   Waiting ─────────────────────────▶ Expanded ────────────────────▶ Finished
//!                (expand)               │  ▲  task: Stale ──▶ Done
//!                                       └──┘        (finish)
//! ```
//!
//! A node goes from left to right and never back. One whose tasks are all in the store, or that has none, is
//! finished as soon as it is expanded. `run` moves nodes along by running stale tasks; `status` and `explain` look
//! at how far they get without running any.

mod inputs;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::graph::{Graph, NodeId, NodeSet, PerNode, TaskId};
use crate::key::Key;
use crate::outputs::unfit;
use crate::store::{FileState, OutputRecord, Store};
pub use inputs::{ResolvedInputs, ResolvedPart};

pub struct Plan<'a> {
    pub graph: &'a Graph,
    pub store: &'a Store,
    states: PerNode<NodeState>,
    /// Files of the user's that were hashed for this plan.
    external: HashMap<PathBuf, (FileState, String)>,
}

/// How far a node is.
pub enum NodeState {
    /// Some input's outputs are not known, so its tasks are not either.
    Waiting,
    /// Its tasks are known, and some are stale.
    Expanded { tasks: Vec<PlannedTask> },
    /// The keys of its tasks in order, and the parts of all of them in order.
    Finished { tasks: Vec<Key>, outputs: Vec<OutputRecord> },
}

pub struct PlannedTask {
    pub key: Key,
    pub state: TaskState,
}

pub enum TaskState {
    Stale,
    Done { outputs: Vec<OutputRecord> },
}

impl NodeState {
    /// How many tasks are known: none while it waits.
    pub fn tasks(&self) -> usize {
        match self {
            NodeState::Waiting => 0,
            NodeState::Expanded { tasks } => tasks.len(),
            NodeState::Finished { tasks, .. } => tasks.len(),
        }
    }

    /// Its tasks that are stale, by index and key.
    pub fn stale(&self) -> impl Iterator<Item = (usize, Key)> + '_ {
        let tasks = match self {
            NodeState::Expanded { tasks } => tasks.as_slice(),
            NodeState::Waiting | NodeState::Finished { .. } => &[],
        };
        let tasks = tasks.iter().enumerate().filter(|(_, task)| matches!(task.state, TaskState::Stale));
        tasks.map(|(index, task)| (index, task.key))
    }

    /// The keys of its tasks that are done.
    pub fn done(&self) -> Vec<Key> {
        match self {
            NodeState::Waiting => Vec::new(),
            NodeState::Expanded { tasks } => {
                tasks.iter().filter(|task| matches!(task.state, TaskState::Done { .. })).map(|task| task.key).collect()
            }
            NodeState::Finished { tasks, .. } => tasks.clone(),
        }
    }

    /// The parts of a finished node.
    pub fn outputs(&self) -> Option<&[OutputRecord]> {
        match self {
            NodeState::Finished { outputs, .. } => Some(outputs),
            NodeState::Waiting | NodeState::Expanded { .. } => None,
        }
    }

    /// The parts of the tasks that are done, whether or not the node is.
    pub fn parts(&self) -> Vec<&OutputRecord> {
        match self {
            NodeState::Waiting => Vec::new(),
            NodeState::Expanded { tasks } => {
                let done = tasks.iter().filter_map(|task| match &task.state {
                    TaskState::Done { outputs } => Some(outputs),
                    TaskState::Stale => None,
                });
                done.flatten().collect()
            }
            NodeState::Finished { outputs, .. } => outputs.iter().collect(),
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self, NodeState::Waiting)
    }
}

impl<'a> Plan<'a> {
    pub fn new(graph: &'a Graph, store: &'a Store) -> Plan<'a> {
        let states = graph.ids().map(|_| NodeState::Waiting).collect();
        Plan { graph, store, states, external: HashMap::new() }
    }

    pub fn state(&self, node: NodeId) -> &NodeState {
        &self.states[node]
    }

    pub fn states(&self) -> impl Iterator<Item = (NodeId, &NodeState)> {
        self.states.iter()
    }

    /// Whether a node waits and no longer has to: all its inputs are known.
    pub fn ready(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        self.states[id].is_waiting() && node.absent().is_none() && self.waits_for(id).next().is_none()
    }

    /// What a node reads that is not finished.
    pub fn waits_for(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.node(id).upstream().filter(|upstream| self.states[*upstream].outputs().is_none())
    }

    /// Finds a ready node's tasks and which of them are done. With `force` none counts as done.
    ///
    /// # Errors
    /// When a file of the user's cannot be read.
    pub fn expand(&mut self, id: NodeId, force: bool) -> Result<()> {
        let inputs = self.inputs(id)?;
        let node = self.graph.node(id);
        let tasks = match node.per_part {
            Some(role) => inputs.get(role).map_or(0, Vec::len),
            None => 1,
        };
        let mut planned = Vec::with_capacity(tasks);
        for index in 0..tasks {
            let key = self.document(id, &self.task_inputs(id.task(index), &inputs)).key();
            let outputs = if force { None } else { self.stored(id, key) };
            let state = outputs.map_or(TaskState::Stale, |outputs| TaskState::Done { outputs });
            planned.push(PlannedTask { key, state });
        }
        self.states[id] = NodeState::Expanded { tasks: planned };
        self.settle(id);
        Ok(())
    }

    /// The outputs of a node's task, where the store has them and they can be its stage's.
    pub fn stored(&self, id: NodeId, key: Key) -> Option<Vec<OutputRecord>> {
        let node = self.graph.node(id);
        self.store.finished(key).filter(|outputs| unfit(node.stage, node.per_part.is_some(), outputs).is_none())
    }

    /// Expands everything that can be without running a task, in order.
    ///
    /// # Errors
    /// When a file of the user's cannot be read.
    pub fn expand_all(&mut self, wanted: &NodeSet) -> Result<()> {
        for id in wanted.iter() {
            if self.ready(id) {
                self.expand(id, false)?;
            }
        }
        Ok(())
    }

    /// Notes a stale task's outputs; returns whether its node is finished with them.
    pub fn finish(&mut self, task: TaskId, outputs: Vec<OutputRecord>) -> bool {
        if let NodeState::Expanded { tasks } = &mut self.states[task.node] {
            tasks[task.index].state = TaskState::Done { outputs };
        }
        self.settle(task.node)
    }

    /// An expanded node without a stale task is finished.
    fn settle(&mut self, id: NodeId) -> bool {
        let NodeState::Expanded { tasks } = &mut self.states[id] else { return false };
        if tasks.iter().any(|task| matches!(task.state, TaskState::Stale)) {
            return false;
        }
        let mut keys = Vec::with_capacity(tasks.len());
        let mut outputs = Vec::with_capacity(tasks.len());
        for task in tasks.drain(..) {
            keys.push(task.key);
            if let TaskState::Done { outputs: parts } = task.state {
                outputs.extend(parts);
            }
        }
        self.states[id] = NodeState::Finished { tasks: keys, outputs };
        true
    }

    /// `hidden_states[base,insecure]`, with `part 2/5` where the node has several tasks.
    pub fn task_label(&self, task: TaskId) -> String {
        let label = self.graph.node(task.node).label();
        match self.states[task.node].tasks() {
            0 | 1 => label,
            tasks => format!("{label} part {}/{tasks}", task.index + 1),
        }
    }
}
