//! Where tasks are computed: one thread for each job that the user allows. What they come to is handed to those who write.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Result, anyhow};
use strata_stages::contract::stage::Gathered;
use strata_stages::model::watch_task::{self, WatchTask};
use strata_stages::{Part, Task};

use super::publish::{Written, publish_output, write};
use super::writer::Write;
use super::{Cancelled, Finished, Job, Message, Work};
use crate::key::InputContent;
use crate::plan::{ResolvedInputs, ResolvedPart};
use crate::progress::Progress;
use crate::store::{OutputRecord, Store};

/// Why a task returned early: the user asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Runs what comes until no more can.
pub fn worker<'s>(
    store: &'s Store,
    work: &Mutex<Receiver<Work>>,
    writes: &SyncSender<Write<'s>>,
    messages: &Sender<Message>,
    progress: &Progress,
    cancelled: Cancelled,
) {
    loop {
        let next = match work.lock() {
            Ok(work) => work.recv(),
            Err(_) => return,
        };
        let Ok(next) = next else { return };
        // A task that failed is reported, one that did not is written first.
        let deliver = |job: &Arc<Job>, seconds: f64, written: Result<Vec<Written<'s>>>| match written {
            Ok(written) => drop(writes.send(Write::Task { job: Arc::clone(job), written, seconds })),
            Err(error) => report(messages, job, seconds, Err(error), cancelled),
        };
        match next {
            Work::Table(job) => {
                let started = Instant::now();
                let written = compute(store, &job, progress, cancelled);
                deliver(&Arc::new(job), started.elapsed().as_secs_f64(), written);
            }
            Work::Pass(jobs) => {
                let jobs: Vec<Arc<Job>> = jobs.into_iter().map(Arc::new).collect();
                run_pass(store, &jobs, cancelled, &mut |at, seconds, written| deliver(&jobs[at], seconds, written));
            }
        }
        if messages.send(Message::WorkerFree).is_err() {
            return;
        }
    }
}

pub fn report(
    messages: &Sender<Message>,
    job: &Job,
    seconds: f64,
    result: Result<Vec<OutputRecord>>,
    cancelled: Cancelled,
) {
    let result = match result {
        Err(_) if cancelled() => Err(Stopped.into()),
        other => other,
    };
    let finished = Finished { task: job.task, key: job.key, label: job.label.clone(), seconds, result };
    // The receiver is gone only when the engine itself failed; that error is the one the user sees.
    let _ = messages.send(Message::Task(finished));
}

fn parts(inputs: &ResolvedInputs) -> BTreeMap<String, Vec<Part>> {
    let own = |parts: &Vec<ResolvedPart>| parts.iter().map(|part| part.part.clone()).collect();
    inputs.iter().map(|(role, parts)| (role.clone(), own(parts))).collect()
}

/// The hashes of the files that a job was given, by role.
fn contents(job: &Job) -> BTreeMap<String, Vec<String>> {
    let hash = |content: &InputContent| match content {
        InputContent::File { content, .. } => Some(content.clone()),
        InputContent::Columns { .. } => None,
    };
    let inputs = job.document.inputs.iter();
    inputs.map(|(role, parts)| (role.clone(), parts.iter().filter_map(hash).collect())).collect()
}

/// Computes a task that reads tables, and writes its outputs but for their names.
pub fn compute<'s>(store: &'s Store, job: &Job, progress: &Progress, cancelled: Cancelled) -> Result<Vec<Written<'s>>> {
    let within = |done: u64, total: u64| progress.within(&job.label, done, total);
    let task = Task { params: &job.document.params, inputs: parts(&job.inputs), cancelled, progress: &within };
    guarded(|| match job.stage.work {
        // Each output is an object before the next is made.
        strata_stages::Work::Stream(run) => {
            let mut written = Vec::new();
            run(&task, &mut |output| {
                written.push(publish_output(store, output)?.into());
                Ok(())
            })?;
            Ok(written)
        }
        strata_stages::Work::Gather(gather) => {
            write(store, gather(&Gathered { task: &task, stages: job.stages, contents: contents(job) })?)
        }
        _ => write(store, job.stage.run(&task)?),
    })
}

/// A panic in a stage is that task's failure, not the end of the run.
pub fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(anyhow!("a defect in Strata: {}", text.unwrap_or("the task panicked")))
    })
}

/// Passes the examples of all tasks through their model, and calls with the place of each task, the seconds that it took, and
/// what it came to.
pub fn run_pass<'s>(
    store: &'s Store,
    jobs: &[Arc<Job>],
    cancelled: Cancelled,
    deliver: &mut dyn FnMut(usize, f64, Result<Vec<Written<'s>>>),
) {
    let mut done: Vec<bool> = vec![false; jobs.len()];
    let mut last = Instant::now();
    let result = guarded(|| {
        let tasks = jobs.iter().map(|job| WatchTask {
            stage: job.stage,
            params: &job.document.params,
            inputs: parts(&job.inputs),
        });
        watch_task::run(&tasks.collect::<Vec<_>>(), cancelled, &mut |index, outputs| {
            let written = outputs.and_then(|outputs| write(store, outputs));
            let seconds = last.elapsed().as_secs_f64();
            done[index] = true;
            deliver(index, seconds, written);
            last = Instant::now();
        })
    });
    // What the pass did not reach fails with the reason the pass gave.
    let reason = match result {
        Ok(()) => "the pass ended before this part".to_string(),
        Err(error) => format!("{error:#}"),
    };
    for at in (0..jobs.len()).filter(|at| !done[*at]) {
        deliver(at, 0.0, Err(anyhow!("{reason}")));
    }
}
