//! Runs what is stale: in which order, how many at once, and what happens when something fails.
//!
//! The calling thread owns the plan and decides; workers compute tasks, and writers flush their outputs and write their
//! records. Tasks that watch a model wait until nothing else can run, so that every observer of one model is in the same
//! pass. A task's outputs are objects before its record is written, so a kill loses at most the tasks under way.

mod claim;
#[cfg(test)]
mod concurrent_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
mod objects;
mod others;
mod publish;
pub mod recompute;
pub mod rounds;
mod share;
#[cfg(test)]
mod share_tests;
mod summary;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use strata_stages::Stage;
use strata_stages::model::watch_task::MODEL_ROLE;

use crate::graph::{NodeId, NodeSet, TaskId};
use crate::key::{Key, KeyDocument};
use crate::latest;
use crate::manifest::remotes::RemoteSetting;
use crate::plan::{Plan, ResolvedInputs};
use crate::progress::Progress;
use crate::remote::Failure;
use crate::remote::background::{Arrived, Fetching, Sending, Wanted, fetching, serve};
use crate::remote::fetch::Expected;
use crate::remote::lookup::Lookup;
use crate::store::OutputRecord;
use crate::store::task_locks::TaskLocks;
use claim::Elsewhere;
use objects::Objects;
use others::Others;
pub use share::{Shard, Share, first_group};
pub use summary::{Counts, Summary, to_json};
use worker::{Stopped, worker};
use writer::{WAITING, WRITERS, Write, writer};

pub struct Options {
    pub jobs: usize,
    pub keep_going: bool,
    /// The nodes whose tasks run even where the store holds their outputs.
    pub force: NodeSet,
    /// What of it is this worker's, where several share the tasks; all without.
    pub share: Option<Share>,
    /// The nodes whose tables are to be here at the end; of others that a remote has, the records are enough.
    pub here: NodeSet,
    /// Whether stale tasks run. Without, nothing but what remotes have comes in.
    pub compute: bool,
}

/// Where a run looks for what others have made, and where it sends what it makes.
#[derive(Default)]
pub struct Remotes<'r> {
    pub settings: &'r [RemoteSetting],
    pub lookup: Option<Lookup>,
    pub sending: Vec<Sending>,
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
    /// A node's view was written, or could not be.
    Shown(Result<()>),
    Arrived(Arrived),
}

/// A run of the wanted nodes of a plan. It starts by expanding all that can be, so that what is known to be stale can be
/// said before [`Run::finish`] runs it.
pub struct Run<'r, 'p> {
    pub plan: &'r mut Plan<'p>,
    wanted: &'r NodeSet,
    options: &'r Options,
    remotes: &'r mut Remotes<'p>,
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
    objects: Objects,
    failed: NodeSet,
    others: Others,
    /// To those who write, while there are any.
    writes: Option<SyncSender<Write<'p>>>,
    /// Tasks that are being computed or written, and views that are being written.
    unreported: usize,
}

impl<'r, 'p> Run<'r, 'p> {
    /// # Errors
    /// The engine's own, and a remote's that the pipeline says to stop for; failures of tasks are in the summary.
    pub fn start(
        plan: &'r mut Plan<'p>,
        wanted: &'r NodeSet,
        options: &'r Options,
        remotes: &'r mut Remotes<'p>,
        progress: &'r Progress,
    ) -> Result<Run<'r, 'p>> {
        let (failed, locks) = (plan.graph.none(), plan.store.task_locks());
        let mut run = Run {
            plan,
            wanted,
            options,
            remotes,
            progress,
            started: Instant::now(),
            summary: Summary::default(),
            tables: VecDeque::new(),
            passes: Vec::new(),
            underway: HashMap::new(),
            locks,
            elsewhere: Elsewhere::default(),
            objects: Objects::default(),
            failed,
            others: Others::new(),
            writes: None,
            unreported: 0,
        };
        run.advance(wanted.iter().collect())?;
        for sending in &run.remotes.sending {
            let done = wanted.iter().flat_map(|id| run.plan.state(id).done());
            done.for_each(|key| {
                sending.send(key, run.remotes.lookup.as_ref().is_some_and(|lookup| lookup.refuses(key)))
            });
        }
        Ok(run)
    }

