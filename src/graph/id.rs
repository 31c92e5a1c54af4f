//! Which node, which task, and sets of nodes: an index of one graph cannot be mistaken for another number.

use std::ops::{Index, IndexMut};

/// A node of a [`super::Graph`]; nodes it reads have smaller ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// A task of a node, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub node: NodeId,
    pub index: usize,
}

impl NodeId {
    pub fn task(self, index: usize) -> TaskId {
        TaskId { node: self, index }
    }
}

/// One value for each node.
#[derive(Debug, Clone)]
pub struct PerNode<T>(Vec<T>);

impl<T> PerNode<T> {
    pub fn new() -> PerNode<T> {
        PerNode(Vec::new())
    }

    /// Adds the next node's value.
    pub fn push(&mut self, value: T) -> NodeId {
        self.0.push(value);
        NodeId(self.0.len() - 1)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<T> {
        (0..self.0.len()).map(NodeId)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &T)> {
        self.0.iter().enumerate().map(|(index, value)| (NodeId(index), value))
    }
}

impl<T> FromIterator<T> for PerNode<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> PerNode<T> {
        PerNode(values.into_iter().collect())
    }
}

impl<T> Index<NodeId> for PerNode<T> {
    type Output = T;

    fn index(&self, id: NodeId) -> &T {
        &self.0[id.0]
    }
}

impl<T> IndexMut<NodeId> for PerNode<T> {
    fn index_mut(&mut self, id: NodeId) -> &mut T {
        &mut self.0[id.0]
    }
}

/// Some of a graph's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSet(Vec<bool>);

impl NodeSet {
    /// None of a graph's `nodes` nodes.
    pub fn none(nodes: usize) -> NodeSet {
        NodeSet(vec![false; nodes])
    }

    pub fn all(nodes: usize) -> NodeSet {
        NodeSet(vec![true; nodes])
    }

    pub fn contains(&self, id: NodeId) -> bool {
        self.0[id.0]
    }

    pub fn insert(&mut self, id: NodeId) {
        self.0[id.0] = true;
    }

    /// Its nodes, every one after those it reads.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = NodeId> + '_ {
        self.0.iter().enumerate().filter(|(_, is_in)| **is_in).map(|(index, _)| NodeId(index))
    }
}
