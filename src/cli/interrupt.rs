//! Ctrl-C: the first asks to stop, the second stops at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);
/// What is said at the first.
static FIRST: Mutex<&str> = Mutex::new("stopping");

pub fn cancelled() -> bool {
    INTERRUPTS.load(Ordering::Relaxed) > 0
}

/// Says `first` when asked to stop, from now on.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn listen(first: &'static str) -> Result<()> {
    if let Ok(mut said) = FIRST.lock() {
        *said = first;
    }
    let handler = || {
        if INTERRUPTS.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(130);
        }
        let first = FIRST.lock().map_or("stopping", |said| *said);
        eprintln!("{first}");
    };
    match ctrlc::set_handler(handler) {
        // A command that goes on to run the pipeline listens already.
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        set => set.context("cannot listen for Ctrl-C"),
    }
}

/// Lets the signals of a lost connection and of `kill` end the program as they come: jobs on a cluster go on without it, and only
/// Ctrl-C cancels them.
pub fn leave_other_signals() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for signal in [libc::SIGHUP, libc::SIGTERM] {
        // SAFETY: the default action is set, no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
