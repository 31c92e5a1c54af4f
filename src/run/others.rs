//! Tasks of other workers that this one's depend on: looked for in the store, ever more seldom while none appears.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Run;
use crate::graph::TaskId;
use crate::key::Key;

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

/// What other workers have to do.
pub struct Others {
    tasks: HashMap<Key, Vec<TaskId>>,
    pause: Duration,
    next: Instant,
    /// When something last happened.
    since: Instant,
}

impl Others {
    pub fn new() -> Others {
        let now = Instant::now();
        Others { tasks: HashMap::new(), pause: SHORTEST, next: now, since: now }
    }

    pub fn add(&mut self, key: Key, task: TaskId) {
        self.tasks.entry(key).or_default().push(task);
    }

    pub fn len(&self) -> usize {
        self.tasks.values().map(Vec::len).sum()
    }

    /// Waiting begins anew: something happened.
    pub fn touch(&mut self) {
        self.since = Instant::now();
    }

    /// The next look comes soon after one that found something, and later after each that did not.
    fn looked(&mut self, found: bool) {
        self.pause = if found { SHORTEST } else { (self.pause * 3 / 2).min(LONGEST) };
        self.next = Instant::now() + self.pause;
        if found {
            self.touch();
        }
    }
}

impl Run<'_, '_> {
    pub(super) fn is_idle(&self) -> bool {
        self.tables.is_empty() && self.passes.is_empty()
    }

    /// Whether to go on with nothing to do: another worker may finish what is waited for.
    pub(super) fn waits_for_others(&self) -> bool {
        let patience = self.options.share.as_ref().map_or(Duration::ZERO, |share| share.patience);
        !self.others.tasks.is_empty() && self.others.since.elapsed() < patience
    }

    /// Takes over what other workers have finished, when it is time to look, and expands what then can be. With nothing else to
    /// do it looks a last time before it gives up. Returns whether anything was found.
    pub(super) fn takes_over_others(&mut self, idle: bool) -> Result<bool> {
        let due = Instant::now() >= self.others.next || (idle && self.is_idle() && !self.waits_for_others());
        if self.others.tasks.is_empty() || !due {
            return Ok(false);
        }
        let tasks = self.others.tasks.iter().filter_map(|(key, tasks)| Some((*key, tasks.first()?.node)));
        let mut found = false;
        for (key, node) in tasks.collect::<Vec<_>>() {
            let Some(outputs) = self.plan.stored(node, key) else { continue };
            found = true;
            for task in self.others.tasks.remove(&key).unwrap_or_default() {
                self.counts(task.node).cached += 1;
                if self.plan.finish(task, outputs.clone()) {
                    self.finished(task.node)?;
                }
            }
        }
        self.others.looked(found);
        Ok(found)
    }
}
