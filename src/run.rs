//! Runs what is stale: in which order, how many at once, and what happens when something fails.
//!
//! The calling thread owns the plan and decides; workers run tasks and publish their outputs. Tasks that pass
//! a model wait until nothing else can run, so that every observer of one model is in the same pass. A task's
//! outputs are objects before its record is written, so a kill loses at most the tasks under way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use strata_stages::model::pass::{self, PassTask};
use strata_stages::{Output, Part, Stage, Task, table};

use crate::graph::Graph;
use crate::key::{Key, KeyDocument};
use crate::latest;
use crate::plan::{Plan, ResolvedInputs};
use crate::progress::Progress;
use crate::store::{FileState, OutputRecord, Record, Store, views};

pub struct Options {
    pub jobs: usize,
    pub keep_going: bool,
    /// Run the targets' tasks even where the store holds their outputs.
    pub force: Vec<bool>,
}

/// Counts of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    pub planned: usize,
    pub ran: usize,
    pub cached: usize,
    pub failed: usize,
    pub seconds: f64,
}

#[derive(Default)]
pub struct Summary {
    pub stages: BTreeMap<&'static str, Counts>,
    pub failures: Vec<(String, anyhow::Error)>,
    /// Nodes that were not reached because something before them failed or the run was stopped.
    pub unreached: usize,
    pub interrupted: bool,
    pub seconds: f64,
}

/// A stale task, complete in itself, so that it can go to another thread.
struct Job {
    node: usize,
    task: usize,
    label: String,
    stage: &'static Stage,
    key: Key,
    document: KeyDocument,
    inputs: ResolvedInputs,
}

enum Work {
    Table(Job),
    Pass(Vec<Job>),
}

struct Finished {
    node: usize,
    task: usize,
    key: Key,
    label: String,
    seconds: f64,
    result: Result<Vec<OutputRecord>>,
}

enum Message {
    Task(Finished),
    WorkerFree,
}

/// Runs the wanted nodes. Failures of tasks are in the summary; an `Err` is the engine's own.
pub fn run(
    plan: &mut Plan,
    wanted: &[bool],
    options: &Options,
    progress: &Progress,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Summary> {
    let started = Instant::now();
    let store = plan.store;
    let mut runner = Runner {
        plan,
        wanted,
        options,
        progress,
        summary: Summary::default(),
        tables: VecDeque::new(),
        passes: Vec::new(),
        underway: HashMap::new(),
        failed: vec![false; wanted.len()],
    };
    runner.prepare()?;
    // A run in which nothing is stale starts no thread.
    if runner.idle() {
        return runner.close(started, false);
    }
    let (work_sender, work) = channel::<Work>();
    let (messages, inbox) = channel::<Message>();
    let work = Arc::new(Mutex::new(work));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            let (work, messages) = (Arc::clone(&work), messages.clone());
            scope.spawn(move || worker(store, &work, &messages, progress, cancelled));
        }
        drop(messages);
        let result = runner.drive(&work_sender, &inbox, cancelled);
        drop(work_sender);
        result
    })?;
    let interrupted = cancelled();
    runner.close(started, interrupted)
}

struct Runner<'r, 'p> {
    plan: &'r mut Plan<'p>,
    wanted: &'r [bool],
    options: &'r Options,
    progress: &'r Progress,
    summary: Summary,
    tables: VecDeque<Job>,
    passes: Vec<Job>,
    /// Tasks with one key run once; the others wait here for it.
    underway: HashMap<Key, Vec<(usize, usize)>>,
    failed: Vec<bool>,
}

impl Runner<'_, '_> {
    fn prepare(&mut self) -> Result<()> {
        for index in 0..self.wanted.len() {
            if self.wanted[index] && self.plan.ready(index) && !self.plan.states[index].expanded {
                self.expand(index)?;
            }
        }
        Ok(())
    }

    fn idle(&self) -> bool {
        self.tables.is_empty() && self.passes.is_empty()
    }

