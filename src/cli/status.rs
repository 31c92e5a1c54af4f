//! `strata status`, and what `run --dry-run` shows.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use super::say::say;
use super::{Outcome, Place, Workspace, estimate};
use crate::explain::differences;
use crate::latest;
use crate::plan::Plan;

/// Show every stage: fresh, stale or missing, in how many blocks, and why
#[derive(Args)]
#[command(after_help = "Examples:
  strata status
  strata status hidden_states
  strata status --json")]
pub struct Status {
    /// Stages, or STAGE[NAME,NAME…]; all where none is given
    targets: Vec<String>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Row {
    nodes: usize,
    fresh: usize,
    stale: usize,
    missing: usize,
    waiting: usize,
    why: Option<String>,
}

impl Status {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        let wanted = workspace.select(&self.targets)?;
        show(&workspace, &wanted, self.json, false)
    }
}

/// Prints the state of the wanted nodes by stage; with `tasks`, every node that would run and what all would take.
pub fn show(workspace: &Workspace, wanted: &[bool], json: bool, tasks: bool) -> Result<Outcome> {
    let mut plan = Plan::new(&workspace.graph, &workspace.store);
    plan.expand_all(wanted)?;
    workspace.store.keep_fingerprints();
    let mut order: Vec<&'static str> = Vec::new();
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    for (index, node) in workspace.graph.nodes.iter().enumerate().filter(|(index, _)| wanted[*index]) {
        if !order.contains(&node.node.stage) {
            order.push(node.node.stage);
        }
        let row = rows.entry(node.node.stage).or_default();
        row.nodes += 1;
        let state = &plan.states[index];
        if !state.expanded {
            row.waiting += 1;
            let before = node.upstream().find(|upstream| plan.states[*upstream].outputs.is_none());
            let before = before.map(|upstream| format!("waits for {}", workspace.graph.nodes[upstream].label()));
            row.why = row.why.take().or(node.absent().map(str::to_string)).or(before);
            continue;
        }
        let fresh = state.tasks.iter().filter(|task| task.outputs.is_some()).count();
        row.fresh += fresh;
        if fresh < state.tasks.len() {
            let old = latest::read(&workspace.store, &node.label());
            if old.is_empty() {
                row.missing += state.tasks.len() - fresh;
            } else {
                row.stale += state.tasks.len() - fresh;
            }
            let reason = reason(workspace, &mut plan, index, &old)?;
            if tasks && !json {
                say!("would run {}: {reason}", node.label());
            }
            row.why = row.why.take().or(Some(reason));
        }
    }
    let estimate = if tasks { estimate::of(workspace, wanted, &plan)? } else { None };
    if json {
        let object = |row: &Row| {
            serde_json::json!({ "nodes": row.nodes, "fresh": row.fresh, "stale": row.stale,
                "missing": row.missing, "waiting": row.waiting, "why": row.why })
        };
        let stages: serde_json::Map<_, _> = rows.iter().map(|(name, row)| (name.to_string(), object(row))).collect();
        let mut object = serde_json::json!({ "stages": stages });
        if let Some(estimate) = estimate {
            object["estimate"] = estimate.to_json();
        }
        say!("{object}");
        return Ok(Outcome::Done);
    }
    say!("{:<24} {:>6} {:>6} {:>6} {:>8} {:>8}  why", "stage", "nodes", "fresh", "stale", "missing", "waiting");
    for stage in order {
        let row = &rows[stage];
        let why = row.why.as_deref().unwrap_or("");
        say!(
            "{stage:<24} {:>6} {:>6} {:>6} {:>8} {:>8}  {why}",
            row.nodes,
            row.fresh,
            row.stale,
            row.missing,
            row.waiting
        );
    }
    if rows.values().any(|row| row.waiting > 0) {
        say!("(fresh, stale and missing count tasks; a waiting node's tasks are known when what it reads is)");
    }
    if let Some(estimate) = estimate {
        estimate.print()?;
    }
    Ok(Outcome::Done)
}

fn reason(workspace: &Workspace, plan: &mut Plan, index: usize, old: &[crate::key::Key]) -> Result<String> {
    let records: Vec<_> = old.iter().filter_map(|key| workspace.store.record(*key)).collect();
    let inputs = plan.inputs(index)?;
    let Some(task) = plan.states[index].tasks.iter().position(|task| task.outputs.is_none()) else {
        return Ok(String::new());
    };
    if workspace.store.record(plan.states[index].tasks[task].key).is_some() {
        return Ok("an object of its record is missing or damaged".into());
    }
    let now = plan.document(index, &plan.task_inputs(index, task, &inputs));
    let nearest = records.iter().map(|record| differences(&record.document, &now)).min_by_key(Vec::len);
    Ok(match nearest.as_deref() {
        None => "never ran".into(),
        Some([]) => "its record is gone".into(),
        Some([first]) => format!("{} {} -> {}", first.at, first.before, first.now),
        Some([first, rest @ ..]) => {
            format!("{} {} -> {}, and {} more", first.at, first.before, first.now, rest.len())
        }
    })
}
