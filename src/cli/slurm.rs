//! `strata run --executor slurm`

use std::collections::HashSet;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use strata_stages::PlanError;

use super::{Place, Workspace, interrupt, usage};
use crate::cluster::drive::{Driver, Ended};
use crate::cluster::jobs::{self, JobArray, Jobs, StepJobs};
use crate::cluster::scheduler::Scheduler;
use crate::cluster::slurm::Slurm;
use crate::cluster::steps::{Step, steps};
use crate::cluster::words::{asked, line};
use crate::graph::NodeSet;
use crate::key::Key;
use crate::plan::Plan;
use crate::progress::{Progress, Verbosity};
use crate::run::{self, Options, Remotes, Shard, Share, Summary};

/// Runs what is stale as jobs, and shows what came of it.
///
/// # Errors
/// When Slurm or the store cannot be used; failures of jobs are in the summary.
pub fn run<'a>(
    place: &Place,
    workspace: &'a Workspace,
    wanted: &NodeSet,
    targets: &[String],
    keep_going: bool,
) -> Result<(Plan<'a>, Summary)> {
    let store = &workspace.store;
    let _submitting = jobs::lock(store)?;
    let quiet = place.verbosity == Verbosity::Quiet;
    let say = |text: String| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    let driver = Driver {
        scheduler: &Slurm,
        store,
        program: std::env::current_exe()?,
        pipeline: std::path::absolute(place.pipeline())?,
        targets: targets.to_vec(),
        keep_going,
        say: &say,
        shortest: Driver::pause(),
    };
    let started = std::time::Instant::now();
    let mut plan = Plan::new(&workspace.graph, store);
    plan.expand_all(wanted)?;
    // What a remote has is fetched by the jobs that read it, and does not run.
    let elsewhere = plan.states().flat_map(|(_, state)| state.elsewhere()).map(|(_, key, _)| key);
    let before: HashSet<Key> = plan.states().flat_map(|(_, state)| state.done()).chain(elsewhere).collect();
    let mut failures = Vec::new();
    let mut interrupted = false;
    if let Some(mut jobs) = Jobs::load(store, &workspace.manifest.executor).filter(|jobs| jobs.open().next().is_some())
    {
        let under_way = driver.attach(&mut jobs)?;
        if under_way > 0 {
            say(format!("going on with {under_way} job arrays that are under way since {}", jobs.at));
        }
        interrupted = follow(&driver, &mut jobs, &mut failures)?;
        plan = replan(workspace, wanted)?;
    }
    let mut undone = undone_tasks(&plan, wanted);
    while !interrupted && failures.is_empty() && undone > 0 {
        let steps = steps(&mut plan, wanted, &workspace.manifest.executor)?;
        let known: HashSet<Key> = plan.states().flat_map(|(_, state)| state.done()).collect();
        let mut jobs = Jobs::new();
        interrupted = match driver.submit_all(&mut jobs, steps) {
            // Ctrl-C may reach an sbatch before it has a process group of its own. What was submitted is cancelled.
            Err(_) if interrupt::cancelled() => true,
            submitted => submitted.and_then(|()| follow(&driver, &mut jobs, &mut failures))?,
        };
        plan = replan(workspace, wanted)?;
        undone = undone_tasks(&plan, wanted);
        let nothing_new = plan.states().flat_map(|(_, state)| state.done()).all(|key| known.contains(&key));
        if undone > 0 && nothing_new && failures.is_empty() && !interrupted {
            bail!(
                "the jobs ended and the store has nothing new: does every node see {} under this path? Their logs are in {}",
                store.layout.root().display(),
                jobs::logs(store).display()
            );
        }
    }
    let mut summary = collect(workspace, wanted, &mut plan, &before)?;
    summary.failures = failures;
    summary.interrupted = interrupted;
    summary.seconds = started.elapsed().as_secs_f64();
    Ok((plan, summary))
}

/// Returns whether the user stopped.
fn follow(driver: &Driver, jobs: &mut Jobs, failures: &mut Vec<(String, anyhow::Error)>) -> Result<bool> {
    match driver.follow(jobs, &interrupt::cancelled)? {
        Ended::Cancelled => Ok(true),
        Ended::Over(failed) => {
            failures.extend(failed.into_iter().map(|failure| (failure.label, anyhow::Error::msg(failure.why))));
            Ok(false)
        }
    }
}

fn replan<'a>(workspace: &'a Workspace, wanted: &NodeSet) -> Result<Plan<'a>> {
    let mut plan = Plan::new(&workspace.graph, &workspace.store);
    plan.expand_all(wanted)?;
    Ok(plan)
}

/// Nodes that are not finished.
fn undone_tasks(plan: &Plan, wanted: &NodeSet) -> usize {
    wanted.iter().filter(|id| plan.state(*id).outputs().is_none()).count()
}