    /// Expands a ready node, queues its stale tasks, and where it has none goes on to its readers.
    fn expand(&mut self, index: usize) -> Result<()> {
        let node = &self.plan.graph.nodes[index];
        if let Err(error) = self.plan.expand(index, self.options.force[index]) {
            self.counts(index).failed += 1;
            self.counts(index).planned += 1;
            self.fail(index, node.label(), error);
            return Ok(());
        }
        let tasks = self.plan.states[index].tasks.len();
        let stale: Vec<usize> =
            (0..tasks).filter(|task| self.plan.states[index].tasks[*task].outputs.is_none()).collect();
        self.counts(index).planned += tasks;
        self.counts(index).cached += tasks - stale.len();
        if stale.is_empty() {
            return self.finished(index);
        }
        let inputs = self.plan.inputs(index)?;
        for task in stale {
            let key = self.plan.states[index].tasks[task].key;
            if let Some(waiting) = self.underway.get_mut(&key) {
                waiting.push((index, task));
                continue;
            }
            self.underway.insert(key, Vec::new());
            let inputs = self.plan.task_inputs(index, task, &inputs);
            let document = self.plan.document(index, &inputs);
            let label = if tasks > 1 { format!("{} block {}/{tasks}", node.label(), task + 1) } else { node.label() };
            let job = Job { node: index, task, label, stage: node.stage, key, document, inputs };
            match node.stage.work {
                strata_stages::Work::Watch(_) => self.passes.push(job),
                strata_stages::Work::Table(_) => self.tables.push_back(job),
            }
            self.progress.planned(node.node.stage, 1);
        }
        Ok(())
    }

    fn counts(&mut self, index: usize) -> &mut Counts {
        self.summary.stages.entry(self.plan.graph.nodes[index].node.stage).or_default()
    }

    fn fail(&mut self, index: usize, label: String, error: anyhow::Error) {
        self.progress.failed(&label, &error);
        self.failed[index] = true;
        self.summary.failures.push((label, error));
    }

    /// Shows a finished node and expands the readers that were waiting for it.
    fn finished(&mut self, index: usize) -> Result<()> {
        let node = &self.plan.graph.nodes[index];
        let state = &self.plan.states[index];
        let outputs = state.outputs.as_deref().unwrap_or_default();
        let files = outputs.iter().any(|output| !output.name.is_empty());
        let folder = views::folder(node.node.stage, &node.node.bindings, files);
        if views::show(self.plan.store, &folder, outputs)? {
            let keys: Vec<Key> = state.tasks.iter().map(|task| task.key).collect();
            latest::write(self.plan.store, &node.label(), &keys)?;
        }
        for reader in node.readers.clone() {
            if self.wanted[reader] && !self.plan.states[reader].expanded && self.plan.ready(reader) {
                self.expand(reader)?;
            }
        }
        Ok(())
    }

