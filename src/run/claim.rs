//! Which tasks this run computes, where others work on the same store: those whose lock it gets. What another run is computing is
//! left until that run has finished it, or has ended without.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Job, PAUSE, Run};
use crate::progress::Progress;

/// Tasks that another run was computing when last looked at.
#[derive(Default)]
pub struct Elsewhere {
    jobs: VecDeque<Job>,
    /// When they are looked at next: after ever longer while nothing changes, as each look may go to a server.
    next: Option<Instant>,
    interval: Duration,
    waiting_since: Option<Instant>,
    said: bool,
}

const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(500);
/// How many are looked at in turn.
const AT_ONCE: usize = 256;
/// How long a run waits for others before it says so.
const SAID_AFTER: Duration = Duration::from_secs(1);

impl Elsewhere {
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn add(&mut self, job: Job) {
        self.jobs.push_back(job);
        self.next.get_or_insert_with(|| Instant::now() + SHORTEST);
    }

    /// How long until something may be to do here. `idle` is whether the run does nothing but wait, which it says after a while.
    pub fn pause(&mut self, idle: bool, progress: &Progress) -> Duration {
        let Some(job) = self.jobs.front().filter(|_| idle) else {
            self.waiting_since = None;
            return self.until_next().unwrap_or(PAUSE);
        };
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if !self.said && since.elapsed() > SAID_AFTER {
            progress.waits(self.jobs.len(), &job.label);
            self.said = true;
        }
        self.until_next().unwrap_or(PAUSE)
    }

    fn until_next(&self) -> Option<Duration> {
        Some(self.next?.saturating_duration_since(Instant::now()).min(PAUSE))
    }
}

impl Run<'_, '_> {
    /// The job, where it is this run's to do. One that another run is doing is put by, and of one that another has done
    /// the outputs are taken.
    pub(super) fn claim(&mut self, job: Job) -> Result<Option<Job>> {
        if !self.locks.take(job.key) {
            self.elsewhere.add(job);
            return Ok(None);
        }
        let id = job.task.node;
        // Looked at only now that nobody else can be about to write it.
        let stored = if self.options.force.contains(id) { None } else { self.plan.stored(id, job.key) };
        let Some(outputs) = stored else { return Ok(Some(job)) };
        self.locks.release(job.key);
        self.counts(id).cached += 1;
        self.progress.done_elsewhere(job.stage.name);
        self.done(job.task, job.key, &outputs)?;
        Ok(None)
    }

    /// Queues again what no other run holds any more.
    pub(super) fn look_elsewhere(&mut self) {
        if self.elsewhere.next.is_none_or(|next| next > Instant::now()) {
            return;
        }
        let mut free = Vec::new();
        for _ in 0..self.elsewhere.jobs.len().min(AT_ONCE) {
            let Some(job) = self.elsewhere.jobs.pop_front() else { break };
            if self.locks.is_held_elsewhere(job.key) { self.elsewhere.jobs.push_back(job) } else { free.push(job) }
        }
        let elsewhere = &mut self.elsewhere;
        elsewhere.interval = if free.is_empty() { (elsewhere.interval * 2).clamp(SHORTEST, LONGEST) } else { SHORTEST };
        elsewhere.next = (!elsewhere.jobs.is_empty()).then(|| Instant::now() + elsewhere.interval);
        free.into_iter().for_each(|job| self.queue(job));
    }
}
