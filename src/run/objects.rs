//! Objects that a run waits for: tasks whose results are in a remote, and the jobs that read them.

use std::collections::HashMap;

use super::Job;
use crate::graph::TaskId;
use crate::key::Key;
use crate::remote::background::Wanted;

#[derive(Default)]
pub struct Objects {
    /// What was not asked for yet.
    pub to_ask: Vec<Wanted>,
    /// The tasks with a key whose objects are to come.
    awaited: HashMap<Key, Vec<TaskId>>,
    /// Jobs, with how many keys they wait for.
    held: HashMap<usize, (Job, usize)>,
    /// Which jobs wait for a key.
    readers: HashMap<Key, Vec<usize>>,
    next: usize,
}

impl Objects {
    /// Whether anything is still to come.
    pub fn are_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    pub fn hold_jobs(&self) -> bool {
        !self.held.is_empty()
    }

    /// Has a task's objects fetched, once for all tasks with its key.
    pub fn ask(&mut self, wanted: Wanted) {
        let tasks = self.awaited.entry(wanted.key).or_default();
        if tasks.contains(&wanted.task) {
            return;
        }
        tasks.push(wanted.task);
        if tasks.len() == 1 {
            self.to_ask.push(wanted);
        }
    }

    /// Keeps a job until the objects of these tasks are here.
    pub fn hold(&mut self, job: Job, away: Vec<Wanted>) {
        let number = self.next;
        self.next += 1;
        let mut keys = Vec::new();
        for wanted in away {
            if !keys.contains(&wanted.key) {
                keys.push(wanted.key);
                self.readers.entry(wanted.key).or_default().push(number);
            }
            self.ask(wanted);
        }
        self.held.insert(number, (job, keys.len()));
    }

    /// Nothing of a key is awaited any more. Returns its tasks, and where its objects came the jobs that lack nothing now.
    pub fn arrived(&mut self, key: Key, came: bool) -> (Vec<TaskId>, Vec<Job>) {
        let tasks = self.awaited.remove(&key).unwrap_or_default();
        let mut free = Vec::new();
        for number in self.readers.remove(&key).unwrap_or_default() {
            let Some((_, missing)) = self.held.get_mut(&number) else { continue };
            if came {
                *missing -= 1;
            }
            if *missing == 0 {
                free.extend(self.held.remove(&number).map(|(job, _)| job));
            }
        }
        (tasks, free)
    }
}
