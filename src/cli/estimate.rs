//! What a run would take: the plan, told to the estimate in `strata_stages`.

use std::path::PathBuf;

use anyhow::Result;
use strata_stages::Part;
use strata_stages::contract::pipeline::Origin;
use strata_stages::estimate::planned::{PlannedInput, PlannedNode, PlannedRun};
use strata_stages::estimate::{self, Estimate};
use strata_stages::model::files::is_gguf;

use super::Workspace;
use crate::graph::{From, GraphInput, NodeId, NodeSet, PerNode};
use crate::plan::Plan;
use crate::store::OutputRecord;

/// What the wanted nodes that are not done would take; `None` when none of them passes a model or compares what did.
///
/// # Errors
/// As for [`estimate::of`].
pub fn of(workspace: &Workspace, wanted: &NodeSet, plan: &Plan, jobs: usize) -> Result<Option<Estimate>> {
    if unknown(workspace).is_some() {
        return Ok(None);
    }
    estimate::of(&planned(workspace, wanted, plan, jobs))
}

/// Why nothing can be estimated: a model whose configuration is in its one file, which is on the hub.
pub fn unknown(workspace: &Workspace) -> Option<String> {
    let pipeline = &workspace.manifest.pipeline;
    let origins = pipeline.models.iter().filter_map(|model| match pipeline.origin(model) {
        Some(Origin::Directory(path)) => Some((model, path)),
        _ => None,
    });
    let mut absent = origins.filter(|(_, path)| is_gguf(path) && workspace.manifest.lock.awaited(path).is_some());
    let (model, _) = absent.next()?;
    Some(format!(
        "what it would take is known once the GGUF file of {} is here; `strata hub --fetch` brings it",
        model.name
    ))
}

/// The same where it is much, to be said before a run.
///
/// # Errors
/// As for [`estimate::of`].
pub fn of_demanding(workspace: &Workspace, wanted: &NodeSet, plan: &Plan, jobs: usize) -> Result<Option<Estimate>> {
    estimate::of_demanding(&planned(workspace, wanted, plan, jobs))
}

fn planned<'a>(workspace: &'a Workspace, wanted: &NodeSet, plan: &'a Plan, jobs: usize) -> PlannedRun<'a> {
    let indices: PerNode<usize> = workspace.graph.ids().enumerate().map(|(index, _)| index).collect();
    let nodes = workspace.graph.nodes().map(|(id, node)| PlannedNode {
        stage: node.stage,
        bindings: &node.bindings,
        params: &node.params,
        per_part: node.per_part.is_some(),
        inputs: node.inputs.iter().map(|input| planned_input(input, plan, &indices)).collect(),
        undone: if wanted.contains(id) { undone(plan, id) } else { 0.0 },
        outputs: plan.state(id).outputs().map(|outputs| outputs.iter().map(|output| part(plan, output)).collect()),
    });
    PlannedRun { pipeline: &workspace.manifest.pipeline, nodes: nodes.collect(), jobs }
}

fn planned_input<'a>(input: &'a GraphInput, plan: &Plan, indices: &PerNode<usize>) -> PlannedInput<'a> {
    // Of an adapter's model the base, whose size is the model's.
    let (node, files, absent) = match input.from.each().first().unwrap_or(&input.from) {
        From::Node { node, files } => {
            let outputs = plan.state(*node).outputs();
            let admitted = |output: &&OutputRecord| files.admits(output.file_name());
            let files =
                outputs.map(|outputs| outputs.iter().filter(admitted).map(|output| part(plan, output)).collect());
            (Some(indices[*node]), files, None)
        }
        From::Files { files, .. } => {
            let part = |(name, path): &(String, PathBuf)| Part { path: path.clone(), name: name.clone() };
            (None, Some(files.iter().map(part).collect()), None)
        }
        From::Absent { what, .. } => (None, None, Some(what.as_str())),
        From::Together(_) | From::Setting(_) => (None, None, None),
    };
    PlannedInput { source: &input.source, node, files, absent }
}

fn part(plan: &Plan, output: &OutputRecord) -> Part {
    Part { path: plan.store.layout.object(output), name: output.file_name().to_string() }
}

/// The share of a node's tasks that would run; all of one whose tasks are not known.
fn undone(plan: &Plan, id: NodeId) -> f64 {
    let state = plan.state(id);
    match state.tasks() {
        0 => 1.0,
        tasks => state.stale().count() as f64 / tasks as f64,
    }
}
