//! In which order what is not done becomes ready: a node's wave comes after those of all that it reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{NodeId, NodeSet, PerNode};
use crate::plan::Plan;

/// The wave of every wanted node that is not finished, counted from 0; none of the others.
pub fn waves(plan: &Plan, wanted: &NodeSet) -> PerNode<Option<usize>> {
    let mut waves: PerNode<Option<usize>> = plan.graph.ids().map(|_| None).collect();
    for id in wanted.iter() {
        if plan.state(id).outputs().is_none() {
            let read = plan.waits_for(id).filter_map(|upstream: NodeId| waves[upstream]);
            waves[id] = Some(read.map(|wave| wave + 1).max().unwrap_or(0));
        }
    }
    waves
}

/// As [`waves`], with all nodes of a stage in one wave where no node of the stage reads another: what watches one model is then
/// ready together, though some datasets are further than others.
pub fn stage_waves(plan: &Plan, wanted: &NodeSet) -> PerNode<Option<usize>> {
    let own = waves(plan, wanted);
    let undone: Vec<NodeId> = wanted.iter().filter(|id| own[*id].is_some()).collect();
    let stage = |id: NodeId| plan.graph.node(id).stage.name;
    let mut read_by: BTreeSet<(&str, &str)> = BTreeSet::new();
    for id in &undone {
        let upstream = plan.waits_for(*id).filter(|upstream| own[*upstream].is_some());
        read_by.extend(upstream.map(|upstream| (stage(upstream), stage(*id))).filter(|(from, to)| from != to));
    }
    // The longest way to each stage, found in as many rounds as there are stages unless stages read each other in a circle.
    let mut levels: BTreeMap<&str, usize> = undone.iter().map(|id| (stage(*id), 0)).collect();
    for round in 0.. {
        let mut changed = false;
        for (from, to) in &read_by {
            let least = levels[from] + 1;
            let level = levels.entry(to).or_default();
            changed |= *level < least;
            *level = least.max(*level);
        }
        if !changed {
            break;
        }
        if round > levels.len() {
            return own;
        }
    }
    // Within a stage whose nodes read each other, as trained models do, how many of it come before.
    let mut depths: PerNode<usize> = plan.graph.ids().map(|_| 0).collect();
    for id in &undone {
        let same = plan.waits_for(*id).filter(|upstream| own[*upstream].is_some() && stage(*upstream) == stage(*id));
        depths[*id] = same.map(|upstream| depths[upstream] + 1).max().unwrap_or(0);
    }
    let places: BTreeSet<(usize, usize)> = undone.iter().map(|id| (levels[stage(*id)], depths[*id])).collect();
    let places: Vec<(usize, usize)> = places.into_iter().collect();
    let place = |id: NodeId| places.binary_search(&(levels[stage(id)], depths[id])).unwrap_or_default();
    plan.graph.ids().map(|id| own[id].map(|_| place(id))).collect()
}
