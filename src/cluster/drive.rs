//! Submits steps, looks how far they are, and tries again what ran out of memory or time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::jobs::{JobArray, Jobs, StepJobs, logs};
use super::scheduler::{Scheduler, Submission};
use super::state::JobState;
use super::steps::Step;
use super::verdict::{self, Failure, Verdict, verdict};
use super::words::{asked, mebibytes, minutes, summary};
use crate::manifest::Resources;
use crate::run::Cancelled;
use crate::store::Store;

/// The first look comes after so long, each further one later by half, and soon again when something has changed.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A scheduler that does not answer for so long is given up; its jobs go on.
const SILENCE: Duration = Duration::from_secs(30 * 60);

/// What all jobs of a run have in common.
pub struct Driver<'a> {
    pub scheduler: &'a dyn Scheduler,
    pub store: &'a Store,
    /// The program and its arguments up to `work`, and the targets.
    pub program: PathBuf,
    pub pipeline: PathBuf,
    pub targets: Vec<String>,
    pub keep_going: bool,
    pub say: &'a dyn Fn(String),
    pub shortest: Duration,
}

/// What became of the jobs.
pub enum Ended {
    /// All are over; these failed.
    Over(Vec<Failure>),
    /// The user stopped, and they were cancelled.
    Cancelled,
}

