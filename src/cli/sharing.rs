//! Sending results to remotes beside a command, and waiting for the rest at its end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::manifest::remotes::{OnFailure, RemoteSetting};
use crate::progress::Progress;
use crate::remote::background::{Sending, Transferred, send_all, sending};
use crate::remote::lookup::Lookup;
use crate::run::{Cancelled, Remotes};
use crate::store::Store;

/// How often a transfer is told of that the run's end waits for.
const TELL: Duration = Duration::from_secs(10);

/// Does something that finds results in remotes and has its own sent to those that are to have them; returns what it gave and how many
/// tasks were not sent.
///
/// # Errors
/// What it fails with; and when results could not be sent to a remote that the pipeline says to stop for.
pub fn beside<'s, T>(
    store: &Store,
    settings: &'s [RemoteSetting],
    progress: &Progress,
    cancelled: Cancelled,
    act: impl FnOnce(&mut Remotes<'s>) -> Result<T>,
) -> Result<(T, usize)> {
    let lookup = if settings.is_empty() { None } else { Some(Lookup::new(settings)?) };
    let to: Vec<&RemoteSetting> = settings.iter().filter(|setting| setting.push).collect();
    let (sent, given) = send_beside(store, &to, progress, cancelled, |sending| {
        let mut remotes = Remotes { settings, lookup, sending };
        let given = act(&mut remotes);
        (given, remotes.sending)
    })?;
    let given = given?;
    let unsent = sent.iter().map(|done| done.unsent).sum();
    for (setting, done) in to.iter().zip(&sent).filter(|(_, done)| done.unsent > 0) {
        let why = done.failures.first().map_or_else(|| "it was stopped".to_string(), String::clone);
        let text = format!("{} tasks were not sent to the remote {}: {why}", done.unsent, setting.name);
        if setting.on_failure == OnFailure::Stop && !done.failures.is_empty() {
            anyhow::bail!("{text}");
        }
        progress.note(&format!("{text}; the next run tries again"));
    }
    Ok((given, unsent))
}

/// Does something that queues tasks to send, and waits until all are sent. What it gives back to send with is dropped first.
///
/// # Errors
/// When the system gives no runtime.
pub fn send_beside<T>(
    store: &Store,
    to: &[&RemoteSetting],
    progress: &Progress,
    cancelled: Cancelled,
    act: impl FnOnce(Vec<Sending>) -> (T, Vec<Sending>),
) -> Result<(Vec<Transferred>, T)> {
    let stop = AtomicBool::new(false);
    let states: Vec<Mutex<Transferred>> = to.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let mut ends = Vec::new();
        let mut threads = Vec::new();
        for (setting, state) in to.iter().zip(&states) {
            let (sending, outbox) = sending(setting);
            ends.push(sending);
            let stop = &stop;
            threads.push(scope.spawn(move || send_all(store, outbox, state, stop)));
        }
        let (given, ends) = act(ends);
        drop(ends);
        let mut told = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            if cancelled() {
                stop.store(true, Ordering::Relaxed);
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                for (setting, state) in to.iter().zip(&states) {
                    if let Ok(done) = state.lock() {
                        let (tasks, megabytes) = (done.tasks, done.bytes as f64 / 1e6);
                        progress.note(&format!("{}: {tasks} tasks sent, {megabytes:.1} MB", setting.name));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for thread in threads {
            thread.join().unwrap_or_else(|_| anyhow::bail!("a defect in Strata: a transfer panicked"))?;
        }
        Ok(given)
    })
    .map(|given| (states.into_iter().map(|state| state.into_inner().unwrap_or_default()).collect(), given))
}
