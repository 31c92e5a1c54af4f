//! `strata verify --sample`: computes some finished tasks a second time.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::say::say;
use super::{Outcome, Place, interrupt};
use crate::graph::TaskId;
use crate::key::Key;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::run::recompute::{Again, recompute};
use crate::store::Store;
use crate::store::layout::Layout;
use crate::store::signed_by;

/// How many tasks: `5%` of those that are finished, or a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    Share(f64),
    Tasks(usize),
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Sample, String> {
        let expected = || "expected a share such as 5%, or a number of tasks".to_string();
        match text.strip_suffix('%') {
            Some(share) => match share.parse::<f64>() {
                Ok(share) if share > 0.0 && share <= 100.0 => Ok(Sample::Share(share / 100.0)),
                _ => Err(expected()),
            },
            None => text.parse().map(Sample::Tasks).map_err(|_| expected()),
        }
    }
}

impl Sample {
    fn of(self, tasks: usize) -> usize {
        match self {
            Sample::Share(share) => ((tasks as f64 * share).ceil() as usize).min(tasks),
            Sample::Tasks(number) => number.min(tasks),
        }
    }
}

/// A store that is gone when this is.
struct Scratch<'s> {
    store: &'s Store,
    folder: PathBuf,
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // What stays is below `cache/`, which can be deleted.
        let _ = self.store.disk.remove_folder(&self.folder);
    }
}

/// Computes a sample of the pipeline's finished tasks again; returns the keys of those that come out otherwise.
///
/// # Errors
/// When the pipeline cannot be planned, or a task cannot be computed.
pub fn run(place: &Place, sample: Sample, seed: Option<u64>, tolerance: f64) -> Result<(Outcome, Vec<Key>)> {
    interrupt::listen("stopping; again to stop at once")?;
    let workspace = place.open()?;
    let store = &workspace.store;
    store.prepare()?;
    let _lock = store.lock_shared()?;
    let mut plan = Plan::new(&workspace.graph, store);
    plan.expand_all(&workspace.graph.all())?;
    // Of tasks with one key one, and those alone whose inputs are here.
    let mut tasks: Vec<(Key, TaskId)> = Vec::new();
    for id in workspace.graph.ids() {
        if workspace.graph.node(id).upstream().all(|upstream| plan.state(upstream).is_here()) {
            let keys = plan.state(id).done_tasks();
            tasks.extend(keys.into_iter().map(|(index, key)| (key, id.task(index))));
        }
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = seed.unwrap_or_else(now);
    let place_of = |key: &Key| *blake3::hash(format!("{seed} {key}").as_bytes()).as_bytes();
    tasks.sort_by_key(|(key, _)| (place_of(key), *key));
    tasks.dedup_by_key(|(key, _)| *key);
    let chosen: Vec<TaskId> = tasks.iter().take(sample.of(tasks.len())).map(|(_, task)| *task).collect();
    let folder = store.layout.cache().join(format!("again-{}", std::process::id()));
    let scratch = Scratch { store, folder };
    let second = Store::at(Layout::new(&scratch.folder));
    second.prepare()?;
    let progress = Progress::new(place.verbosity);
    let again = recompute(&mut plan, &chosen, &second, tolerance, &progress, &interrupt::cancelled)?;
    let (mut same, mut near, mut farthest, mut differ) = (0, 0, 0.0f64, Vec::new());
    for (task, outcome) in again {
        match outcome {
            Again::Same => same += 1,
            Again::Near(distance) => {
                near += 1;
                farthest = farthest.max(distance);
            }
            Again::Differs(what) => {
                let key =
                    plan.state(task.node).done_key(task.index).context("a defect in Strata: a task without a key")?;
                let record = store.record_with_text(key);
                let by = record.as_ref().and_then(|(_, text)| signed_by(text));
                let by = by.map_or_else(|| "signed by nobody".to_string(), |by| format!("signed by {by}"));
                let made = record
                    .map(|(record, _)| format!("{}, {}, {}", record.made.program, record.made.host, record.made.at));
                let made = made.unwrap_or_default();
                say!(
                    "{} comes out otherwise: {what}. Its record {key} was made by {made}, {by}",
                    plan.task_label(task)
                );
                differ.push(key);
            }
        }
    }
    let all = tasks.len();
    let close = if near > 0 { format!(", {near} within {farthest:.1e}") } else { String::new() };
    place.note(format_args!(
        "{} of {all} tasks computed again (seed {seed}): {same} the same{close}, {} otherwise",
        chosen.len(),
        differ.len()
    ))?;
    Ok((if differ.is_empty() { Outcome::Done } else { Outcome::TaskFailed }, differ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_or_a_number() {
        assert_eq!(("5%".parse(), "12".parse()), (Ok(Sample::Share(0.05)), Ok(Sample::Tasks(12))));
        assert_eq!((Sample::Share(0.05).of(30), Sample::Tasks(12).of(5)), (2, 5));
        for text in ["0%", "101%", "-1", "x", "%", "nan%"] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
    }
}
