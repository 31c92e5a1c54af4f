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
//! A task whose outputs are known from a remote's record, and whose objects are not here, is done too: what reads it has a key.
//! Its objects are fetched ([`Plan::arrived`]) when a task that reads them has to run, or when they are to be shown.
//!
//! A node goes from left to right and never back. One whose tasks are all in the store, or that has none, is
//! finished as soon as it is expanded. `run` moves nodes along by running stale tasks; `status` and `explain` look
//! at how far they get without running any.

mod inputs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::graph::{Graph, GraphNode, NodeId, NodeSet, PerNode, TaskId};
use crate::key::Key;
use crate::outputs::unfit;
use crate::store::names::ObjectHash;
use crate::store::{FileState, OutputRecord, Store};
pub use inputs::{ResolvedInputs, ResolvedPart};

pub struct Plan<'a> {
    pub graph: &'a Graph,
    pub store: &'a Store,
    states: PerNode<NodeState>,
    /// How many nodes each waits for.
    pending: PerNode<usize>,
    /// How many of its tasks are stale.
    stale: PerNode<usize>,
    /// Files of the user's that were hashed for this plan.
    external: HashMap<PathBuf, (Option<FileState>, String)>,
    promised: Promised,
}

/// Which tasks count as done though their objects are in a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promised {
    /// Those whose record is known, but these: their objects could not be had.
    AllBut(HashSet<Key>),
    /// None: there is no remote to have objects from.
    None,
}

/// How far a node is.
pub enum NodeState {
    /// Some input's outputs are not known, so its tasks are not either.
    Waiting,
    /// Its tasks are known, and some are stale.
    Expanded { tasks: Vec<PlannedTask> },
    /// The keys of its tasks in order, the parts of all of them in order, and which of the tasks have objects that are not
    /// here, with their parts.
    Finished { tasks: Vec<Key>, outputs: Vec<OutputRecord>, elsewhere: Elsewhere },
}

/// Tasks by their index, with the range of their parts among those of the node.
pub type Elsewhere = BTreeMap<usize, Range<usize>>;

pub struct PlannedTask {
    pub key: Key,
    pub state: TaskState,
}

pub enum TaskState {
    Stale,
    Done {
        outputs: Vec<OutputRecord>,
    },
    /// Its record is known, and its objects are in a remote.
    Elsewhere {
        outputs: Vec<OutputRecord>,
    },
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

    /// The keys of its tasks that are done and whose objects are here.
    pub fn done(&self) -> Vec<Key> {
        self.done_tasks().into_iter().map(|(_, key)| key).collect()
    }

    /// Its tasks that are done and whose objects are here, by index.
    pub fn done_tasks(&self) -> Vec<(usize, Key)> {
        match self {
            NodeState::Waiting => Vec::new(),
            NodeState::Expanded { tasks } => {
                let tasks = tasks.iter().enumerate();
                let done = tasks.filter(|(_, task)| matches!(task.state, TaskState::Done { .. }));
                done.map(|(index, task)| (index, task.key)).collect()
            }
            NodeState::Finished { tasks, elsewhere, .. } => {
                let here = tasks.iter().enumerate().filter(|(index, _)| !elsewhere.contains_key(index));
                here.map(|(index, key)| (index, *key)).collect()
            }
        }
    }

    /// The key of a task that is done and whose objects are here.
    pub fn done_key(&self, index: usize) -> Option<Key> {
        self.done_tasks().into_iter().find(|(found, _)| *found == index).map(|(_, key)| key)
    }

    /// Its tasks whose objects are in a remote, by index, key and outputs.
    pub fn elsewhere(&self) -> Vec<(usize, Key, Vec<OutputRecord>)> {
        match self {
            NodeState::Waiting => Vec::new(),
            NodeState::Expanded { tasks } => {
                let tasks = tasks.iter().enumerate();
                let elsewhere = tasks.filter_map(|(index, task)| match &task.state {
                    TaskState::Elsewhere { outputs } => Some((index, task.key, outputs.clone())),
                    TaskState::Stale | TaskState::Done { .. } => None,
                });
                elsewhere.collect()
            }
            NodeState::Finished { tasks, outputs, elsewhere } => elsewhere
                .iter()
                .map(|(index, parts)| (*index, tasks[*index], outputs[parts.clone()].to_vec()))
                .collect(),
        }
    }

    /// The key and outputs of a finished node's task, where its objects are in a remote.
    pub fn elsewhere_task(&self, index: usize) -> Option<(Key, &[OutputRecord])> {
        let NodeState::Finished { tasks, outputs, elsewhere, .. } = self else { return None };
        Some((tasks[index], &outputs[elsewhere.get(&index)?.clone()]))
    }

    /// For each part of a finished node its task, where that task's objects are in a remote; empty where all are here.
    fn away(&self) -> Vec<Option<usize>> {
        let NodeState::Finished { outputs, elsewhere, .. } = self else { return Vec::new() };
        if elsewhere.is_empty() {
            return Vec::new();
        }
        let mut away = vec![None; outputs.len()];
        for (task, parts) in elsewhere {
            away[parts.clone()].fill(Some(*task));
        }
        away
    }

