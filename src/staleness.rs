//! Why a node is not fresh. `status`, `explain` and `run --dry-run` say the same reasons in their own lengths.

mod difference;
mod earlier;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::fmt;

use anyhow::Result;

use crate::graph::{From, Graph, GraphInput, NodeId, NodeSet, TaskId};
use crate::key::Key;
use crate::latest;
use crate::outputs::unfit;
use crate::plan::{NodeState, Plan, ResolvedInputs};
use crate::store::ObjectState;
pub use difference::{Difference, What, differences};
pub use earlier::Earlier;

/// How a node stands.
pub enum Standing {
    Fresh {
        tasks: usize,
    },
    Stale(StaleNode),
    /// For nodes that it reads: its own tasks are known when theirs are done.
    Waits(Vec<NodeId>),
    /// It reads something that is not there, in words.
    Absent(String),
}

/// A node with stale tasks, and what explains them.
pub struct StaleNode {
    pub id: NodeId,
    pub stale: Vec<TaskId>,
    /// All of its tasks.
    pub tasks: usize,
    inputs: ResolvedInputs,
    /// What it was shown with last.
    keys: Vec<Key>,
    earlier: OnceCell<Earlier>,
}

/// Why a task is stale.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// There is no earlier record to compare with.
    NeverRan,
    /// Its record is there, and so many of the objects that it names are missing or damaged.
    ObjectsLost(usize),
    /// Something lies in its record's place and is not believed, with what is wrong with it.
    Refused(String),
    /// It ran with the same inputs and parameters, and its record is not there any more.
    RecordGone,
    /// What is not as it was in the earlier record that is most like it; never empty.
    Differs(Vec<Difference>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NeverRan => write!(f, "never ran"),
            Reason::ObjectsLost(1) => write!(f, "an object of its record is missing or damaged"),
            Reason::ObjectsLost(lost) => write!(f, "{lost} objects of its record are missing or damaged"),
            Reason::Refused(why) => write!(f, "its record {why}"),
            Reason::RecordGone => write!(f, "its record is gone"),
            Reason::Differs(differences) => match differences.as_slice() {
                [] => Ok(()),
                [first] => write!(f, "{first}"),
                [first, rest @ ..] => write!(f, "{first}, and {} more", rest.len()),
            },
        }
    }
}

/// How a node of a plan that was expanded stands.
///
/// # Errors
/// When a file of the user's cannot be read.
pub fn standing(plan: &mut Plan, id: NodeId) -> Result<Standing> {
    let stale: Vec<TaskId> = plan.state(id).stale().map(|(index, _)| id.task(index)).collect();
    Ok(match plan.state(id) {
        NodeState::Finished { tasks, .. } => Standing::Fresh { tasks: tasks.len() },
        NodeState::Waiting => match plan.graph.node(id).absent() {
            Some(what) => Standing::Absent(what.to_string()),
            None => Standing::Waits(plan.waits_for(id).collect()),
        },
        NodeState::Expanded { tasks } => {
            let tasks = tasks.len();
            let keys = latest::read(plan.store, &plan.graph.node(id).label());
            Standing::Stale(StaleNode { id, stale, tasks, inputs: plan.inputs(id)?, keys, earlier: OnceCell::new() })
        }
    })
}

impl StaleNode {
    /// Whether it was shown before, with other results.
    pub fn was_shown(&self) -> bool {
        !self.keys.is_empty()
    }

    pub fn reason(&self, plan: &Plan, task: TaskId) -> Reason {
        let now = plan.document(self.id, &plan.task_inputs(task, &self.inputs));
        let key = now.key();
        match plan.store.examine(key) {
            Ok(Some(record)) => {
                let node = plan.graph.node(self.id);
                if let Some(why) = unfit(node.stage, node.per_part.is_some(), &record.outputs) {
                    return Reason::Refused(format!("names {why}"));
                }
                let lost = record.outputs.iter().filter(|output| plan.store.check(output) != ObjectState::Sound);
                return Reason::ObjectsLost(lost.count());
            }
            Ok(None) => {}
            Err(fault) => return Reason::Refused(fault.to_string()),
        }
        if self.keys.contains(&key) {
            return Reason::RecordGone;
        }
        // Of several parts, the one that differs least is the one this was.
        let split = plan.graph.node(self.id).per_part;
        let earlier = self.earlier.get_or_init(|| Earlier::read(plan.store, &self.keys, split));
        let nearest =
            earlier.like(&now, split, task.index).map(|before| differences(before, &now)).min_by_key(Vec::len);
        nearest.map_or(Reason::NeverRan, Reason::Differs)
    }
}

/// Where the way from a waiting node through what it waits for ends: nodes that are stale themselves, or that read
/// something that is not there.
pub fn causes(plan: &Plan, waiting: NodeId) -> Vec<NodeId> {
    let mut seen: NodeSet = plan.graph.none();
    let mut pending = vec![waiting];
    let mut found = Vec::new();
    while let Some(id) = pending.pop() {
        if seen.contains(id) {
            continue;
        }
        seen.insert(id);
        match plan.state(id) {
            NodeState::Finished { .. } => {}
            NodeState::Waiting if plan.graph.node(id).absent().is_none() => pending.extend(plan.waits_for(id)),
            NodeState::Waiting | NodeState::Expanded { .. } => found.push(id),
        }
    }
    found.sort();
    found
}

/// The node that a difference is of, where it is of another node's table.
pub fn origin_node(graph: &Graph, id: NodeId, at: &str) -> Option<NodeId> {
    let (_, input) = input_at(graph, id, at)?;
    match input.from.each() {
        [From::Node { node, .. }] => Some(*node),
        _ => None,
    }
}

fn input_at<'a>(graph: &'a Graph, id: NodeId, at: &'a str) -> Option<(&'a str, &'a GraphInput)> {
    let role = at.strip_prefix("inputs.")?;
    let input = graph.node(id).inputs.iter().find(|input| {
        role.strip_prefix(input.role.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.', ' ']))
    });
    Some((role, input?))
}

/// What a role of a node is, in the user's words: a file's path or another node's label.
pub fn origin(graph: &Graph, id: NodeId, at: &str) -> Option<String> {
    let (role, input) = input_at(graph, id, at)?;
    let named = |from: &From| match from {
        From::Files { files, .. } => files.iter().find(|(name, _)| role.ends_with(name.as_str())).cloned(),
        _ => None,
    };
    if let Some((_, path)) = input.from.each().iter().find_map(named) {
        return Some(path.display().to_string());
    }
    Some(match input.from.each().first()? {
        From::Node { node, .. } => graph.node(*node).label(),
        From::Files { files, .. } => files.first().map_or_else(String::new, |(_, path)| path.display().to_string()),
        From::Absent { what, .. } => what.clone(),
        From::Setting(setting) => setting.clone(),
        From::Together(_) => return None,
    })
}
