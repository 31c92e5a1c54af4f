//! Transfers beside a run: a thread that fetches what tasks need, and one for each remote that results are sent to.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::lookup::runtime;
use super::{Failure, Remote};
use crate::graph::TaskId;
use crate::key::Key;
use crate::manifest::remotes::RemoteSetting;
use crate::store::{OutputRecord, Store};

/// Objects on their way at once.
const AT_ONCE: usize = 16;

/// A task whose objects are to come.
pub struct Wanted {
    pub task: TaskId,
    pub key: Key,
    pub outputs: Vec<OutputRecord>,
}

/// A task whose objects came, or did not.
pub struct Arrived {
    pub key: Key,
    pub bytes: u64,
    pub failure: Option<Failure>,
}

/// Where a run asks for objects.
pub struct Fetching {
    requests: UnboundedSender<Wanted>,
}

pub type Requests = UnboundedReceiver<Wanted>;

/// The two ends of a queue of requests.
pub fn fetching() -> (Fetching, Requests) {
    let (requests, queue) = unbounded_channel();
    (Fetching { requests }, queue)
}

impl Fetching {
    /// Asks for a task's objects. Whether they come is said to whoever serves the queue.
    pub fn ask(&self, wanted: Wanted) {
        // The server ends only when this is dropped.
        let _ = self.requests.send(wanted);
    }
}

/// Fetches what is asked for until nobody can ask any more.
///
/// # Errors
/// When the system gives no runtime.
pub fn serve(
    store: &Store,
    settings: &[RemoteSetting],
    mut requests: Requests,
    arrived: &mut dyn FnMut(Arrived),
) -> Result<()> {
    // Most runs ask for nothing.
    let Some(first) = requests.blocking_recv() else { return Ok(()) };
    runtime()?.block_on(async {
        let remotes: Vec<Result<Remote, String>> = settings
            .iter()
            .map(|setting| Remote::open(setting).map_err(|error| format!("{}: {error:#}", setting.name)))
            .collect();
        let permits = tokio::sync::Semaphore::new(AT_ONCE);
        let mut underway = FuturesUnordered::new();
        underway.push(fetch(store, &remotes, &permits, first));
        let mut open = true;
        while open || !underway.is_empty() {
            tokio::select! {
                request = requests.recv(), if open => match request {
                    Some(wanted) => underway.push(fetch(store, &remotes, &permits, wanted)),
                    None => open = false,
                },
                Some(done) = underway.next() => arrived(done),
            }
        }
        Ok(())
    })
}

async fn fetch(
    store: &Store,
    remotes: &[Result<Remote, String>],
    permits: &tokio::sync::Semaphore,
    wanted: Wanted,
) -> Arrived {
    let objects = wanted.outputs.iter().map(|output| object(store, remotes, permits, output));
    let results = futures_util::future::join_all(objects).await;
    let (mut bytes, mut failure) = (0, None);
    for result in results {
        match result {
            Ok(came) => bytes += came,
            Err(wrong) => failure = Some(wrong),
        }
    }
    Arrived { key: wanted.key, bytes, failure }
}

/// An object from the first remote that gives it.
async fn object(
    store: &Store,
    remotes: &[Result<Remote, String>],
    permits: &tokio::sync::Semaphore,
    output: &OutputRecord,
) -> Result<u64, Failure> {
    let _permit = permits.acquire().await;
    let mut failure = Failure::Refused(format!("no remote has {}", output.object_path().display()));
    for remote in remotes {
        match remote {
            Ok(remote) => match remote.object(store, output).await {
                Ok(bytes) => return Ok(bytes),
                Err(here @ Failure::Here(_)) => return Err(here),
                Err(other) => failure = other,
            },
            Err(closed) => failure = Failure::Unreachable(closed.clone()),
        }
    }
    Err(failure)
}

/// What was sent so far, for whoever shows it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub tasks: usize,
    pub objects: usize,
    pub bytes: u64,
    /// Tasks that the remote had already.
    pub present: usize,
    /// Tasks that were to be sent and were not.
    pub unsent: usize,
    /// Why they were not.
    pub failures: Vec<String>,
}

/// Sends tasks to one remote, from a thread of its own.
pub struct Sending {
    keys: UnboundedSender<(Key, bool)>,
}