    /// Whether it is finished and all of its objects are here.
    pub fn is_here(&self) -> bool {
        matches!(self, NodeState::Finished { elsewhere, .. } if elsewhere.is_empty())
    }

    /// The keys of its tasks, in order, done or not.
    pub fn keys(&self) -> Vec<Key> {
        match self {
            NodeState::Waiting => Vec::new(),
            NodeState::Expanded { tasks } => tasks.iter().map(|task| task.key).collect(),
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

    /// The parts that are here, whether or not the node is finished.
    pub fn parts(&self) -> Vec<&OutputRecord> {
        match self {
            NodeState::Waiting => Vec::new(),
            NodeState::Expanded { tasks } => {
                let done = tasks.iter().filter_map(|task| match &task.state {
                    TaskState::Done { outputs } => Some(outputs),
                    TaskState::Stale | TaskState::Elsewhere { .. } => None,
                });
                done.flatten().collect()
            }
            NodeState::Finished { outputs, .. } => {
                let away = self.away();
                let is_here = |index: usize| away.get(index).is_none_or(Option::is_none);
                outputs.iter().enumerate().filter(|(index, _)| is_here(*index)).map(|(_, output)| output).collect()
            }
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self, NodeState::Waiting)
    }
}

fn fit(node: &GraphNode, outputs: &[OutputRecord]) -> bool {
    unfit(node.stage, node.per_part.is_some(), outputs).is_none()
}

impl<'a> Plan<'a> {
    pub fn new(graph: &'a Graph, store: &'a Store) -> Plan<'a> {
        let states = graph.ids().map(|_| NodeState::Waiting).collect();
        let mut pending: PerNode<usize> = graph.ids().map(|_| 0).collect();
        for (_, node) in graph.nodes() {
            node.readers.iter().for_each(|reader| pending[*reader] += 1);
        }
        let (stale, promised) = (graph.ids().map(|_| 0).collect(), Promised::AllBut(HashSet::new()));
        Plan { graph, store, states, pending, stale, external: HashMap::new(), promised }
    }

    /// As [`Plan::new`], where not every task whose objects are in a remote counts as done.
    pub fn promising(graph: &'a Graph, store: &'a Store, promised: Promised) -> Plan<'a> {
        Plan { promised, ..Plan::new(graph, store) }
    }

    /// The user's files that were hashed for this plan.
    pub fn files_read(&self) -> BTreeMap<PathBuf, ObjectHash> {
        let here = self.external.iter().filter(|(_, (state, _))| state.is_some());
        here.filter_map(|(path, (_, hash))| Some((path.clone(), hash.clone().try_into().ok()?))).collect()
    }

    pub fn state(&self, node: NodeId) -> &NodeState {
        &self.states[node]
    }

    pub fn states(&self) -> impl Iterator<Item = (NodeId, &NodeState)> {
        self.states.iter()
    }

    /// Whether a node waits and no longer has to: all its inputs are known.
    pub fn ready(&self, id: NodeId) -> bool {
        self.pending[id] == 0 && self.states[id].is_waiting() && self.graph.node(id).absent().is_none()
    }

    /// What a node reads that is not finished.
    pub fn waits_for(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.node(id).upstream().filter(|upstream| self.states[*upstream].outputs().is_none())
    }

    /// Of some nodes' readers those that are wanted and ready.
    fn ready_after(&self, finished: &[NodeId], wanted: &NodeSet) -> Vec<NodeId> {
        let readers = finished.iter().flat_map(|id| &self.graph.node(*id).readers).copied();
        let mut ready: Vec<NodeId> = readers.filter(|id| wanted.contains(*id) && self.ready(*id)).collect();
        ready.sort_unstable();
        ready.dedup();
        ready
    }

    /// Finds the tasks of ready nodes and which of them are done; of each node, whether that went well. Of forced nodes none
    /// counts as done.
    ///
    /// An error is of a file of the user's that cannot be read.
    pub fn expand_each(&mut self, ids: &[NodeId], forced: &NodeSet) -> Vec<Result<()>> {
        let mut found: Vec<Result<usize>> = Vec::with_capacity(ids.len());
        let mut all = Vec::new();
        for id in ids {
            let keys = self.inputs(*id).map(|inputs| self.keys(*id, &inputs));
            found.push(keys.map(|keys| {
                all.extend(keys.iter().map(|key| (*id, *key)));
                keys.len()
            }));
        }
        let plan = &*self;
        let look = |(id, key): (NodeId, Key)| PlannedTask { key, state: plan.task_state(id, key, forced.contains(id)) };
        // A look takes about 20 µs, a thread to begin with it several times that.
        let planned: Vec<PlannedTask> = match all.len() {
            0..256 => all.into_iter().map(look).collect(),
            _ => all.into_par_iter().with_min_len(64).map(look).collect(),
        };
        let mut planned = planned.into_iter();
        for (id, found) in ids.iter().zip(&found) {
            let Ok(tasks) = found else { continue };
            let tasks: Vec<PlannedTask> = planned.by_ref().take(*tasks).collect();
            self.stale[*id] = tasks.iter().filter(|task| matches!(task.state, TaskState::Stale)).count();
            self.states[*id] = NodeState::Expanded { tasks };
            self.settle(*id);
        }
        found.into_iter().map(|found| found.map(|_| ())).collect()
    }

