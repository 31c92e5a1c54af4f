//! `strata run`

use std::time::SystemTime;

use anyhow::Result;
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use strata_stages::STAGES;

use super::say::say;
use super::{Outcome, Place, Workspace, complete, interrupt, sharing, slurm};
use crate::graph::NodeSet;
use crate::manifest::Manifest;
use crate::manifest::remotes::RemoteSetting;
use crate::notices;
use crate::plan::Plan;
use crate::progress::{Progress, Verbosity, duration};
use crate::remote::lookup::Lookup;
use crate::run::rounds::Work;
use crate::run::{self, Options, Remotes, Summary};
use crate::store::layout::Layout;
use crate::store::views;
use crate::unchanged;

/// Run every stage whose inputs or parameters changed, and nothing else
#[derive(Args)]
#[command(after_help = "Examples:
  strata run                                   everything pipeline.toml asks for
  strata run projections                       one stage and what it reads
  strata run 'hidden_states[base,insecure]'    one model and dataset of a stage
  strata run 'direct*' 'tokens[*,*code*]'      stages and names by pattern
  strata run --dry-run                         what would run, why, and what it would take (fetches configurations alone)
  strata run --executor slurm                  as jobs of a cluster
  strata run --json 2>/dev/null                counts for a program to read")]
pub struct Run {
    /// Stages, or STAGE[NAME,NAME…]; all where none is given
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<String>,
    /// Tasks at once, and threads within a model's pass [default: the machine's cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Say what is stale and what it would take, and run nothing; weights and datasets need not be there
    #[arg(long)]
    dry_run: bool,
    /// Go on with what does not depend on a failed task
    #[arg(short, long)]
    keep_going: bool,
    /// Run the targets' tasks (all, without targets) even where their results are there
    #[arg(long)]
    force: bool,
    /// Where tasks run: here, or as Slurm's jobs with what [executor.slurm] asks for
    #[arg(long, value_enum, default_value = "local", value_name = "WHERE")]
    executor: Executor,
    /// Look into no remote, send nothing, and fetch nothing from the hub
    #[arg(long)]
    offline: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Executor {
    Local,
    Slurm,
}

impl Run {
    /// `strata run`, without a word more.
    pub fn everything() -> Run {
        Run {
            targets: Vec::new(),
            jobs: None,
            dry_run: false,
            keep_going: false,
            force: false,
            offline: false,
            executor: Executor::Local,
            json: false,
        }
    }

    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let everything = self.targets.is_empty() && !self.force && !self.dry_run;
        let layout = place.layout()?;
        if everything && let Some(summary) = unchanged::recall(&layout, place.pipeline(), STAGES) {
            self.print(place, &layout, None, &summary)?;
            return Ok(Outcome::Done);
        }
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let on_slurm = self.executor == Executor::Slurm;
        if on_slurm {
            slurm::check_usage(self.force, self.jobs.is_some())?;
        }
        if self.dry_run {
            let Some((of_hub, troubles)) = place.ask_hub(self.offline)? else { return Ok(Outcome::Interrupted) };
            if let Some(trouble) = troubles.into_iter().next() {
                return Err(trouble.into_error(&Manifest::parse(place.pipeline())?));
            }
            let workspace = place.open_to_estimate_with(of_hub)?;
            let wanted = workspace.select(&self.targets)?;
            let outcome = super::status::show(&workspace, &wanted, self.json, super::status::Shown::Estimate { jobs })?;
            if on_slurm && !self.json {
                for line in slurm::preview(&workspace, &wanted)? {
                    say!("{line}");
                }
            }
            return Ok(outcome);
        }
        let remotes_of = |workspace: &Workspace| match self.offline {
            true => Vec::new(),
            false => workspace.manifest.remotes.clone(),
        };
        let Some(workspace) = place.open_to_run(&self.targets, self.offline, remotes_of)? else {
            return Ok(Outcome::Interrupted);
        };
        let wanted = workspace.select(&self.targets)?;
        // Already built only when a test harness calls twice in one process; the first size stays.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(jobs).build_global();
        if on_slurm {
            interrupt::listen("cancelling the jobs; again to leave them")?;
            interrupt::leave_other_signals();
        } else {
            interrupt::listen("stopping after the tasks under way; again to stop at once")?;
        }

