//! `strata explain`

use anyhow::Result;
use clap::Args;

use super::say::say;
use super::{Outcome, Place, Workspace, parse_targets, usage};
use crate::explain::{differences, origin};
use crate::latest;
use crate::plan::Plan;

/// Say exactly which input or parameter of a target differs from the last record
#[derive(Args)]
#[command(after_help = "Examples:
  strata explain directions
  strata explain 'hidden_states[base,insecure]'")]
pub struct Explain {
    /// A stage, or STAGE[NAME,NAME…]
    #[arg(required = true)]
    targets: Vec<String>,
}

impl Explain {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        plan.expand_all(&workspace.select(&self.targets)?)?;
        for target in parse_targets(&self.targets)? {
            for index in workspace.graph.find(&target).map_err(usage)? {
                explain_node(&workspace, &mut plan, index)?;
            }
        }
        workspace.store.keep_fingerprints();
        Ok(Outcome::Done)
    }
}

fn explain_node(workspace: &Workspace, plan: &mut Plan, index: usize) -> Result<()> {
    let node = &workspace.graph.nodes[index];
    let label = node.label();
    if !plan.states[index].expanded {
        let stale: Vec<String> = node
            .upstream()
            .filter(|upstream| plan.states[*upstream].outputs.is_none())
            .map(|upstream| workspace.graph.nodes[upstream].label())
            .collect();
        say!("{label}: waits for {}", stale.join(", "));
        return Ok(());
    }
    if plan.states[index].outputs.is_some() {
        say!("{label}: fresh ({} tasks)", plan.states[index].tasks.len());
        return Ok(());
    }
    let inputs = plan.inputs(index)?;
    let before: Vec<_> = latest::read(&workspace.store, &label);
    let old: Vec<_> = before.iter().filter_map(|key| workspace.store.record(*key)).collect();
    let tasks = plan.states[index].tasks.len();
    for task in 0..tasks {
        let state = &plan.states[index].tasks[task];
        if state.outputs.is_some() {
            continue;
        }
        let name = if tasks > 1 { format!("{label} block {}/{tasks}", task + 1) } else { label.clone() };
        if let Some(record) = workspace.store.record(state.key) {
            let lost = record.outputs.iter().filter(|o| workspace.store.check(o) != crate::store::ObjectState::Sound);
            say!("{name}: its record is there, but {} of its objects are missing or damaged", lost.count());
            continue;
        }
        let now = plan.document(index, &plan.task_inputs(index, task, &inputs));
        // Of several blocks, the one that differs least is the one this was.
        let nearest = old.iter().map(|record| differences(&record.document, &now)).min_by_key(Vec::len);
        match nearest {
            None => say!("{name}: missing, there is no earlier record"),
            Some(found) => {
                say!("{name}: stale");
                for difference in found {
                    let from = origin(&workspace.graph, index, &difference.at);
                    let from = from.map_or_else(String::new, |from| format!("   ({from})"));
                    say!("    {}: {} -> {}{from}", difference.at, difference.before, difference.now);
                }
            }
        }
    }
    Ok(())
}