    /// Runs what is stale, and what then is.
    ///
    /// # Errors
    /// The engine's own; failures of tasks are in the summary.
    pub fn finish(mut self, cancelled: Cancelled) -> Result<Summary> {
        // A run in which nothing is stale starts no thread.
        if !self.is_idle() || self.waits_for_others() || self.objects.are_awaited() {
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
        let (fetching, requests) = fetching();
        let (write_sender, writes) = sync_channel::<Write>(WAITING);
        let (work, writes) = (Arc::new(Mutex::new(work)), Arc::new(Mutex::new(writes)));
        let (store, progress, settings) = (self.plan.store, self.progress, self.remotes.settings);
        std::thread::scope(|scope| {
            for _ in 0..self.options.jobs {
                let (work, write_sender, messages) = (Arc::clone(&work), write_sender.clone(), messages.clone());
                scope.spawn(move || worker(store, &work, &write_sender, &messages, progress, cancelled));
            }
            for _ in 0..WRITERS {
                let (writes, messages) = (Arc::clone(&writes), messages.clone());
                scope.spawn(move || writer(store, &writes, &messages, cancelled));
            }
            // The receiver is gone only when the run is over.
            scope.spawn(move || {
                serve(store, settings, requests, &mut |arrived| drop(messages.send(Message::Arrived(arrived))))
            });
            self.writes = Some(write_sender);
            let result = self.drive(&work_sender, &inbox, &fetching, cancelled);
            self.writes = None;
            drop((work_sender, fetching));
            result
        })
    }

    fn drive(
        &mut self,
        work: &Sender<Work>,
        inbox: &Receiver<Message>,
        fetching: &Fetching,
        cancelled: Cancelled,
    ) -> Result<()> {
        let mut busy = 0;
        loop {
            let failed = !self.summary.failures.is_empty() && !self.options.keep_going;
            let stopping = cancelled() || failed || !self.summary.lost.is_empty();
            self.objects.to_ask.drain(..).for_each(|wanted| fetching.ask(wanted));
            while !stopping && busy < self.options.jobs {
                let Some(next) = self.next()? else { break };
                busy += 1;
                self.unreported += match &next {
                    Work::Table(_) => 1,
                    Work::Pass(jobs) => jobs.len(),
                };
                work.send(next).map_err(|_| anyhow!("the workers stopped"))?;
            }
            let idle = busy == 0 && self.unreported == 0;
            if !stopping && self.takes_over_others(idle)? {
                continue;
            }
            let awaits = !self.elsewhere.is_empty() || self.waits_for_others() || self.objects.are_awaited();
            if idle && (stopping || !awaits) {
                return Ok(());
            }
            let looks = !stopping && busy < self.options.jobs;
            let pause = if looks { self.elsewhere.pause(idle, self.progress) } else { PAUSE };
            match inbox.recv_timeout(pause) {
                Ok(Message::WorkerFree) => busy -= 1,
                Ok(Message::Task(finished)) => {
                    self.unreported -= 1;
                    self.receive(finished)?;
                }
                Ok(Message::Shown(shown)) => {
                    self.unreported -= 1;
                    shown?;
                }
                Ok(Message::Arrived(arrived)) => self.arrived(arrived)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the workers stopped"),
            }
        }
    }

    /// A table task if there is one; else, once nothing runs, all waiting tasks that watch one model. What another run is
    /// computing is left to it.
    fn next(&mut self) -> Result<Option<Work>> {
        self.look_elsewhere();
        while let Some(job) = self.tables.pop_front() {
            if let Some(job) = self.claim(job)? {
                return Ok(Some(Work::Table(job)));
            }
        }
        // Tasks whose inputs are on their way may watch the same model.
        while self.unreported == 0 && !self.objects.hold_jobs() && !self.passes.is_empty() {
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
                return self.next();
            }
        }
        Ok(None)
    }

    /// Expands those nodes that are ready, asks remotes for what is stale in them, queues what then still is, and goes on to
    /// the readers of those that have nothing stale.
    fn advance(&mut self, mut nodes: Vec<NodeId>) -> Result<()> {
        while !nodes.is_empty() {
            nodes.retain(|id| self.wanted.contains(*id) && self.plan.ready(*id));
            nodes.sort_unstable();
            nodes.dedup();
            let results = self.plan.expand_each(&nodes, &self.options.force);
            let mut expanded = Vec::new();
            for (id, result) in nodes.drain(..).zip(results) {
                match result {
                    Ok(()) => expanded.push(id),
                    Err(error) => {
                        self.counts(id).failed += 1;
                        self.counts(id).planned += 1;
                        self.fail(id, self.plan.graph.node(id).label(), error);
                    }
                }
            }
            self.look(&expanded)?;
            for id in expanded {
                if self.queue_stale(id)? {
                    nodes.extend(&self.plan.graph.node(id).readers);
                }
            }
        }
        Ok(())
    }