    /// The same for one node.
    ///
    /// # Errors
    /// When a file of the user's cannot be read.
    #[cfg(test)]
    pub fn expand(&mut self, id: NodeId, force: bool) -> Result<()> {
        let mut forced = self.graph.none();
        if force {
            forced.insert(id);
        }
        self.expand_each(&[id], &forced).into_iter().collect()
    }

    /// The outputs of a node's task, where the store has them and they can be its stage's.
    pub fn stored(&self, id: NodeId, key: Key) -> Option<Vec<OutputRecord>> {
        let node = self.graph.node(id);
        self.store.finished(key).filter(|outputs| fit(node, outputs))
    }

    fn task_state(&self, id: NodeId, key: Key, force: bool) -> TaskState {
        if force {
            return TaskState::Stale;
        }
        if let Some(outputs) = self.stored(id, key) {
            return TaskState::Done { outputs };
        }
        let believed = match &self.promised {
            Promised::AllBut(these) => !these.contains(&key),
            Promised::None => false,
        };
        let elsewhere = believed.then(|| self.store.elsewhere(key)).flatten();
        let elsewhere = elsewhere.filter(|outputs| fit(self.graph.node(id), outputs));
        elsewhere.map_or(TaskState::Stale, |outputs| TaskState::Elsewhere { outputs })
    }

    /// Expands everything that can be without running a task.
    ///
    /// # Errors
    /// When a file of the user's cannot be read.
    pub fn expand_all(&mut self, wanted: &NodeSet) -> Result<()> {
        let forced = self.graph.none();
        let mut ready: Vec<NodeId> = wanted.iter().filter(|id| self.ready(*id)).collect();
        while !ready.is_empty() {
            self.expand_each(&ready, &forced).into_iter().collect::<Result<()>>()?;
            ready.retain(|id| self.states[*id].outputs().is_some());
            ready = self.ready_after(&ready, wanted);
        }
        Ok(())
    }

    /// Notes a stale task's outputs; returns whether its node is finished with them.
    pub fn finish(&mut self, task: TaskId, outputs: Vec<OutputRecord>) -> bool {
        self.is_no_longer_stale(task, TaskState::Done { outputs })
    }

    /// Notes that a stale task's outputs are known from a remote; returns whether its node is finished with them.
    pub fn found(&mut self, task: TaskId, outputs: Vec<OutputRecord>) -> bool {
        self.is_no_longer_stale(task, TaskState::Elsewhere { outputs })
    }

    fn is_no_longer_stale(&mut self, task: TaskId, state: TaskState) -> bool {
        if let NodeState::Expanded { tasks } = &mut self.states[task.node] {
            let before = std::mem::replace(&mut tasks[task.index].state, state);
            self.stale[task.node] -= usize::from(matches!(before, TaskState::Stale));
        }
        self.settle(task.node)
    }

    /// Notes that a task's objects are here now; returns whether all of its node's are.
    pub fn arrived(&mut self, task: TaskId) -> bool {
        match &mut self.states[task.node] {
            NodeState::Waiting => false,
            NodeState::Expanded { tasks } => {
                let state = &mut tasks[task.index].state;
                if let TaskState::Elsewhere { outputs } = state {
                    *state = TaskState::Done { outputs: std::mem::take(outputs) };
                }
                false
            }
            NodeState::Finished { elsewhere, .. } => {
                elsewhere.remove(&task.index);
                elsewhere.is_empty()
            }
        }
    }

    /// An expanded node without a stale task is finished.
    fn settle(&mut self, id: NodeId) -> bool {
        let NodeState::Expanded { tasks } = &mut self.states[id] else { return false };
        if self.stale[id] > 0 {
            return false;
        }
        let mut keys = Vec::with_capacity(tasks.len());
        let mut outputs = Vec::with_capacity(tasks.len());
        let mut elsewhere = Elsewhere::new();
        for (index, task) in tasks.drain(..).enumerate() {
            keys.push(task.key);
            match task.state {
                TaskState::Stale => {}
                TaskState::Done { outputs: parts } => outputs.extend(parts),
                TaskState::Elsewhere { outputs: parts } => {
                    elsewhere.insert(index, outputs.len()..outputs.len() + parts.len());
                    outputs.extend(parts);
                }
            }
        }
        self.states[id] = NodeState::Finished { tasks: keys, outputs, elsewhere };
        for reader in &self.graph.node(id).readers {
            self.pending[*reader] -= 1;
        }
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