    fn drive(
        &mut self,
        work: &Sender<Work>,
        inbox: &Receiver<Message>,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<()> {
        let mut busy = 0;
        loop {
            let stopping = cancelled() || (!self.summary.failures.is_empty() && !self.options.keep_going);
            while !stopping && busy < self.options.jobs {
                let Some(next) = self.next(busy) else { break };
                busy += 1;
                work.send(next).map_err(|_| anyhow!("the workers stopped"))?;
            }
            if busy == 0 {
                return Ok(());
            }
            match inbox.recv_timeout(Duration::from_millis(100)) {
                Ok(Message::WorkerFree) => busy -= 1,
                Ok(Message::Task(finished)) => self.receive(finished)?,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => bail!("the workers stopped"),
            }
        }
    }

    /// A table task if there is one; else, once nothing runs, all waiting passes of one model.
    fn next(&mut self, busy: usize) -> Option<Work> {
        if let Some(job) = self.tables.pop_front() {
            return Some(Work::Table(job));
        }
        if busy > 0 || self.passes.is_empty() {
            return None;
        }
        let model = self.passes[0].document.inputs.get("model").cloned();
        let same = |job: &Job| job.document.inputs.get("model") == model.as_ref();
        let (group, rest) = std::mem::take(&mut self.passes).into_iter().partition(same);
        self.passes = rest;
        Some(Work::Pass(group))
    }

    fn receive(&mut self, finished: Finished) -> Result<()> {
        let waiting = self.underway.remove(&finished.key).unwrap_or_default();
        let stage = self.plan.graph.nodes[finished.node].node.stage;
        match finished.result {
            Ok(outputs) => {
                let counts = self.counts(finished.node);
                counts.ran += 1;
                counts.seconds += finished.seconds;
                self.progress.done(stage, &finished.label, finished.seconds);
                for (node, _) in &waiting {
                    self.counts(*node).cached += 1;
                }
                for (node, task) in std::iter::once((finished.node, finished.task)).chain(waiting) {
                    if self.plan.finish(node, task, outputs.clone()) {
                        self.finished(node)?;
                    }
                }
            }
            // A task cut short by the user's stop is not a failure of the task.
            Err(error) if error.is::<Stopped>() => {}
            Err(error) => {
                self.counts(finished.node).failed += 1 + waiting.len();
                waiting.iter().for_each(|(node, _)| self.failed[*node] = true);
                self.fail(finished.node, finished.label, error);
            }
        }
        Ok(())
    }

    fn close(mut self, started: Instant, interrupted: bool) -> Result<Summary> {
        let states = &self.plan.states;
        let unfinished = (0..states.len()).filter(|index| self.wanted[*index] && states[*index].outputs.is_none());
        self.summary.unreached = unfinished.filter(|index| !self.failed[*index]).count();
        self.summary.interrupted = interrupted;
        self.summary.seconds = started.elapsed().as_secs_f64();
        self.plan.store.fingerprints.save()?;
        Ok(self.summary)
    }
}

/// Why a task returned early: the user asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

fn worker(
    store: &Store,
    work: &Mutex<Receiver<Work>>,
    messages: &Sender<Message>,
    progress: &Progress,
    cancelled: &(dyn Fn() -> bool + Sync),
) {
    loop {
        let next = match work.lock() {
            Ok(work) => work.recv(),
            Err(_) => return,
        };
        let Ok(next) = next else { return };
        match next {
            Work::Table(job) => {
                let started = Instant::now();
                let result = run_table(store, &job, started, progress, cancelled);
                report(messages, &job, started.elapsed().as_secs_f64(), result, cancelled);
            }
            Work::Pass(jobs) => run_pass(store, &jobs, messages, cancelled),
        }
        if messages.send(Message::WorkerFree).is_err() {
            return;
        }
    }
}

fn report(
    messages: &Sender<Message>,
    job: &Job,
    seconds: f64,
    result: Result<Vec<OutputRecord>>,
    cancelled: &(dyn Fn() -> bool + Sync),
) {
    let result = match result {
        Err(_) if cancelled() => Err(Stopped.into()),
        other => other,
    };
    let finished = Finished { node: job.node, task: job.task, key: job.key, label: job.label.clone(), seconds, result };
    // The receiver is gone only when the engine itself failed; that error is the one the user sees.
    let _ = messages.send(Message::Task(finished));
}

fn parts(inputs: &ResolvedInputs) -> BTreeMap<String, Vec<Part>> {
    let own = |parts: &Vec<crate::plan::ResolvedPart>| parts.iter().map(|part| part.part.clone()).collect();
    inputs.iter().map(|(role, parts)| (role.clone(), own(parts))).collect()
}

fn run_table(
    store: &Store,
    job: &Job,
    started: Instant,
    progress: &Progress,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<OutputRecord>> {
    let within = |done: u64, total: u64| progress.within(&job.label, done, total);
    let task = Task { params: &job.document.params, inputs: parts(&job.inputs), cancelled, progress: &within };
    let outputs = guarded(|| job.stage.run(&task))?;
    publish(store, job, outputs, started.elapsed().as_secs_f64())
}

/// A panic in a stage is that task's failure, not the end of the run.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(anyhow!("a defect in Strata: {}", text.unwrap_or("the task panicked")))
    })
}