impl Driver<'_> {
    pub const fn pause() -> Duration {
        SHORTEST
    }

    /// Goes on with what an earlier run submitted: finds arrays whose ids it could not write down. Returns how many arrays are
    /// under way.
    ///
    /// # Errors
    /// When the scheduler or the store cannot be used.
    pub fn attach(&self, jobs: &mut Jobs) -> Result<usize> {
        let names: Vec<String> = jobs.open().map(|array| array.name.clone()).collect();
        let known = self.scheduler.find(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        for array in jobs.steps.iter_mut().flat_map(|step| &mut step.arrays).filter(|array| !array.settled) {
            array.id = known.get(&array.name).copied().or(array.id);
        }
        let ids = jobs.open_ids();
        if !ids.is_empty() {
            jobs.note(&self.scheduler.states(&ids)?);
        }
        // One that was never submitted, or whose number is not its own and is another job's.
        let own = |array: &JobArray| array.settled || array.is_over() || known.contains_key(&array.name);
        for step in &mut jobs.steps {
            step.arrays.retain(|array| array.id.is_some() && own(array));
        }
        jobs.save(self.store)?;
        Ok(jobs.open().filter(|array| !array.is_over()).count())
    }

    /// Submits what is to do, each step after those that it reads from.
    ///
    /// # Errors
    /// When the scheduler refuses, or the store cannot be written. What was submitted is cancelled then.
    pub fn submit_all(&self, jobs: &mut Jobs, steps: Vec<Step>) -> Result<()> {
        self.store.disk.create_folders(&logs(self.store)).context("cannot write the folder of the jobs' logs")?;
        let of_step = |step: Step| StepJobs {
            stages: step.stages.iter().map(ToString::to_string).collect(),
            resources: step.resources,
            shards: step.shards,
            after: step.after,
            arrays: Vec::new(),
        };
        jobs.steps = steps.into_iter().map(of_step).collect();
        for place in 0..jobs.steps.len() {
            let all = (0..jobs.steps[place].shards).collect();
            if let Err(error) = self.submit(jobs, place, all, 0, None) {
                self.cancel(jobs);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Submits jobs of a step; `grown` has what they ask for when it is not what the step does.
    fn submit(
        &self,
        jobs: &mut Jobs,
        place: usize,
        indices: Vec<usize>,
        tried: u32,
        grown: Option<Resources>,
    ) -> Result<()> {
        let step = &jobs.steps[place];
        let resources = grown.unwrap_or_else(|| step.resources.clone());
        let first = step.stages.first().map_or("", String::as_str);
        let name = format!("strata-{first}-{}-{place}.{}", jobs.nonce, step.arrays.len());
        let open = |place: &usize| jobs.steps[*place].last().filter(|array| !array.settled && !array.is_over());
        let after = step.after.iter().filter_map(|place| open(place)?.id).collect();
        let script = self.script(step, &resources);
        let (memory, time) = (resources.memory, resources.time);
        let (id, states, settled) = (None, Default::default(), false);
        let array = JobArray { name: name.clone(), id, indices: indices.clone(), memory, time, tried, states, settled };
        jobs.steps[place].arrays.push(array);
        jobs.save(self.store)?;
        let submission = Submission {
            name: &name,
            script,
            indices: &indices,
            after,
            whatever_comes: self.keep_going,
            resources: &resources,
            logs: logs(self.store),
        };
        let id = match self.scheduler.submit(&submission) {
            Ok(id) => id,
            Err(error) => {
                jobs.steps[place].arrays.pop();
                jobs.save(self.store)?;
                return Err(error.context(format!("cannot submit {}", jobs.steps[place].label())));
            }
        };
        if let Some(array) = jobs.steps[place].arrays.last_mut() {
            array.id = Some(id);
        }
        jobs.save(self.store)?;
        (self.say)(format!(
            "{}: submitted as job {id}, {}",
            jobs.steps[place].label(),
            asked(indices.len(), &resources)
        ));
        Ok(())
    }

    /// What a job runs.
    fn script(&self, step: &StepJobs, resources: &Resources) -> String {
        let word = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let path = |path: &PathBuf| word(&path.display().to_string());
        let mut command = format!(
            "exec {} --pipeline {} --store {} work --shard \"$SLURM_ARRAY_TASK_ID/{}\" --jobs {} --stages {}",
            path(&self.program),
            path(&self.pipeline),
            word(&self.store.layout.root().display().to_string()),
            step.shards,
            resources.cpus,
            word(&step.stages.join(",")),
        );
        if self.keep_going {
            command.push_str(" --keep-going");
        }
        if !self.targets.is_empty() {
            command.push_str(" --");
        }
        for target in &self.targets {
            command.push(' ');
            command.push_str(&word(target));
        }
        format!("#!/bin/sh\n{}\n{command}\n", resources.setup)
    }

    /// Looks until everything is over.
    ///
    /// # Errors
    /// When the store cannot be written, or the scheduler has not answered for long. The jobs go on then.
    pub fn follow(&self, jobs: &mut Jobs, cancelled: Cancelled) -> Result<Ended> {
        let mut failures = Vec::new();
        let mut pause = self.shortest;
        let mut answered = Instant::now();
        let mut said = String::new();
        loop {
            if cancelled() {
                self.cancel(jobs);
                jobs.save(self.store)?;
                return Ok(Ended::Cancelled);
            }
            match self.look(jobs, &mut failures) {
                Ok(true) => {
                    answered = Instant::now();
                    pause = self.shortest;
                }
                Ok(false) => {
                    answered = Instant::now();
                    pause = (pause * 3 / 2).min(LONGEST.max(self.shortest));
                }
                Err(error) if answered.elapsed() < SILENCE => {
                    (self.say)(format!("{error:#}; looking again in {} s", LONGEST.as_secs()));
                    pause = LONGEST.max(self.shortest);
                }
                Err(error) => {
                    return Err(error.context("gave up on the scheduler; the jobs go on, and the next run finds them"));
                }
            }
            if jobs.open().next().is_none() {
                return Ok(Ended::Over(failures));
            }
            let now = summary(jobs);
            if now != said {
                (self.say)(now.clone());
                said = now;
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !cancelled() {
                std::thread::sleep(Duration::from_millis(50).min(pause));
            }
        }
    }

    /// One look, and what follows from it. Returns whether anything is new.
    fn look(&self, jobs: &mut Jobs, failures: &mut Vec<Failure>) -> Result<bool> {
        let ids = jobs.open_ids();
        let mut changed = !ids.is_empty() && jobs.note(&self.scheduler.states(&ids)?);
        for place in 0..jobs.steps.len() {
            let step = &jobs.steps[place];
            let Some(array) = step.last().filter(|array| !array.settled && array.is_over()).cloned() else { continue };
            let was_stopping = self.stops(failures);
            changed = true;
            let (mut again, mut failed) = (Vec::new(), Vec::new());
            for index in &array.indices {
                let state = array.states.get(index).copied().unwrap_or(JobState::Forgotten);
                match verdict(step, &array, state) {
                    Verdict::Fine => {}
                    // It was this run that cancelled it.
                    Verdict::Failed(_) if was_stopping && state == JobState::Cancelled => {}
                    Verdict::Again => again.push(*index),
                    Verdict::Failed(why) => failed.push((*index, why)),
                }
            }
            failures.extend(verdict::failures(self.store, step, &array, &failed));
            if self.stops(failures) {
                jobs.settle(&array);
                self.cancel_waiting(jobs);
            } else if again.is_empty() {
                jobs.settle(&array);
            } else {
                // Not settled before it is submitted: where that fails, the next look tries it.
                self.try_again(jobs, place, &array, again)?;
            }
        }
        if changed {
            jobs.save(self.store)?;
        }
        Ok(changed)
    }

    /// Whether nothing more is to begin.
    fn stops(&self, failures: &[Failure]) -> bool {
        !failures.is_empty() && !self.keep_going
    }

    /// Cancels what has not begun.
    fn cancel_waiting(&self, jobs: &Jobs) {
        let left: Vec<u64> = jobs.open().filter(|array| !array.is_over()).filter_map(|array| array.id).collect();
        if !left.is_empty()
            && let Err(error) = self.scheduler.cancel(&left, true)
        {
            (self.say)(format!("{error:#}"));
        }
    }

    /// Submits jobs again that ran out of something, with more of it, and what depends on them, which waited for the old ones.
    fn try_again(&self, jobs: &mut Jobs, place: usize, old: &JobArray, again: Vec<usize>) -> Result<()> {
        let step = &jobs.steps[place];
        let mut resources = step.resources.clone();
        (resources.memory, resources.time) = (old.memory, old.time);
        let any = |wanted| again.iter().any(|index| old.states.get(index) == Some(&wanted));
        let mut what = Vec::new();
        if any(JobState::OutOfMemory) {
            resources.memory = old.memory.map(|memory| (memory as f64 * resources.memory_factor).ceil() as u64);
            what.push(format!("ran out of {} of memory", old.memory.map(mebibytes).unwrap_or_default()));
        }
        if any(JobState::TimedOut) {
            resources.time = old.time.map(|time| (time as f64 * resources.time_factor).ceil() as u64);
            what.push(format!("ran out of time after {}", old.time.map(minutes).unwrap_or_default()));
        }
        if any(JobState::Lost) {
            what.push("lost their node".to_string());
        }
        let ids: Vec<String> = again.iter().map(|index| format!("{}_{index}", old.id.unwrap_or(0))).collect();
        (self.say)(format!("{}: {} {}; trying again", step.label(), ids.join(", "), what.join(" and ")));
        self.submit(jobs, place, again, old.tried + 1, Some(resources))?;
        jobs.settle(old);
        if self.keep_going {
            return Ok(());
        }
        // Steps come after those that they read from, so one pass finds all that depend on this one.
        let mut redone = vec![place];
        for later in place + 1..jobs.steps.len() {
            let step = &jobs.steps[later];
            if !step.after.iter().any(|place| redone.contains(place)) {
                continue;
            }
            redone.push(later);
            let Some(array) = step.last().cloned() else { continue };
            if !array.is_over()
                && let Some(id) = array.id
            {
                self.scheduler.cancel(&[id], false)?;
            }
            jobs.settle(&array);
            self.submit(jobs, later, array.indices, array.tried, None)?;
        }
        Ok(())
    }

    /// Cancels everything, and says so.
    pub fn cancel(&self, jobs: &mut Jobs) {
        let ids: Vec<u64> = jobs.open().filter(|array| !array.is_over()).filter_map(|array| array.id).collect();
        if ids.is_empty() {
            return;
        }
        let named = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match self.scheduler.cancel(&ids, false) {
            Ok(()) => {
                (self.say)(format!("cancelled the jobs {named}"));
                for array in jobs.steps.iter_mut().flat_map(|step| &mut step.arrays) {
                    array.settled = true;
                }
            }
            Err(error) => (self.say)(format!("the jobs {named} could not be cancelled: {error:#}")),
        }
    }
}