pub struct Outbox {
    setting: RemoteSetting,
    keys: UnboundedReceiver<(Key, bool)>,
}

/// The two ends of a queue of tasks to send.
pub fn sending(setting: &RemoteSetting) -> (Sending, Outbox) {
    let (sender, keys) = unbounded_channel();
    (Sending { keys: sender }, Outbox { setting: setting.clone(), keys })
}

impl Sending {
    /// Queues a finished task. With `replace`, whatever the remote has under its key is replaced.
    pub fn send(&self, key: Key, replace: bool) {
        let _ = self.keys.send((key, replace));
    }
}

/// Sends what is queued until nothing more can be, or it is told to stop. A remote that fails is not tried again.
///
/// # Errors
/// When the system gives no runtime.
pub fn send_all(store: &Store, outbox: Outbox, done: &Mutex<Transferred>, stop: &AtomicBool) -> Result<()> {
    let Outbox { setting, mut keys } = outbox;
    let note = |change: &dyn Fn(&mut Transferred)| {
        if let Ok(mut done) = done.lock() {
            change(&mut done);
        }
    };
    runtime()?.block_on(async {
        let mut connected = None;
        let mut failed = false;
        let mut queue: Vec<(Key, bool)> = Vec::new();
        const MANY: usize = 1 << 20;
        while keys.recv_many(&mut queue, MANY).await > 0 {
            let batch = std::mem::take(&mut queue);
            if failed || stop.load(Ordering::Relaxed) {
                note(&|done| done.unsent += batch.len());
                continue;
            }
            if connected.is_none() {
                match connect(&setting).await {
                    Ok(opened) => connected = Some(opened),
                    Err(failure) => {
                        failed = true;
                        note(&|done| {
                            done.unsent += batch.len();
                            done.failures.push(failure.to_string());
                        });
                        continue;
                    }
                }
            }
            let Some((remote, known)) = &connected else { continue };
            let mut left = batch.len();
            let requests = batch.into_iter().map(|(key, replace)| async move {
                if stop.load(Ordering::Relaxed) {
                    return Err(None);
                }
                let is_there = match known {
                    _ if replace => false,
                    Some(there) => there.contains(&key),
                    None => remote.has(key).await.map_err(Some)?,
                };
                if is_there {
                    return Ok(None);
                }
                remote.send(store, key).await.map(Some).map_err(Some)
            });
            let mut answers = futures_util::stream::iter(requests).buffer_unordered(AT_ONCE);
            while let Some(answer) = answers.next().await {
                left -= 1;
                note(&|done| match &answer {
                    Ok(None) => done.present += 1,
                    Ok(Some(Some(sent))) => {
                        done.tasks += 1;
                        done.objects += sent.objects;
                        done.bytes += sent.bytes;
                    }
                    // Its record went meanwhile.
                    Ok(Some(None)) | Err(None) => done.unsent += 1,
                    Err(Some(failure)) => {
                        done.unsent += 1;
                        if done.failures.len() < 3 {
                            done.failures.push(failure.to_string());
                        }
                    }
                });
                if matches!(answer, Err(Some(Failure::Unreachable(_)))) {
                    failed = true;
                    break;
                }
            }
            // Where the remote failed, the rest was not tried.
            note(&|done| done.unsent += left);
        }
        Ok(())
    })
}

/// Makes sure that results can be sent to a remote, where there are none to send.
///
/// # Errors
/// When it is not there or does not answer.
pub fn prepare(setting: &RemoteSetting) -> Result<()> {
    let remote = Remote::open_to_write(setting)?;
    runtime()?.block_on(remote.prepare()).map_err(|failure| anyhow::anyhow!("{failure}"))
}

/// A remote that is ready to be sent to, and the keys of all its records where it lists them.
async fn connect(setting: &RemoteSetting) -> Result<(Remote, Option<HashSet<Key>>), Failure> {
    let remote = Remote::open_to_write(setting).map_err(|error| Failure::Unreachable(format!("{error:#}")))?;
    remote.prepare().await?;
    let known = if remote.lists() { Some(remote.all_keys().await?) } else { None };
    Ok((remote, known))
}
