//! What was submitted, as it is kept in the store: a run that is started again goes on with what is under way.
//!
//! An array is written down before it is submitted, by a name that no other has, and its id after. So an array whose id is
//! missing because the run was killed in between is found by its name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::state::JobState;
use crate::manifest::Resources;
use crate::store::Store;

/// The layout of the file; another Strata's jobs are not read.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Jobs {
    format: u32,
    /// The time of the first submission in UTC, as RFC 3339 writes it.
    pub at: String,
    /// In the names of all arrays.
    pub nonce: String,
    pub steps: Vec<StepJobs>,
}

/// A step and the arrays that were submitted for it: the first, and one for each time that some of its jobs were tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepJobs {
    pub stages: Vec<String>,
    pub resources: Resources,
    pub shards: usize,
    /// The steps that it reads from, by their place.
    pub after: Vec<usize>,
    pub arrays: Vec<JobArray>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobArray {
    pub name: String,
    /// Slurm's number for it, once it is known.
    pub id: Option<u64>,
    pub indices: Vec<usize>,
    /// MiB, and minutes, of this attempt.
    pub memory: Option<u64>,
    pub time: Option<u64>,
    /// How often these jobs were tried before.
    pub tried: u32,
    pub states: BTreeMap<usize, JobState>,
    /// Whether it is over, and what follows from that was done.
    pub settled: bool,
}

impl Jobs {
    pub fn new() -> Jobs {
        let now = chrono::Utc::now();
        let text = format!("{} {}", std::process::id(), now.timestamp_nanos_opt().unwrap_or_default());
        Jobs {
            format: FORMAT,
            at: now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            nonce: blake3::hash(text.as_bytes()).to_hex()[..8].to_string(),
            steps: Vec::new(),
        }
    }

    /// What is known of the jobs of a store's pipeline; none where there are none, or they cannot be read.
    pub fn load(store: &Store) -> Option<Jobs> {
        let jobs: Jobs = serde_json::from_slice(&std::fs::read(file(store)).ok()?).ok()?;
        let sound = |step: &StepJobs| step.after.iter().all(|place| *place < jobs.steps.len());
        (jobs.format == FORMAT && jobs.steps.iter().all(sound)).then_some(jobs)
    }

    /// # Errors
    /// When the store cannot be written.
    pub fn save(&self, store: &Store) -> Result<()> {
        store.disk.replace(&file(store), &serde_json::to_vec_pretty(self)?)
    }

    /// The arrays that are not over.
    pub fn open(&self) -> impl Iterator<Item = &JobArray> {
        self.steps.iter().flat_map(|step| &step.arrays).filter(|array| !array.settled)
    }

    pub fn open_ids(&self) -> Vec<u64> {
        self.open().filter_map(|array| array.id).collect()
    }

    /// Takes in what the scheduler says. Returns whether anything is new.
    pub fn note(&mut self, states: &HashMap<(u64, usize), JobState>) -> bool {
        let mut changed = false;
        for array in self.steps.iter_mut().flat_map(|step| &mut step.arrays).filter(|array| !array.settled) {
            let Some(id) = array.id else { continue };
            for index in &array.indices {
                let before = array.states.get(index).copied();
                if before.is_some_and(JobState::is_over) {
                    continue;
                }
                let now = states.get(&(id, *index)).copied().unwrap_or(JobState::Forgotten);
                changed |= before != Some(now);
                array.states.insert(*index, now);
            }
        }
        changed
    }
}

impl StepJobs {
    /// Its stages, for people: all where they are few.
    pub fn label(&self) -> String {
        match &self.stages[..] {
            [first, second, third, rest @ ..] if rest.len() > 1 => {
                format!("{first}, {second}, {third} and {} more stages", rest.len())
            }
            stages => stages.join(", "),
        }
    }

    /// The last array of it, which is not over unless the step is.
    pub fn last(&self) -> Option<&JobArray> {
        self.arrays.last()
    }

    /// `job 12 (8 jobs): 3 done, 5 running`
    pub fn standing(&self) -> String {
        let Some(array) = self.last() else { return "not submitted".to_string() };
        let id = array.id.map_or("not yet submitted".to_string(), |id| format!("job {id}"));
        let count = |wanted: fn(&JobState) -> bool| array.states.values().filter(|state| wanted(state)).count();
        let counts = [
            (count(|state| *state == JobState::Completed), "done"),
            (count(|state| *state == JobState::Running), "running"),
            (count(|state| *state == JobState::Pending), "pending"),
            (count(|state| state.is_over() && *state != JobState::Completed), "not done"),
        ];
        let known = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let known: Vec<String> = known.collect();
        let known = if known.is_empty() { "submitted".to_string() } else { known.join(", ") };
        format!("{id}, {known} of {}", array.indices.len())
    }
}

impl JobArray {
    pub fn is_over(&self) -> bool {
        self.indices.iter().all(|index| self.states.get(index).is_some_and(|state| state.is_over()))
    }

    /// The log of one of its jobs.
    pub fn log(&self, store: &Store, index: usize) -> PathBuf {
        let id = self.id.map_or_else(String::new, |id| id.to_string());
        logs(store).join(format!("{id}_{index}.log"))
    }
}

fn file(store: &Store) -> PathBuf {
    store.layout.slurm().join("jobs.json")
}

/// Where the jobs' logs are.
pub fn logs(store: &Store) -> PathBuf {
    store.layout.slurm().join("logs")
}

/// Held by a run that submits: two would submit everything twice.
///
/// # Errors
/// When another run holds it, or the store cannot be written.
pub fn lock(store: &Store) -> Result<File> {
    let path = store.layout.slurm().join("lock");
    store.disk.create_folders(path.parent().unwrap_or(Path::new("")))?;
    let file = store.disk.open_lock(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another `strata run --executor slurm` of this pipeline is under way; `strata status` shows its jobs");
    }
    Ok(file)
}