        workspace.store.trust.check_own()?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        workspace.store.register(place.pipeline(), &workspace.graph)?;
        let settings = if self.offline { &[] } else { workspace.manifest.remotes.as_slice() };
        if on_slurm {
            return self.on_slurm(place, &workspace, &wanted, settings);
        }
        let (force, here) = (self.forced(&workspace, &wanted)?, workspace.asked(&self.targets)?);
        let options = Options { jobs, keep_going: self.keep_going, force, share: None, here, compute: true };
        let progress = Progress::new(place.verbosity);
        let work = Work { graph: &workspace.graph, store: &workspace.store, wanted: &wanted };
        let mut announced = place.verbosity == Verbosity::Quiet;
        let cancelled = &interrupt::cancelled;
        let ((plan, summary), unsent) = sharing::beside(work.store, settings, &progress, cancelled, |remotes| {
            run::rounds::run(work, &options, remotes, &progress, cancelled, &mut |plan| {
                if !std::mem::replace(&mut announced, true) {
                    announce(&workspace, &wanted, plan, jobs);
                }
            })
        })?;
        progress.finish();
        let shared = !workspace.manifest.remotes.is_empty() || workspace.manifest.lock.is_written();
        if shared
            && summary.failures.is_empty()
            && !summary.interrupted
            && let Err(error) = workspace.write_lock(&plan)
        {
            // A colleague's pipeline may lie where one cannot write.
            place.note(format_args!("{error:#}"))?;
        }
        if self.targets.is_empty() && summary.failures.is_empty() && !summary.interrupted {
            views::prune(&workspace.store, &workspace.graph)?;
            // Only a run that found everything fresh knows that no input changed under it; and what was not sent is to be
            // tried again.
            if summary.all_fresh() && unsent == 0 && !self.offline {
                unchanged::remember(&plan, place.pipeline())?;
            }
        }
        self.print(place, &layout, Some(&plan), &summary)?;
        Ok(outcome(&summary))
    }

    fn on_slurm(
        &self,
        place: &Place,
        workspace: &Workspace,
        wanted: &NodeSet,
        settings: &[RemoteSetting],
    ) -> Result<Outcome> {
        if !settings.is_empty() {
            // What remotes have needs no job.
            let (none, here) = (workspace.graph.none(), workspace.asked(&self.targets)?);
            let options = Options { jobs: 1, keep_going: true, force: none, share: None, here, compute: false };
            let progress = Progress::new(place.verbosity);
            let work = Work { graph: &workspace.graph, store: &workspace.store, wanted };
            let mut remotes = Remotes { settings, lookup: Some(Lookup::new(settings)?), sending: Vec::new() };
            run::rounds::run(work, &options, &mut remotes, &progress, &interrupt::cancelled, &mut |_| ())?;
            progress.finish();
        }
        let (plan, summary) = slurm::run(place, workspace, wanted, &self.targets, self.keep_going)?;
        if self.targets.is_empty() && summary.failures.is_empty() && !summary.interrupted {
            views::prune(&workspace.store, &workspace.graph)?;
        }
        self.print(place, &workspace.store.layout, Some(&plan), &summary)?;
        Ok(outcome(&summary))
    }

    fn forced(&self, workspace: &Workspace, wanted: &NodeSet) -> Result<NodeSet> {
        let mut forced = workspace.graph.none();
        if !self.force {
            return Ok(forced);
        }
        if self.targets.is_empty() {
            return Ok(wanted.clone());
        }
        for target in super::parse_targets(&self.targets)? {
            workspace.graph.find(&target).map_err(super::usage)?.into_iter().for_each(|id| forced.insert(id));
        }
        Ok(forced)
    }

