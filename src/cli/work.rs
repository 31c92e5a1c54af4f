//! `strata work`

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use clap_complete::ArgValueCompleter;
use strata_stages::PlanError;

use super::run::print_stages;
use super::say::say;
use super::{Outcome, Place, Workspace, bring, complete, interrupt, sharing, usage};
use crate::graph::NodeSet;
use crate::plan::Plan;
use crate::progress::{Progress, Verbosity, duration};
use crate::run::{self, Options, Shard, Share, Summary, rounds};

/// Do one worker's share of what is stale, on a store that several workers have in common
///
/// Tasks are shared out by their keys: started with the same pipeline and the same N, N workers do every task once, and what
/// watches a model in one pass goes to one worker. A worker goes on to what becomes ready when another's results appear
/// in the store. Without --wait it ends when nothing of its share is ready; with --wait when the whole is done.
#[derive(Args)]
#[command(after_help = "Examples:
  strata work --shard 0/4 --wait               the first of four workers that run at once
  strata work --shard $JOB_COMPLETION_INDEX/8 --wait=1h    in a Kubernetes Indexed Job
  strata work --shard 2/4 --stages projections             only this stage's tasks, as far as they are ready")]
pub struct Work {
    /// Stages, or STAGE[NAME,NAME…]; all where none is given
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<String>,
    /// Which share, and of how many; counted from 0
    #[arg(long, value_name = "I/N")]
    shard: Shard,
    /// Wait for other workers' results, at most so long after the last that appeared (90s, 30m, 2h)
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30m", value_parser = patience)]
    wait: Option<Duration>,
    /// Do only tasks of these stages; what they read has to be there or to appear
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    stages: Vec<String>,
    /// Tasks at once, and threads within a model's pass [default: the machine's cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Go on with what does not depend on a failed task
    #[arg(short, long)]
    keep_going: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Work {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let Some(pins) = place.bring(false, bring::Which::All)? else { return Ok(Outcome::Interrupted) };
        let workspace = place.open_with_pins(pins)?;
        let wanted = workspace.select(&self.targets)?;
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        // Already built only when a test harness calls twice in one process; the first size stays.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(jobs).build_global();
        interrupt::listen("stopping after the tasks under way; again to stop at once")?;

        workspace.store.trust.check_own()?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        workspace.store.register(place.pipeline(), &workspace.graph)?;
        let patience = self.wait.unwrap_or_default();
        let share = Share { shard: self.shard, nodes: self.own(&workspace, &wanted)?, patience };
        let none = workspace.graph.none();
        // One worker has the tables brought here that a remote has.
        let here = if self.shard.is_first() { workspace.asked(&self.targets)? } else { none.clone() };
        let keep_going = self.keep_going;
        let options = Options { jobs, keep_going, force: none, share: Some(share), here, compute: true };
        let progress = Progress::new(place.verbosity);
        let work = rounds::Work { graph: &workspace.graph, store: &workspace.store, wanted: &wanted };
        let (settings, cancelled) = (workspace.manifest.remotes.as_slice(), &interrupt::cancelled);
        let ((plan, summary), _) = sharing::beside(work.store, settings, &progress, cancelled, |remotes| {
            rounds::run(work, &options, remotes, &progress, cancelled, &mut |_| ())
        })?;
        progress.finish();
        self.print(place, &plan, &wanted, &summary)?;
        Ok(match summary {
            Summary { interrupted: true, .. } => Outcome::Interrupted,
            Summary { failures, .. } if !failures.is_empty() => Outcome::TaskFailed,
            Summary { others, .. } if others > 0 && self.wait.is_some() => Outcome::TaskFailed,
            _ => Outcome::Done,
        })
    }

    /// The nodes whose tasks this worker may do.
    fn own(&self, workspace: &Workspace, wanted: &NodeSet) -> Result<NodeSet> {
        if self.stages.is_empty() {
            return Ok(wanted.clone());
        }
        let graph = &workspace.graph;
        let mut own = graph.none();
        for name in &self.stages {
            let mut of_stage = wanted.iter().filter(|id| graph.node(*id).stage.name == name).peekable();
            if of_stage.peek().is_none() {
                let known: Vec<&str> = wanted.iter().map(|id| graph.node(id).stage.name).collect();
                return Err(usage(PlanError::unknown("", "stage", name, known)).into());
            }
            of_stage.for_each(|id| own.insert(id));
        }
        Ok(own)
    }

    fn print(&self, place: &Place, plan: &Plan, wanted: &NodeSet, summary: &Summary) -> Result<()> {
        if self.json {
            let mut object = run::to_json(summary);
            object["shard"] = self.shard.to_string().into();
            object["others"] = summary.others.into();
            object["unreached"] = summary.unreached.into();
            say!("{object}");
        } else if place.verbosity != Verbosity::Quiet {
            print_stages(summary)?;
            let total = |count: fn(&run::Counts) -> usize| summary.stages.values().map(count).sum::<usize>();
            let (ran, failed) = (total(|counts| counts.ran), total(|counts| counts.failed));
            say!("share {}: {ran} ran, {failed} failed in {}", self.shard, duration(summary.seconds));
        }
        for (label, error) in &summary.failures {
            super::complain(format_args!("{label}: {error:#}"));
        }
        if summary.others > 0 && summary.failures.is_empty() && !summary.interrupted {
            let waiting = wanted.iter().find(|id| plan.state(*id).stale().next().is_some());
            let first = waiting.map(|id| plan.graph.node(id).label()).unwrap_or_default();
            let text = format!("{} tasks of other workers are not done, the first of {first}", summary.others);
            match self.wait {
                Some(patience) => {
                    let waited = duration(patience.as_secs_f64());
                    super::complain(format_args!("{text}; none was finished for {waited}. Is every worker running?"));
                }
                None => place.note(text)?,
            }
        }
        Ok(())
    }
}

/// `90s`, `30m`, `2h`; a number alone is seconds.
fn patience(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds: u32 = number.parse().map_err(|_| anyhow!("expected a time such as 90s, 30m or 2h"))?;
    let unit = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    Ok(Duration::from_secs(u64::from(seconds) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        let seconds = |text: &str| patience(text).map(|time| time.as_secs()).ok();
        assert_eq!(["90s", "30m", "2h", "45"].map(seconds), [90, 1800, 7200, 45].map(Some));
        assert_eq!(["", "h", "2d", "-1s", "1.5h", "é"].map(seconds), [None; 6]);
    }
}