/// Shows what is finished. What was not done `before` ran.
fn collect<'a>(
    workspace: &'a Workspace,
    wanted: &NodeSet,
    plan: &mut Plan<'a>,
    before: &HashSet<Key>,
) -> Result<Summary> {
    *plan = Plan::new(&workspace.graph, &workspace.store);
    let (none, patience) = (workspace.graph.none(), std::time::Duration::ZERO);
    // A share of nothing: what is not done stays so.
    let share = Share { shard: Shard::WHOLE, nodes: none.clone(), patience };
    let options =
        Options { jobs: 1, keep_going: false, force: none.clone(), share: Some(share), here: none, compute: true };
    let progress = Progress::new(Verbosity::Quiet);
    let mut summary = run::Run::start(plan, wanted, &options, &mut Remotes::default(), &progress)?.finish(&|| false)?;
    let mut counted = HashSet::new();
    for (id, state) in plan.states() {
        let Some(counts) = summary.stages.get_mut(plan.graph.node(id).stage.name) else { continue };
        for key in state.done() {
            if !before.contains(&key) && counted.insert(key) {
                counts.ran += 1;
                counts.cached = counts.cached.saturating_sub(1);
                counts.seconds += plan.store.record(key).map_or(0.0, |record| record.made.seconds);
            }
        }
    }
    Ok(summary)
}

/// What would be submitted, a line for each step.
///
/// # Errors
/// When a file of the user's cannot be read.
pub fn preview(workspace: &Workspace, wanted: &NodeSet) -> Result<Vec<String>> {
    let mut plan = replan(workspace, wanted)?;
    let shown = |(place, step): (usize, Step)| {
        let after: Vec<String> = step.after.iter().map(|place| (place + 1).to_string()).collect();
        let after = if after.is_empty() { String::new() } else { format!(", after {}", after.join(" and ")) };
        format!("job array {}: {} ({}{after})", place + 1, step.stages.join(", "), asked(step.shards, &step.resources))
    };
    Ok(steps(&mut plan, wanted, &workspace.manifest.executor)?.into_iter().enumerate().map(shown).collect())
}

/// The jobs of the pipeline as Slurm has them, and why it could not be asked; nothing where there are none.
fn under_way(workspace: &Workspace) -> Option<(Jobs, Option<String>)> {
    let mut jobs =
        Jobs::load(&workspace.store, &workspace.manifest.executor).filter(|jobs| jobs.open().next().is_some())?;
    let ids = jobs.open_ids();
    if ids.is_empty() {
        return Some((jobs, None));
    }
    match Slurm.states(&ids) {
        Ok(states) => {
            jobs.note(&states);
            Some((jobs, None))
        }
        Err(error) => Some((jobs, Some(format!("{error:#}")))),
    }
}

fn open_steps(jobs: &Jobs) -> impl Iterator<Item = (&StepJobs, &JobArray)> {
    let with_last = jobs.steps.iter().filter_map(|step| Some((step, step.last()?)));
    with_last.filter(|(_, array)| !array.settled && !array.is_over())
}

/// Where the jobs of the pipeline are, a line for each step that is not over; nothing where there are none.
pub fn standing(workspace: &Workspace) -> Vec<String> {
    let Some((jobs, silent)) = under_way(workspace) else { return Vec::new() };
    let mut lines = vec![format!("jobs of `strata run --executor slurm`, since {}:", jobs.at)];
    lines.extend(silent.map(|why| format!("  {why}; as they were last seen:")));
    lines.extend(open_steps(&jobs).map(|(step, _)| format!("  {}", line(step))));
    if open_steps(&jobs).next().is_none() {
        lines.push("  all are over; the next run with --executor slurm sees what came of them".to_string());
    }
    lines
}

/// The same as JSON: for each step that is not over its stages, its job and the states of the job's tasks by index.
pub fn standing_json(workspace: &Workspace) -> Option<Value> {
    let (jobs, _) = under_way(workspace)?;
    let step = |(step, array): (&StepJobs, &JobArray)| json!({ "stages": step.stages, "job": array.id, "states": array.states });
    Some(open_steps(&jobs).map(step).collect())
}

/// What cannot be asked for together with jobs.
///
/// # Errors
/// Bad usage.
pub fn check_usage(force: bool, jobs: bool) -> Result<()> {
    let refuse = |option: &str, help: &str| {
        Err(usage(PlanError::new("", format!("{option} has no meaning with --executor slurm")).help(help)).into())
    };
    match (force, jobs) {
        (true, _) => refuse("--force", "run the targets here with --force, or remove what is wrong"),
        (_, true) => refuse("--jobs", "cpus in [executor.slurm] says how many threads a job has"),
        _ => Ok(()),
    }
}
