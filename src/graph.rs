//! Stages applied to models and datasets: the nodes of a pipeline and what each reads.
//!
//! A stage's section in pipeline.toml asks for all of that stage's nodes; what those read is added on demand.
//! No file of the store is touched here: how many tasks a node has is known only when its inputs are.

mod build;
mod id;
mod model_files;
mod shapes;
mod target;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use strata_stages::contract::node::{Alike, Bindings};
use strata_stages::{Source, Stage};

use crate::lock::Lock;
pub use id::{NodeId, NodeSet, PerNode, TaskId};
pub use model_files::{FileFilter, adapter_files, model_files, template_files};
pub use shapes::ModelFaults;
pub use target::Target;

/// Nodes in an order in which every node comes after those it reads.
pub struct Graph {
    nodes: PerNode<GraphNode>,
    /// The registry that it was built from, for the stage that shows what the others do.
    pub stages: &'static [&'static Stage],
    /// What files were that are not here.
    pub lock: Lock,
}

/// A stage applied to names.
pub struct GraphNode {
    pub stage: &'static Stage,
    /// The names, outermost folder of the node's view first. Never part of a key.
    pub bindings: Bindings,
    /// The parameters that its numbers depend on.
    pub params: Value,
    /// The role whose parts split the node into a task each; without one it is one task.
    pub per_part: Option<&'static str>,
    pub inputs: Vec<GraphInput>,
    /// Nodes that read this one.
    pub readers: Vec<NodeId>,
}

pub struct GraphInput {
    pub role: String,
    /// What the stage asked for.
    pub source: Source,
    /// The columns that are read; all of them without.
    pub columns: Option<Cow<'static, [&'static str]>>,
    /// In what the models behind it must be like those behind the node's other inputs that say so.
    pub alike: Option<Alike>,
    /// Where that is.
    pub from: From,
}

/// Where an input's parts come from.
#[derive(Clone)]
pub enum From {
    /// Another node's outputs; of a node with named files, those that `files` admits.
    Node { node: NodeId, files: FileFilter },
    /// Files of the user's, by name.
    Files { role: FileRole, files: Arc<[(String, PathBuf)]> },
    /// All of these, in order: a base's files and an adapter's.
    Together(Vec<From>),
    /// What a reader needs to know beside the files, as the name of a part without a file.
    Setting(String),
    /// Files that are not there, in a graph that is only looked at; what is missing, in words, and where it was looked for.
    Absent { what: String, path: PathBuf },
}

/// What a file's name means: part of the content (which tensor file this is), or its format alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    Model,
    Dataset,
}

impl Graph {
    pub fn node(&self, id: NodeId) -> &GraphNode {
        &self.nodes[id]
    }

    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &GraphNode)> {
        self.nodes.iter()
    }

    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        self.nodes.ids()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn all(&self) -> NodeSet {
        NodeSet::all(self.len())
    }

    pub fn none(&self) -> NodeSet {
        NodeSet::none(self.len())
    }
}

impl GraphNode {
    /// `hidden_states[base,insecure]`
    pub fn label(&self) -> String {
        label(self.stage.name, &self.bindings)
    }

    /// The name bound to a key: `binding("model")`.
    pub fn binding(&self, key: &str) -> Option<&str> {
        self.bindings.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    /// What it reads that is not there.
    pub fn absent(&self) -> Option<&str> {
        self.inputs.iter().flat_map(|input| input.from.each()).find_map(|from| match from {
            From::Absent { what, .. } => Some(what.as_str()),
            _ => None,
        })
    }

    /// The nodes it reads; one that it reads under two roles comes twice.
    pub fn upstream(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.inputs.iter().flat_map(|input| input.from.each()).filter_map(|from| match from {
            From::Node { node, .. } => Some(*node),
            _ => None,
        })
    }
}

impl From {
    /// Itself, or those that it is made of.
    pub fn each(&self) -> &[From] {
        match self {
            From::Together(all) => all,
            one => std::slice::from_ref(one),
        }
    }
}

fn label(stage: &str, bindings: &[(&'static str, String)]) -> String {
    let names: Vec<&str> = bindings.iter().map(|(_, value)| value.as_str()).collect();
    if names.is_empty() { stage.to_string() } else { format!("{stage}[{}]", names.join(",")) }
}
