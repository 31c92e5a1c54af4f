//! What waits for the disk: outputs get their names, tasks their records and nodes their views on threads of their own, so that no core is
//! idle meanwhile. Flushes that go on at the same time take little longer than one.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::publish::{Written, name, publish};
use super::worker::{guarded, report};
use super::{Cancelled, Job, Message};
use crate::latest::Finished;
use crate::store::Store;

/// Threads that write. They hardly compute, so that it is no matter of cores.
pub const WRITERS: usize = 8;
/// What may wait to be written before those who compute wait with it.
pub const WAITING: usize = 32;

pub enum Write<'s> {
    /// A task's outputs, and the seconds that it took to compute them.
    Task { job: Arc<Job>, written: Vec<Written<'s>>, seconds: f64 },
    /// The view of a node that is finished.
    View(Finished),
}

/// Writes what comes until no more can.
pub fn writer<'s>(
    store: &'s Store,
    writes: &Mutex<Receiver<Write<'s>>>,
    messages: &Sender<Message>,
    cancelled: Cancelled,
) {
    loop {
        let next = match writes.lock() {
            Ok(writes) => writes.recv(),
            Err(_) => return,
        };
        match next {
            Ok(Write::Task { job, written, seconds }) => finish(store, &job, written, seconds, messages, cancelled),
            Ok(Write::View(node)) => {
                let shown = guarded(|| node.show(store));
                // The receiver is gone only when the engine itself failed; that error is the one the user sees.
                let _ = messages.send(Message::Shown(shown));
            }
            Err(_) => return,
        }
    }
}

/// Names a task's outputs, writes its record and reports it.
pub fn finish(
    store: &Store,
    job: &Job,
    written: Vec<Written>,
    seconds: f64,
    messages: &Sender<Message>,
    cancelled: Cancelled,
) {
    let finished = || -> Result<_> { publish(store, job, name(store, written)?, seconds) };
    report(messages, job, seconds, guarded(finished), cancelled);
}
