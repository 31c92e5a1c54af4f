//! What the engine says of a run before it starts: the nodes, what each reads, and which of their files are there.

use serde_json::Value;

use crate::contract::node::{Bindings, Part, Source};
use crate::contract::pipeline::Pipeline;
use crate::contract::stage::Stage;

/// A run of some of a pipeline's nodes.
pub struct PlannedRun<'a> {
    pub pipeline: &'a Pipeline,
    /// All of the pipeline's nodes, every one after those it reads.
    pub nodes: Vec<PlannedNode<'a>>,
    /// Tasks at once, at most.
    pub jobs: usize,
}

/// A node's place in [`PlannedRun::nodes`].
pub type NodeIndex = usize;

pub struct PlannedNode<'a> {
    pub stage: &'static Stage,
    pub bindings: &'a Bindings,
    pub params: &'a Value,
    /// Whether it has a task for each part of an input.
    pub per_part: bool,
    /// In the order in which its stage asks for them.
    pub inputs: Vec<PlannedInput<'a>>,
    /// The share of its tasks that the run would run, from 0 to 1; 0 for a node that the run is not asked for.
    pub undone: f64,
    /// All parts of its output, where they are there.
    pub outputs: Option<Vec<Part>>,
}

pub struct PlannedInput<'a> {
    pub source: &'a Source,
    /// The node that makes it; `None` for files of the user's.
    pub node: Option<NodeIndex>,
    /// Its files, where they are there.
    pub files: Option<Vec<Part>>,
    /// What is not there, in words.
    pub absent: Option<&'a str>,
}

impl PlannedRun<'_> {
    /// The nodes that the run is asked for and that are not done.
    pub fn undone(&self) -> impl Iterator<Item = NodeIndex> {
        let undone = self.nodes.iter().enumerate().filter(|(_, node)| node.undone > 0.0);
        undone.map(|(index, _)| index)
    }

    /// The first node of this stage that a node reads.
    pub fn upstream(&self, node: &PlannedNode, stage: &str) -> Option<NodeIndex> {
        node.upstream().find(|upstream| self.nodes[*upstream].stage.name == stage)
    }
}

impl<'a> PlannedNode<'a> {
    /// The nodes it reads; one that it reads under two roles comes twice.
    pub fn upstream(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.inputs.iter().filter_map(|input| input.node)
    }

    /// The name bound to a key: `binding("model")`.
    pub fn binding(&self, key: &str) -> Option<&'a str> {
        self.bindings.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    /// The models whose weights it reads, in the order of its inputs.
    pub fn weights(&self) -> Vec<&'a str> {
        let weights = self.inputs.iter().filter_map(|input| match input.source {
            Source::Weights { model } => Some(model.as_str()),
            _ => None,
        });
        weights.collect()
    }

    /// What it reads that is not there.
    pub fn absent(&self) -> Option<&'a str> {
        self.inputs.iter().find_map(|input| input.absent)
    }
}
