//! Runs what is stale: in which order, how many at once, and what happens when something fails.
//!
//! The calling thread owns the plan and decides; workers run tasks and publish their outputs. Tasks that watch
//! a model wait until nothing else can run, so that every observer of one model is in the same pass. A task's
//! outputs are objects before its record is written, so a kill loses at most the tasks under way.

mod claim;
#[cfg(test)]
mod concurrent_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
mod others;
mod publish;
mod share;
#[cfg(test)]
mod share_tests;
mod summary;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use strata_stages::Stage;
use strata_stages::model::watch_task::MODEL_ROLE;

use crate::graph::{NodeId, NodeSet, TaskId};
use crate::key::{Key, KeyDocument};
use crate::latest;
use crate::plan::{Plan, ResolvedInputs};
use crate::progress::Progress;
use crate::store::OutputRecord;
use crate::store::task_locks::TaskLocks;
use claim::Elsewhere;
use others::Others;
pub use share::{Shard, Share, first_group};
pub use summary::{Counts, Summary, to_json};
use worker::{Stopped, worker};

pub struct Options {
    pub jobs: usize,
    pub keep_going: bool,
    /// The nodes whose tasks run even where the store holds their outputs.
    pub force: NodeSet,
    /// What of it is this worker's, where several share the tasks; all without.
    pub share: Option<Share>,
}

/// Whether the user asked to stop.
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// A stale task, complete in itself, so that it can go to another thread.
struct Job {
    task: TaskId,
    label: String,
    stage: &'static Stage,
    /// Whether its node has a task for each part of an input.
    by_part: bool,
    /// The registry.
    stages: &'static [&'static Stage],
    key: Key,
    document: KeyDocument,
    inputs: ResolvedInputs,
}

enum Work {
    Table(Job),
    Pass(Vec<Job>),
}

struct Finished {
    task: TaskId,
    key: Key,
    label: String,
    seconds: f64,
    result: Result<Vec<OutputRecord>>,
}

/// The longest that a stop by the user waits to be noticed.
const PAUSE: Duration = Duration::from_millis(100);

enum Message {
    Task(Finished),
    WorkerFree,
}

/// A run of the wanted nodes of a plan. It starts by expanding all that can be, so that what is known to be stale can be
/// said before [`Run::finish`] runs it.
pub struct Run<'r, 'p> {
    pub plan: &'r mut Plan<'p>,
    wanted: &'r NodeSet,
    options: &'r Options,
    progress: &'r Progress,
    started: Instant,
    summary: Summary,
    tables: VecDeque<Job>,
    passes: Vec<Job>,
    /// Tasks with one key run once; the others wait here for it.
    underway: HashMap<Key, Vec<TaskId>>,
    /// Held for the tasks that are with the workers.
    locks: TaskLocks,
    elsewhere: Elsewhere,
    failed: NodeSet,
    others: Others,
}

impl<'r, 'p> Run<'r, 'p> {
    /// # Errors
    /// The engine's own; failures of tasks are in the summary.
    pub fn start(
        plan: &'r mut Plan<'p>,
        wanted: &'r NodeSet,
        options: &'r Options,
        progress: &'r Progress,
    ) -> Result<Run<'r, 'p>> {
        let (failed, locks) = (plan.graph.none(), plan.store.task_locks());
        let mut run = Run {
            plan,
            wanted,
            options,
            progress,
            started: Instant::now(),
            summary: Summary::default(),
            tables: VecDeque::new(),
            passes: Vec::new(),
            underway: HashMap::new(),
            locks,
            elsewhere: Elsewhere::default(),
            failed,
            others: Others::new(),
        };
        for id in wanted.iter() {
            if run.plan.ready(id) {
                run.expand(id)?;
            }
        }
        Ok(run)
    }

    /// Runs what is stale, and what then is.
    ///
    /// # Errors
    /// The engine's own; failures of tasks are in the summary.
    pub fn finish(mut self, cancelled: Cancelled) -> Result<Summary> {
        // A run in which nothing is stale starts no thread.
        if !self.is_idle() || self.waits_for_others() {
            self.with_workers(cancelled)?;
            self.summary.interrupted = cancelled();
        }
        let states = self.wanted.iter().filter(|id| self.plan.state(*id).outputs().is_none());
        self.summary.unreached = states.filter(|id| !self.failed.contains(*id)).count();
        self.summary.others = self.others.len();
        self.summary.seconds = self.started.elapsed().as_secs_f64();
        self.plan.store.save_fingerprints()?;
        Ok(self.summary)
    }

    fn with_workers(&mut self, cancelled: Cancelled) -> Result<()> {
        let (work_sender, work) = channel::<Work>();
        let (messages, inbox) = channel::<Message>();
        let work = Arc::new(Mutex::new(work));
        let (store, progress) = (self.plan.store, self.progress);
        std::thread::scope(|scope| {
            for _ in 0..self.options.jobs {
                let (work, messages) = (Arc::clone(&work), messages.clone());
                scope.spawn(move || worker(store, &work, &messages, progress, cancelled));
            }
            drop(messages);
            let result = self.drive(&work_sender, &inbox, cancelled);
            drop(work_sender);
            result
        })
    }

