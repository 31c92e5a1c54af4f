//! What is not done, cut into steps: nodes whose stages come at the same place of the pipeline and ask for the same resources.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::Value;

use super::waves::stage_waves;
use crate::graph::{NodeId, NodeSet};
use crate::manifest::{Executor, Resources};
use crate::plan::Plan;
use crate::run::first_group;

/// What becomes one job array.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub stages: Vec<&'static str>,
    pub resources: Resources,
    /// Between how many jobs its tasks are shared.
    pub shards: usize,
    /// The steps that it reads from, by their place.
    pub after: Vec<usize>,
}

/// The steps of a plan that is expanded as far as it can be, each after those that it reads from.
///
/// # Errors
/// When a file of the user's cannot be read.
pub fn steps(plan: &mut Plan, wanted: &NodeSet, executor: &Executor) -> Result<Vec<Step>> {
    let waves = stage_waves(plan, wanted);
    let mut undone: Vec<(usize, NodeId)> = wanted.iter().filter_map(|id| Some((waves[id]?, id))).collect();
    undone.sort_by_key(|(wave, _)| *wave);
    let mut found: Vec<(usize, Step, HashSet<u64>, bool)> = Vec::new();
    let mut places = vec![None; plan.graph.len()];
    let order: Vec<NodeId> = plan.graph.ids().collect();
    let number = |id: NodeId| order.binary_search(&id).unwrap_or_default();
    for (wave, id) in undone {
        let stage = plan.graph.node(id).stage.name;
        let resources = executor.resources(stage);
        let at = found.iter().position(|(of, step, ..)| *of == wave && step.resources == *resources);
        let at = at.unwrap_or_else(|| {
            let step = Step { stages: Vec::new(), resources: resources.clone(), shards: 1, after: Vec::new() };
            found.push((wave, step, HashSet::new(), true));
            found.len() - 1
        });
        places[number(id)] = Some(at);
        let own = groups(plan, id)?;
        let before: Vec<usize> = plan.waits_for(id).filter_map(|upstream| places[number(upstream)]).collect();
        let (_, step, all, known) = &mut found[at];
        if !step.stages.contains(&stage) {
            step.stages.push(stage);
        }
        for place in before {
            if place != at && !step.after.contains(&place) {
                step.after.push(place);
            }
        }
        match own {
            Some(own) => all.extend(own),
            None => *known = false,
        }
    }
    let finish = |(_, mut step, groups, known): (usize, Step, HashSet<u64>, bool)| {
        let most = step.resources.jobs;
        step.shards = if known { groups.len().clamp(1, most) } else { most };
        step.after.sort_unstable();
        step
    };
    Ok(found.into_iter().map(finish).collect())
}

/// The groups of a node's stale tasks; none where it is not known how many tasks it has.
///
/// # Errors
/// When a file of the user's cannot be read.
pub fn groups(plan: &mut Plan, id: NodeId) -> Result<Option<Vec<u64>>> {
    let stale: Vec<usize> = plan.state(id).stale().map(|(index, _)| index).collect();
    if stale.is_empty() {
        let node = plan.graph.node(id);
        // A waiting node of one task: any number that is its own.
        let label =
            u64::from_le_bytes(*blake3::hash(node.label().as_bytes()).as_bytes().first_chunk().unwrap_or(&[0; 8]));
        return Ok(node.per_part.is_none().then(|| vec![label]));
    }
    let inputs = plan.inputs(id)?;
    let first = first_group(plan, id, &inputs);
    Ok(Some(stale.into_iter().map(|index| first + index as u64).collect()))
}

/// What a job asks for, as JSON.
pub fn resources_json(resources: &Resources) -> Value {
    serde_json::json!({
        "partition": resources.partition, "account": resources.account, "gpus": resources.gpus,
        "memory_mib": resources.memory, "minutes": resources.time, "cpus": resources.cpus, "args": resources.args,
    })
}
