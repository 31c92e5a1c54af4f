//! A disk on which one step fails, or at which the program dies.
//!
//! Death is as hard as a power cut: no later step happens, and a file whose bytes were not flushed has lost half of
//! them, whatever its name is by then.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Error(io::ErrorKind),
    Death,
}

/// Counts a disk's steps from 1 and makes one of them fail.
#[derive(Default)]
pub struct Faults {
    at: Option<(usize, Fault)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: usize,
    dead: bool,
    unflushed: BTreeSet<PathBuf>,
}

impl Faults {
    /// A disk that only counts.
    pub fn none() -> Faults {
        Faults::default()
    }

    pub fn at(step: usize, fault: Fault) -> Faults {
        Faults { at: Some((step, fault)), state: Mutex::default() }
    }

    /// How many steps there were.
    pub fn steps(&self) -> usize {
        self.state.lock().expect("no test panics in here").steps
    }

    pub(super) fn step(&self) -> io::Result<()> {
        let mut state = self.state.lock().expect("no test panics in here");
        state.steps += 1;
        match self.at {
            _ if state.dead => Err(io::Error::other("the program is dead")),
            Some((step, fault)) if step == state.steps => match fault {
                Fault::Error(kind) => Err(kind.into()),
                Fault::Death => {
                    state.dead = true;
                    state.unflushed.iter().for_each(|path| lose_half(path));
                    Err(io::Error::other("the program died"))
                }
            },
            _ => Ok(()),
        }
    }

    pub(super) fn created(&self, path: &Path) {
        self.state.lock().expect("no test panics in here").unflushed.insert(path.to_path_buf());
    }

    pub(super) fn flushed(&self, path: &Path) {
        self.state.lock().expect("no test panics in here").unflushed.remove(path);
    }

    pub(super) fn renamed(&self, from: &Path, to: &Path) {
        let mut state = self.state.lock().expect("no test panics in here");
        if state.unflushed.remove(from) {
            state.unflushed.insert(to.to_path_buf());
        }
    }
}

fn lose_half(path: &Path) {
    if let Ok(file) = OpenOptions::new().write(true).open(path) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let _ = file.set_len(length / 2);
    }
}
