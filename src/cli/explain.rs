//! `strata explain`

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::say::say;
use super::{Outcome, Place, complete, parse_targets, usage};
use crate::graph::NodeId;
use crate::plan::Plan;
use crate::staleness::{Reason, Standing, causes, origin, standing};

/// Say exactly which input or parameter of a target differs from the last record
#[derive(Args)]
#[command(after_help = "Examples:
  strata explain directions
  strata explain 'hidden_states[base,insecure]'")]
pub struct Explain {
    /// A stage, or STAGE[NAME,NAME…]
    #[arg(required = true, add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<String>,
}

impl Explain {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        plan.expand_all(&workspace.select(&self.targets)?)?;
        let mut causes = BTreeSet::new();
        let mut said = BTreeSet::new();
        for target in parse_targets(&self.targets)? {
            for id in workspace.graph.find(&target).map_err(usage)? {
                said.insert(id);
                causes.extend(explain(&mut plan, id, usize::MAX)?);
            }
        }
        // What the targets wait for in the end, once for all of them.
        for cause in causes.difference(&said) {
            explain(&mut plan, *cause, 1)?;
        }
        workspace.store.keep_fingerprints();
        Ok(Outcome::Done)
    }
}

/// Says how a node stands, and of its stale tasks why so many of them are; returns the nodes that keep it waiting.
fn explain(plan: &mut Plan, id: NodeId, tasks: usize) -> Result<Vec<NodeId>> {
    let graph = plan.graph;
    let label = graph.node(id).label();
    let stale = match standing(plan, id)? {
        Standing::Fresh { tasks } => {
            say!("{label}: fresh ({tasks} tasks)");
            return Ok(Vec::new());
        }
        Standing::Absent(what) => {
            say!("{label}: {what}");
            return Ok(Vec::new());
        }
        Standing::Waits(upstream) => {
            let upstream: BTreeSet<String> = upstream.into_iter().map(|id| graph.node(id).label()).collect();
            say!("{label}: waits for {}", some(&upstream.into_iter().collect::<Vec<_>>()));
            return Ok(causes(plan, id));
        }
        Standing::Stale(stale) => stale,
    };
    for task in stale.stale.iter().take(tasks) {
        let name = plan.task_label(*task);
        match stale.reason(plan, *task) {
            Reason::Differs(differences) => {
                say!("{name}: stale");
                for difference in differences {
                    let from = origin(graph, id, &difference.at);
                    let from = from.map_or_else(String::new, |from| format!("   ({from})"));
                    say!("    {difference}{from}");
                }
            }
            reason => say!("{name}: {reason}"),
        }
    }
    if stale.stale.len() > tasks {
        say!("    and {} more of its {} tasks", stale.stale.len() - tasks, stale.tasks);
    }
    Ok(Vec::new())
}

/// The first few names, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{} and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}
