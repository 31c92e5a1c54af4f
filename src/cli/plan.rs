//! `strata plan`

use anyhow::Result;
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};

use super::say::say;
use super::{Outcome, Place, Workspace, complete, estimate};
use crate::cluster::steps::{groups, resources_json};
use crate::cluster::waves::waves;
use crate::graph::{NodeId, NodeSet, PerNode};
use crate::plan::{NodeState, Plan};

/// Print what a run would do, node by node and wave by wave, for a scheduler to read
///
/// A node's wave comes after those of all that it reads. Its tasks are known when what it reads is done; until then it
/// waits. Tasks of one group share a model's pass and are done by one worker of `strata work`.
#[derive(Args)]
#[command(
    name = "plan",
    after_help = "Examples:
  strata plan                              how many tasks each wave has
  strata plan --format json                every node with its tasks, keys and resources
  strata plan --format json --estimate     and what all would take
  strata plan --format json | jq -r '.nodes[] | select(.state == \"stale\") | .label'"
)]
pub struct PlanCommand {
    /// Stages, or STAGE[NAME,NAME…]; all where none is given
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<String>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Add what a run would take, as `strata run --dry-run` says it
    #[arg(long)]
    estimate: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The layout of the JSON. It is raised when what is there changes its meaning.
const FORMAT: u32 = 1;

impl PlanCommand {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        let wanted = workspace.select(&self.targets)?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        plan.expand_all(&wanted)?;
        workspace.store.keep_fingerprints();
        let waves = waves(&plan, &wanted);
        let estimate = match self.estimate {
            true => {
                let jobs = std::thread::available_parallelism().map_or(1, usize::from);
                estimate::of(&workspace, &wanted, &plan, jobs)?
            }
            false => None,
        };
        match self.format {
            Format::Json => {
                let nodes: Vec<Value> =
                    wanted.iter().map(|id| node_json(&workspace, &mut plan, &waves, id)).collect::<Result<_>>()?;
                let mut object = json!({
                    "format": FORMAT,
                    "pipeline": std::path::absolute(place.pipeline())?,
                    "store": workspace.store.layout.root(),
                    "waves": wave_count(&waves, &wanted),
                    "nodes": nodes,
                });
                if let Some(estimate) = estimate {
                    object["estimate"] = estimate.to_json();
                }
                say!("{object}");
            }
            Format::Text => {
                print_waves(&plan, &waves, &wanted)?;
                if let Some(estimate) = estimate {
                    say!("\n{}", estimate.text("what it would take"));
                }
            }
        }
        Ok(Outcome::Done)
    }
}

fn wave_count(waves: &PerNode<Option<usize>>, wanted: &NodeSet) -> usize {
    wanted.iter().filter_map(|id| waves[id]).max().map_or(0, |last| last + 1)
}

fn node_json(workspace: &Workspace, plan: &mut Plan, waves: &PerNode<Option<usize>>, id: NodeId) -> Result<Value> {
    let node = workspace.graph.node(id);
    let labels = |ids: Vec<NodeId>| -> Vec<String> {
        let mut labels: Vec<String> = ids.into_iter().map(|id| workspace.graph.node(id).label()).collect();
        labels.dedup();
        labels
    };
    let waits_for = labels(plan.waits_for(id).collect());
    let reads = labels(node.upstream().collect());
    let stale: Vec<String> = plan.state(id).stale().map(|(_, key)| key.to_string()).collect();
    let groups = if stale.is_empty() { Vec::new() } else { groups(plan, id)?.unwrap_or_default() };
    // Of 56 bits, so that a reader whose numbers are floats has all of them.
    let stale =
        stale.into_iter().zip(groups).map(|(key, group)| json!({ "key": key, "group": format!("{group:014x}") }));
    let stale: Vec<Value> = stale.collect();
    let state = match plan.state(id) {
        NodeState::Waiting => "waiting",
        NodeState::Expanded { .. } => "stale",
        NodeState::Finished { .. } => "fresh",
    };
    let fresh: Vec<String> = plan.state(id).done().iter().map(ToString::to_string).collect();
    Ok(json!({
        "label": node.label(),
        "stage": node.stage.name,
        "state": state,
        "wave": waves[id],
        "reads": reads,
        "waits_for": waits_for,
        "fresh": fresh,
        "stale": stale,
        "passes_a_model": matches!(node.stage.work, strata_stages::Work::Watch(_)),
        "resources": resources_json(workspace.manifest.executor.resources(node.stage.name)),
    }))
}

fn print_waves(plan: &Plan, waves: &PerNode<Option<usize>>, wanted: &NodeSet) -> Result<()> {
    let count = wave_count(waves, wanted);
    if count == 0 {
        say!("nothing is stale");
        return Ok(());
    }
    say!("{:>4}  {:<24} {:>6} {:>6} {:>8}", "wave", "stage", "nodes", "stale", "waiting");
    for wave in 0..count {
        let mut stages: Vec<(&str, [usize; 3])> = Vec::new();
        for id in wanted.iter().filter(|id| waves[*id] == Some(wave)) {
            let name = plan.graph.node(id).stage.name;
            let stale = plan.state(id).stale().count();
            let at = stages.iter().position(|(stage, _)| *stage == name).unwrap_or_else(|| {
                stages.push((name, [0; 3]));
                stages.len() - 1
            });
            let row = &mut stages[at].1;
            row[0] += 1;
            row[1] += stale;
            row[2] += usize::from(stale == 0);
        }
        for (stage, [nodes, stale, waiting]) in stages {
            say!("{wave:>4}  {stage:<24} {nodes:>6} {stale:>6} {waiting:>8}");
        }
    }
    say!("(a waiting node's tasks are known when what it reads is done)");
    Ok(())
}