fn run_pass(store: &Store, jobs: &[Job], messages: &Sender<Message>, cancelled: &(dyn Fn() -> bool + Sync)) {
    let model = parts(&jobs[0].inputs).remove("model").unwrap_or_default();
    let mut done: Vec<bool> = vec![false; jobs.len()];
    let mut last = Instant::now();
    let result = guarded(|| {
        let mut tasks = Vec::new();
        for job in jobs {
            let mut inputs = parts(&job.inputs);
            let tokens = inputs.remove("tokens").and_then(|parts| parts.into_iter().next());
            let tokens = tokens.with_context(|| format!("{} has no input \"tokens\"", job.label))?;
            let tokenizer = inputs.remove("tokenizer").unwrap_or_default();
            tasks.push(PassTask { stage: job.stage, params: &job.document.params, tokens, tokenizer });
        }
        pass::run(&model, &tasks, cancelled, &mut |index, outputs| {
            let seconds = last.elapsed().as_secs_f64();
            last = Instant::now();
            done[index] = true;
            let result = outputs.and_then(|outputs| publish(store, &jobs[index], outputs, seconds));
            report(messages, &jobs[index], seconds, result, cancelled);
        })
    });
    // What the pass did not reach fails with the reason the pass gave.
    let reason = match result {
        Ok(()) => "the pass ended before this block".to_string(),
        Err(error) => format!("{error:#}"),
    };
    for (job, _) in jobs.iter().zip(done).filter(|(_, done)| !done) {
        report(messages, job, 0.0, Err(anyhow!("{reason}")), cancelled);
    }
}

fn publish(store: &Store, job: &Job, outputs: Vec<Output>, seconds: f64) -> Result<Vec<OutputRecord>> {
    for part in job.inputs.values().flatten() {
        if let Some(then) = part.external
            && FileState::of(&part.part.path).ok() != Some(then)
        {
            bail!(
                "{} changed while it was being read; nothing made from it was kept. Run again",
                part.part.path.display()
            );
        }
    }
    let mut records = Vec::new();
    for output in outputs {
        records.push(publish_output(store, output)?);
    }
    let record = Record {
        document: job.document.clone(),
        outputs: records,
        seconds: (seconds * 1e4).round() / 1e4,
        program: concat!("strata ", env!("CARGO_PKG_VERSION")).to_string(),
    };
    store.write_record(job.key, &record)?;
    Ok(record.outputs)
}

fn publish_output(store: &Store, output: Output) -> Result<OutputRecord> {
    match output {
        Output::Table { batch, metadata } => {
            let hashes = table::column_hashes(&batch)?;
            let columns = hashes.into_iter().map(|(name, hash)| (name, hash.to_hex()[..32].to_string())).collect();
            let (object, bytes) = store.publish("parquet", |out| table::write(out, &batch, &metadata))?;
            let rows = batch.num_rows() as u64;
            Ok(OutputRecord { object, extension: "parquet".into(), name: String::new(), rows, bytes, columns })
        }
        Output::File { name, bytes: content } => {
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_string();
            let (object, bytes) = store.publish(&extension, |out| Ok(out.write_all(&content)?))?;
            Ok(OutputRecord { object, extension, name, bytes, ..Default::default() })
        }
    }
}

/// `{"planned": …, "stages": {…}}` for `run --json`.
pub fn to_json(summary: &Summary) -> Value {
    let mut total = Counts::default();
    let mut stages = serde_json::Map::new();
    for (stage, counts) in &summary.stages {
        total.planned += counts.planned;
        total.ran += counts.ran;
        total.cached += counts.cached;
        total.failed += counts.failed;
        stages.insert(stage.to_string(), counts_json(counts, counts.seconds));
    }
    let mut object = counts_json(&total, summary.seconds);
    object["stages"] = Value::Object(stages);
    object
}

fn counts_json(counts: &Counts, seconds: f64) -> Value {
    serde_json::json!({
        "planned": counts.planned,
        "ran": counts.ran,
        "cached": counts.cached,
        "failed": counts.failed,
        "seconds": (seconds * 1e3).round() / 1e3,
    })
}

/// The view folders of every node of a graph, for `views::prune`.
pub fn view_folders(graph: &Graph) -> std::collections::BTreeSet<std::path::PathBuf> {
    graph
        .nodes
        .iter()
        .map(|node| views::folder(node.node.stage, &node.node.bindings, node.stage.table().is_none()))
        .collect()
}