    fn drive(&mut self, work: &Sender<Work>, inbox: &Receiver<Message>, cancelled: Cancelled) -> Result<()> {
        let mut busy = 0;
        loop {
            let stopping = cancelled() || (!self.summary.failures.is_empty() && !self.options.keep_going);
            while !stopping && busy < self.options.jobs {
                let Some(next) = self.next(busy)? else { break };
                busy += 1;
                work.send(next).map_err(|_| anyhow!("the workers stopped"))?;
            }
            if !stopping && self.takes_over_others(busy == 0)? {
                continue;
            }
            if busy == 0 && (stopping || (self.elsewhere.is_empty() && !self.waits_for_others())) {
                return Ok(());
            }
            let looks = !stopping && busy < self.options.jobs;
            let pause = if looks { self.elsewhere.pause(busy == 0, self.progress) } else { PAUSE };
            match inbox.recv_timeout(pause) {
                Ok(Message::WorkerFree) => busy -= 1,
                Ok(Message::Task(finished)) => self.receive(finished)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the workers stopped"),
            }
        }
    }

    /// A table task if there is one; else, once nothing runs, all waiting tasks that watch one model. What another run is
    /// computing is left to it.
    fn next(&mut self, busy: usize) -> Result<Option<Work>> {
        self.look_elsewhere();
        while let Some(job) = self.tables.pop_front() {
            if let Some(job) = self.claim(job)? {
                return Ok(Some(Work::Table(job)));
            }
        }
        while busy == 0 && !self.passes.is_empty() {
            let model = self.passes[0].document.inputs.get(MODEL_ROLE).cloned();
            let same = |job: &Job| job.document.inputs.get(MODEL_ROLE) == model.as_ref();
            let (group, rest) = std::mem::take(&mut self.passes).into_iter().partition::<Vec<Job>, _>(same);
            self.passes = rest;
            let mut claimed = Vec::new();
            for job in group {
                claimed.extend(self.claim(job)?);
            }
            if !claimed.is_empty() {
                return Ok(Some(Work::Pass(claimed)));
            }
            // Another run's results may have readers that run before any pass.
            if !self.tables.is_empty() {
                return self.next(busy);
            }
        }
        Ok(None)
    }

    /// Expands a ready node, queues its stale tasks, and where it has none goes on to its readers.
    fn expand(&mut self, id: NodeId) -> Result<()> {
        let node = self.plan.graph.node(id);
        if let Err(error) = self.plan.expand(id, self.options.force.contains(id)) {
            self.counts(id).failed += 1;
            self.counts(id).planned += 1;
            self.fail(id, node.label(), error);
            return Ok(());
        }
        let tasks = self.plan.state(id).tasks();
        let stale: Vec<(usize, Key)> = self.plan.state(id).stale().collect();
        self.counts(id).planned += tasks;
        self.counts(id).cached += tasks - stale.len();
        if stale.is_empty() {
            return self.finished(id);
        }
        let inputs = self.plan.inputs(id)?;
        let first_group = self.options.share.as_ref().map(|share| (share, first_group(self.plan, id, &inputs)));
        for (index, key) in stale {
            let task = id.task(index);
            if first_group.is_some_and(|(share, first)| !share.owns(id, first + index as u64)) {
                self.others.add(key, task);
                continue;
            }
            if let Some(waiting) = self.underway.get_mut(&key) {
                waiting.push(task);
                continue;
            }
            self.underway.insert(key, Vec::new());
            let inputs = self.plan.task_inputs(task, &inputs);
            let document = self.plan.document(id, &inputs);
            let (label, stages) = (self.plan.task_label(task), self.plan.graph.stages);
            let by_part = node.per_part.is_some();
            let job = Job { task, label, stage: node.stage, by_part, stages, key, document, inputs };
            self.queue(job);
            self.progress.planned(node.stage.name, 1);
        }
        Ok(())
    }

    fn queue(&mut self, job: Job) {
        match job.stage.work {
            strata_stages::Work::Watch(_) => self.passes.push(job),
            strata_stages::Work::Table(_) | strata_stages::Work::Gather(_) => self.tables.push_back(job),
        }
    }

    /// Shows a finished node and expands the readers that were waiting for it.
    fn finished(&mut self, id: NodeId) -> Result<()> {
        latest::show(self.plan, id)?;
        for reader in &self.plan.graph.node(id).readers {
            if self.wanted.contains(*reader) && self.plan.ready(*reader) {
                self.expand(*reader)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, finished: Finished) -> Result<()> {
        self.locks.release(finished.key);
        self.others.touch();
        let id = finished.task.node;
        match finished.result {
            Ok(outputs) => {
                let counts = self.counts(id);
                counts.ran += 1;
                counts.seconds += finished.seconds;
                self.progress.done(self.plan.graph.node(id).stage.name, &finished.label, finished.seconds);
                self.done(finished.task, finished.key, &outputs)?;
            }
            // A task cut short by the user's stop is not a failure of the task.
            Err(error) if error.is::<Stopped>() => {}
            Err(error) => {
                self.counts(id).failed += 1;
                for task in self.underway.remove(&finished.key).unwrap_or_default() {
                    self.counts(task.node).failed += 1;
                    self.failed.insert(task.node);
                }
                self.fail(id, finished.label, error);
            }
        }
        Ok(())
    }

    /// Notes the outputs of a task and of those that have its key.
    fn done(&mut self, task: TaskId, key: Key, outputs: &[OutputRecord]) -> Result<()> {
        let waiting = self.underway.remove(&key).unwrap_or_default();
        waiting.iter().for_each(|task| self.counts(task.node).cached += 1);
        for task in std::iter::once(task).chain(waiting) {
            if self.plan.finish(task, outputs.to_vec()) {
                self.finished(task.node)?;
            }
        }
        Ok(())
    }

    fn counts(&mut self, id: NodeId) -> &mut Counts {
        self.summary.stages.entry(self.plan.graph.node(id).stage.name).or_default()
    }

    fn fail(&mut self, id: NodeId, label: String, error: anyhow::Error) {
        self.progress.failed(&label, &error);
        self.failed.insert(id);
        self.summary.failures.push((label, error));
    }
}
