//! `strata explain`

use std::cell::OnceCell;
use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::say::say;
use super::{Outcome, Place, complete, parse_targets, usage};
use crate::graph::NodeId;
use crate::plan::Plan;
use crate::provenance::lineage::Lineage;
use crate::staleness::{Difference, Reason, Standing, What, causes, origin, origin_node, standing};

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
        let records = OnceCell::new();
        let mut causes = BTreeSet::new();
        let mut said = BTreeSet::new();
        for target in parse_targets(&self.targets)? {
            for id in workspace.graph.find(&target).map_err(usage)? {
                said.insert(id);
                causes.extend(explain(&mut plan, &records, id, usize::MAX)?);
            }
        }
        // What the targets wait for in the end, once for all of them.
        for cause in causes.difference(&said) {
            explain(&mut plan, &records, *cause, 1)?;
        }
        workspace.store.keep_fingerprints();
        Ok(Outcome::Done)
    }
}

/// All of the store's records, read when they are first asked for.
type Records<'a> = OnceCell<Lineage<'a>>;

/// From a column that differs through the tasks that made it then and now to the file or the parameter that changed. Says what it
/// meets on the way; returns whether there was such a column.
fn follow<'a>(plan: &Plan<'a>, records: &Records<'a>, id: NodeId, differences: &[Difference]) -> Result<bool> {
    let (graph, mut id, mut met) = (plan.graph, id, false);
    let mut differences = differences.to_vec();
    loop {
        let of_column = differences.iter().find_map(|difference| {
            let What::Column { name, before: Some(before), now: Some(now) } = &difference.what else { return None };
            Some((origin_node(graph, id, &difference.at)?, name, before, now))
        });
        let Some((upstream, name, before, now)) = of_column else { return Ok(met) };
        let lineage = records.get_or_init(|| Lineage::of_keys(plan.store, plan.store.keys().unwrap_or_default()));
        let maker = |hash: &str| lineage.maker_of_column(graph.node(upstream).stage.name, name, hash);
        let (Some(then), Some(now)) = (maker(before), maker(now)) else { return Ok(met) };
        differences = crate::staleness::differences(&then.document, &now.document);
        if differences.is_empty() {
            return Ok(met);
        }
        id = upstream;
        met = true;
        let label = graph.node(id).label();
        for difference in &differences {
            let from = origin(graph, id, &difference.at);
            let from = from.map_or_else(String::new, |from| format!("   ({from})"));
            say!("        because of {label}: {difference}{from}");
        }
    }
}

/// Says how a node stands, and of its stale tasks why so many of them are; returns the nodes that keep it waiting.
fn explain<'a>(plan: &mut Plan<'a>, records: &Records<'a>, id: NodeId, tasks: usize) -> Result<Vec<NodeId>> {
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
    let mut followed = false;
    for task in stale.stale.iter().take(tasks) {
        let name = plan.task_label(*task);
        match stale.reason(plan, *task) {
            Reason::Differs(differences) => {
                say!("{name}: stale");
                for difference in &differences {
                    let from = origin(graph, id, &difference.at);
                    let from = from.map_or_else(String::new, |from| format!("   ({from})"));
                    say!("    {difference}{from}");
                }
                if !followed {
                    followed = follow(plan, records, id, &differences)?;
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
