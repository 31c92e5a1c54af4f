//! `strata status`, and what `run --dry-run` shows.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::say::say;
use super::{Outcome, Place, Workspace, complete, estimate, slurm};
use crate::graph::NodeSet;
use crate::plan::Plan;
use crate::progress::Verbosity;
use crate::staleness::{Standing, standing};

/// Show every stage: fresh, stale or missing, in how many tasks, and why
#[derive(Args)]
#[command(after_help = "Examples:
  strata status
  strata status hidden_states
  strata status --json")]
pub struct Status {
    /// Stages, or STAGE[NAME,NAME…]; all where none is given
    #[arg(add = ArgValueCompleter::new(complete::targets))]
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
        // The program ends with it. To give the memory of a hundred thousand nodes back piece by piece takes a tenth of the time.
        let workspace = ManuallyDrop::new(place.open()?);
        let wanted = workspace.select(&self.targets)?;
        let shown = if place.verbosity == Verbosity::Verbose { Shown::Nodes } else { Shown::Stages };
        let outcome = show(&workspace, &wanted, self.json, shown)?;
        if !self.json {
            for line in slurm::standing(&workspace) {
                say!("{line}");
            }
        }
        Ok(outcome)
    }
}

/// What is shown beside the state of each stage.
#[derive(Clone, Copy, PartialEq)]
pub enum Shown {
    Stages,
    /// Every node that would run, and why.
    Nodes,
    /// The same, and what all would take with so many tasks at once.
    Estimate {
        jobs: usize,
    },
}

/// Prints the state of the wanted nodes by stage.
pub fn show(workspace: &Workspace, wanted: &NodeSet, json: bool, shown: Shown) -> Result<Outcome> {
    let mut plan = ManuallyDrop::new(Plan::new(&workspace.graph, &workspace.store));
    plan.expand_all(wanted)?;
    workspace.store.keep_fingerprints();
    let elsewhere: usize = wanted.iter().map(|id| plan.state(id).elsewhere().len()).sum();
    let mut order: Vec<&'static str> = Vec::new();
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    for id in wanted.iter() {
        let node = workspace.graph.node(id);
        if !order.contains(&node.stage.name) {
            order.push(node.stage.name);
        }
        let row = rows.entry(node.stage.name).or_default();
        row.nodes += 1;
        let why = match standing(&mut plan, id)? {
            Standing::Fresh { tasks } => {
                row.fresh += tasks;
                continue;
            }
            Standing::Absent(what) => {
                row.waiting += 1;
                what
            }
            Standing::Waits(_) if row.why.is_some() => {
                row.waiting += 1;
                continue;
            }
            Standing::Waits(upstream) => {
                row.waiting += 1;
                let first = upstream.first().map(|id| workspace.graph.node(*id).label());
                format!("waits for {}", first.unwrap_or_default())
            }
            Standing::Stale(stale) => {
                row.fresh += stale.tasks - stale.stale.len();
                *if stale.was_shown() { &mut row.stale } else { &mut row.missing } += stale.stale.len();
                let said = shown != Shown::Stages && !json;
                if row.why.is_some() && !said {
                    continue;
                }
                let reason = stale.reason(&plan, stale.stale[0]).to_string();
                if said {
                    say!("would run {}: {reason}", node.label());
                }
                reason
            }
        };
        row.why.get_or_insert(why);
    }
    let estimate = match shown {
        Shown::Estimate { jobs } => estimate::of(workspace, wanted, &plan, jobs)?,
        Shown::Stages | Shown::Nodes => None,
    };
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
        if let Some(jobs) = slurm::standing_json(workspace) {
            object["jobs"] = jobs;
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
    if elsewhere > 0 {
        say!(
            "(the results of {elsewhere} fresh tasks are in a remote and not here; `strata pull STAGE` brings a stage's)"
        );
    }
    if let Some(estimate) = estimate {
        say!("\n{}", estimate.text("what it would take"));
    } else if let (Shown::Estimate { .. }, Some(why)) = (shown, estimate::unknown(workspace)) {
        say!("\n{why}");
    }
    Ok(Outcome::Done)
}
