//! What was submitted, as it is kept in the store: a run that is started again goes on with what is under way.
//!
//! An array is written down before it is submitted, by a name that no other has, and its id after. So an array whose id is
//! missing because the run was killed in between is found by its name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::state::JobState;
use crate::manifest::{Executor, Resources};
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
    /// Those of pipeline.toml whenever it is read: whoever can write the store shall not say what a job runs.
    #[serde(skip)]
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
    pub fn load(store: &Store, executor: &Executor) -> Option<Jobs> {
        let mut jobs: Jobs = serde_json::from_slice(&std::fs::read(file(store)).ok()?).ok()?;
        let sound = |step: &StepJobs| step.after.iter().all(|place| *place < jobs.steps.len());
        if jobs.format != FORMAT || !jobs.steps.iter().all(sound) {
            return None;
        }
        for step in &mut jobs.steps {
            step.resources = executor.resources(step.stages.first().map_or("", String::as_str)).clone();
        }
        Some(jobs)
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

    /// Notes that what follows from an array's end was done.
    pub fn settle(&mut self, settled: &JobArray) {
        let arrays = self.steps.iter_mut().flat_map(|step| &mut step.arrays);
        arrays.filter(|array| array.name == settled.name).for_each(|array| array.settled = true);
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
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            bail!("another `strata run --executor slurm` of this pipeline is under way; `strata status` shows its jobs")
        }
        // A file system without locks.
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) | Ok(()) => Ok(file),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}