    /// The summary on standard output, and below it why tasks failed.
    fn print(&self, place: &Place, layout: &Layout, plan: Option<&Plan>, summary: &Summary) -> Result<()> {
        if self.json {
            say!("{}", run::to_json(summary));
        } else if place.verbosity != Verbosity::Quiet {
            print_stages(summary)?;
            print_results(layout, plan, summary)?;
        }
        for (label, error) in &summary.failures {
            super::complain(format_args!("{label}: {error:#}"));
        }
        Ok(())
    }
}

fn outcome(summary: &Summary) -> Outcome {
    match summary {
        Summary { interrupted: true, .. } => Outcome::Interrupted,
        Summary { failures, .. } if !failures.is_empty() => Outcome::TaskFailed,
        _ => Outcome::Done,
    }
}

/// How many tasks of each stage ran, and how long they took.
pub fn print_stages(summary: &Summary) -> Result<()> {
    if summary.stages.values().all(|counts| counts.ran + counts.fetched + counts.failed == 0) {
        return Ok(());
    }
    // Of use only where there are remotes.
    let fetched = summary.stages.values().any(|counts| counts.fetched > 0);
    let column = |text: &str| if fetched { format!(" {text:>7}") } else { String::new() };
    say!("{:<24} {:>6} {:>6}{} {:>6} {:>9}", "stage", "ran", "cached", column("fetched"), "failed", "seconds");
    let known = STAGES.iter().map(|stage| stage.name);
    for (stage, counts) in known.filter_map(|stage| summary.stages.get_key_value(stage)) {
        let run::Counts { ran, cached, failed, seconds, .. } = counts;
        let fetched = column(&counts.fetched.to_string());
        say!("{stage:<24} {ran:>6} {cached:>6}{fetched} {failed:>6} {seconds:>9.2}");
    }
    Ok(())
}

fn print_results(layout: &Layout, plan: Option<&Plan>, summary: &Summary) -> Result<()> {
    let total = |count: fn(&run::Counts) -> usize| summary.stages.values().map(count).sum::<usize>();
    let (ran, cached, failed) = (total(|c| c.ran), total(|c| c.cached), total(|c| c.failed));
    if ran > 0
        && let Some(plan) = plan
    {
        for notice in notices::of(plan) {
            say!("{notice}");
        }
    }
    let took = match summary.seconds {
        seconds if seconds < 60.0 => format!("{seconds:.2} s"),
        seconds => duration(seconds),
    };
    let fetched = match total(|c| c.fetched) {
        0 => String::new(),
        fetched => format!("{fetched} fetched ({:.1} MB), ", summary.bytes_fetched as f64 / 1e6),
    };
    say!("{ran} ran, {fetched}{cached} were fresh, {failed} failed in {took}, {}", super::when(SystemTime::now()));
    if summary.interrupted {
        say!("stopped; what was finished is kept, and the next run goes on from there");
    } else if summary.unreached > 0 {
        say!("{} nodes were not reached", summary.unreached);
    }
    say!("tables: {}", layout.tables().display());
    for stage in STAGES {
        // A page that an earlier run made is not what this one came to.
        let finished = plan.is_none_or(|plan| {
            let mut own = plan.graph.ids().filter(|id| plan.graph.node(*id).stage.name == stage.name);
            own.any(|id| plan.state(id).outputs().is_some())
        });
        if let Some(front) = layout.front(stage).filter(|front| finished && front.exists()) {
            say!("{}: {}", stage.name, front.display());
        }
    }
    Ok(())
}

/// Says what comparing the examples will take, where that is much.
fn announce(workspace: &Workspace, wanted: &NodeSet, plan: &Plan, jobs: usize) {
    // A model that cannot be read fails its own tasks, not the run.
    if let Ok(Some(estimate)) = super::estimate::of_demanding(workspace, wanted, plan, jobs) {
        eprintln!("{}\n", estimate.text("comparing the examples takes"));
    }
}