    /// Asks remotes for the records of the stale tasks of some nodes.
    fn look(&mut self, nodes: &[NodeId]) -> Result<()> {
        let Some(lookup) = self.remotes.lookup.as_mut().filter(|lookup| lookup.is_up()) else { return Ok(()) };
        let mut asked: HashMap<Key, Vec<TaskId>> = HashMap::new();
        let mut wanted = Vec::new();
        for id in nodes.iter().copied().filter(|id| !self.options.force.contains(*id)) {
            let node = self.plan.graph.node(id);
            for (index, key) in self.plan.state(id).stale() {
                if self.underway.contains_key(&key) {
                    continue;
                }
                let tasks = asked.entry(key).or_default();
                if tasks.is_empty() {
                    wanted.push(Expected { key, stage: node.stage, by_part: node.per_part.is_some() });
                }
                tasks.push(id.task(index));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let found = lookup.look(&wanted, &self.plan.store.trust);
        lookup.notes().iter().for_each(|note| self.progress.note(note));
        for (key, found) in found? {
            self.plan.store.keep_elsewhere(key, &found.text)?;
            for task in asked.remove(&key).unwrap_or_default() {
                self.plan.found(task, found.record.outputs.clone());
            }
        }
        Ok(())
    }

    /// Queues a node's stale tasks; returns whether it has none and is finished.
    fn queue_stale(&mut self, id: NodeId) -> Result<bool> {
        let node = self.plan.graph.node(id);
        let tasks = self.plan.state(id).tasks();
        let stale: Vec<(usize, Key)> = self.plan.state(id).stale().collect();
        self.counts(id).planned += tasks;
        self.counts(id).cached += tasks - stale.len();
        if stale.is_empty() {
            self.show(id)?;
            return Ok(true);
        }
        if !self.options.compute {
            return Ok(false);
        }
        let inputs = self.plan.inputs(id)?;
        if let Some(part) = inputs.values().flatten().find(|part| part.absent) {
            let path = part.part.path.display();
            let text = "is not here, and no remote has what is made from it";
            self.counts(id).failed += stale.len();
            self.fail(id, node.label(), anyhow!("{path} {text}"));
            return Ok(false);
        }
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
            let away: BTreeSet<TaskId> = inputs.values().flatten().filter_map(|part| part.elsewhere).collect();
            let job = Job { task, label, stage: node.stage, by_part, stages, key, document, inputs };
            if away.is_empty() {
                self.queue(job);
            } else {
                let away: Vec<Wanted> = away.into_iter().filter_map(|task| self.away(task)).collect();
                self.objects.hold(job, away);
            }
            self.progress.planned(node.stage.name, 1);
        }
        Ok(false)
    }

    fn queue(&mut self, job: Job) {
        match job.stage.work {
            strata_stages::Work::Watch(_) => self.passes.push(job),
            strata_stages::Work::Table(_) | strata_stages::Work::Stream(_) | strata_stages::Work::Gather(_) => {
                self.tables.push_back(job)
            }
        }
    }

    /// A task whose objects are in a remote.
    fn away(&self, task: TaskId) -> Option<Wanted> {
        let (key, outputs) = self.plan.state(task.node).elsewhere_task(task.index)?;
        Some(Wanted { task, key, outputs: outputs.to_vec() })
    }

    /// Shows a finished node and goes on to the readers that were waiting for it.
    fn finished(&mut self, id: NodeId) -> Result<()> {
        self.show(id)?;
        self.advance(self.plan.graph.node(id).readers.clone())
    }

    /// Shows a finished node, or has the objects fetched that it shows.
    fn show(&mut self, id: NodeId) -> Result<()> {
        match (&self.writes, latest::Finished::of(self.plan, id)) {
            (Some(writes), Some(finished)) => {
                writes.send(Write::View(finished)).map_err(|_| anyhow!("the writers stopped"))?;
                self.unreported += 1;
            }
            _ => latest::show(self.plan, id)?,
        }
        if self.options.here.contains(id) {
            for (index, key, outputs) in self.plan.state(id).elsewhere() {
                self.objects.ask(Wanted { task: id.task(index), key, outputs });
            }
        }
        Ok(())
    }

    /// Takes note of objects that came, or that did not.
    fn arrived(&mut self, arrived: Arrived) -> Result<()> {
        let Arrived { key, bytes, failure } = arrived;
        let (tasks, jobs) = self.objects.arrived(key, failure.is_none());
        match failure {
            Some(Failure::Here(error)) => return Err(error),
            Some(failure) => {
                self.summary.lost.push((key, failure));
                return Ok(());
            }
            None => {}
        }
        self.plan.store.bring_here(key)?;
        self.summary.bytes_fetched += bytes;
        for task in tasks {
            let counts = self.counts(task.node);
            counts.fetched += 1;
            counts.cached = counts.cached.saturating_sub(1);
            let label = format!("{} fetched", self.plan.task_label(task));
            self.progress.fetched(&label, bytes);
            if self.plan.arrived(task) {
                latest::show(self.plan, task.node)?;
            }
        }
        jobs.into_iter().for_each(|job| self.queue(job));
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
                let replace = self.remotes.lookup.as_ref().is_some_and(|lookup| lookup.refuses(finished.key));
                self.remotes.sending.iter().for_each(|sending| sending.send(finished.key, replace));
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
