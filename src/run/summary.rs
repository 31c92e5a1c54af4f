//! What a run did, by stage.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::key::Key;
use crate::remote::Failure;

/// Counts of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    pub planned: usize,
    pub ran: usize,
    pub cached: usize,
    /// Those whose objects came from a remote.
    pub fetched: usize,
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
    /// Tasks that other workers have to do and had not done.
    pub others: usize,
    /// Tasks whose objects a remote was to have and did not give, with why: the plan was made on a promise that does not hold.
    pub lost: Vec<(Key, Failure)>,
    pub bytes_fetched: u64,
    pub seconds: f64,
}

impl Summary {
    /// Whether every task was done before.
    pub fn all_fresh(&self) -> bool {
        self.failures.is_empty()
            && !self.interrupted
            && self.stages.values().all(|counts| counts.ran + counts.fetched == 0)
    }

    /// Adds what an earlier round of the same run did. What it finished, this one found finished.
    pub fn follow(&mut self, earlier: Summary) {
        for (stage, before) in earlier.stages {
            let counts = self.stages.entry(stage).or_default();
            let done = before.ran + before.fetched;
            counts.ran += before.ran;
            counts.fetched += before.fetched;
            counts.cached = counts.cached.saturating_sub(done);
            counts.seconds += before.seconds;
        }
        self.bytes_fetched += earlier.bytes_fetched;
        self.seconds += earlier.seconds;
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
        total.fetched += counts.fetched;
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
        "fetched": counts.fetched,
        "failed": counts.failed,
        "seconds": (seconds * 1e3).round() / 1e3,
    })
}
