//! Where tasks run: one thread for each job that the user allows.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use anyhow::{Result, anyhow};
use strata_stages::contract::stage::Gathered;
use strata_stages::model::watch_task::{self, WatchTask};
use strata_stages::{Part, Task};

use super::publish::{objects, publish, publish_output};
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
pub fn worker(
    store: &Store,
    work: &Mutex<Receiver<Work>>,
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

pub fn run_table(
    store: &Store,
    job: &Job,
    started: Instant,
    progress: &Progress,
    cancelled: Cancelled,
) -> Result<Vec<OutputRecord>> {
    let within = |done: u64, total: u64| progress.within(&job.label, done, total);
    let task = Task { params: &job.document.params, inputs: parts(&job.inputs), cancelled, progress: &within };
    let records = guarded(|| match job.stage.work {
        // Each output is an object before the next is made.
        strata_stages::Work::Stream(run) => {
            let mut records = Vec::new();
            run(&task, &mut |output| {
                records.push(publish_output(store, output)?);
                Ok(())
            })?;
            Ok(records)
        }
        strata_stages::Work::Gather(gather) => {
            objects(store, gather(&Gathered { task: &task, stages: job.stages, contents: contents(job) })?)
        }
        _ => objects(store, job.stage.run(&task)?),
    })?;
    publish(store, job, records, started.elapsed().as_secs_f64())
}

/// A panic in a stage is that task's failure, not the end of the run.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(anyhow!("a defect in Strata: {}", text.unwrap_or("the task panicked")))
    })
}

pub fn run_pass(store: &Store, jobs: &[Job], messages: &Sender<Message>, cancelled: Cancelled) {
    let mut done: Vec<bool> = vec![false; jobs.len()];
    let mut last = Instant::now();
    let result = guarded(|| {
        let tasks = jobs.iter().map(|job| WatchTask {
            stage: job.stage,
            params: &job.document.params,
            inputs: parts(&job.inputs),
        });
        watch_task::run(&tasks.collect::<Vec<_>>(), cancelled, &mut |index, outputs| {
            let seconds = last.elapsed().as_secs_f64();
            last = Instant::now();
            done[index] = true;
            let result = outputs
                .and_then(|outputs| objects(store, outputs))
                .and_then(|records| publish(store, &jobs[index], records, seconds));
            report(messages, &jobs[index], seconds, result, cancelled);
        })
    });
    // What the pass did not reach fails with the reason the pass gave.
    let reason = match result {
        Ok(()) => "the pass ended before this part".to_string(),
        Err(error) => format!("{error:#}"),
    };
    for (job, _) in jobs.iter().zip(done).filter(|(_, done)| !done) {
        report(messages, job, 0.0, Err(anyhow!("{reason}")), cancelled);
    }
}
