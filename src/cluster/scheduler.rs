//! What is asked of a cluster's scheduler. Slurm's commands do it; tests have one of their own.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;

use super::state::JobState;
use crate::manifest::Resources;

/// An array of jobs, to be submitted.
pub struct Submission<'a> {
    /// One that no other array has.
    pub name: &'a str,
    pub script: String,
    pub indices: &'a [usize],
    /// Arrays that have to end first, and well unless `whatever_comes`.
    pub after: Vec<u64>,
    pub whatever_comes: bool,
    pub resources: &'a Resources,
    /// Where the jobs' logs go, `ARRAY_INDEX.log` each.
    pub logs: PathBuf,
}

pub trait Scheduler {
    /// Returns the array's id.
    fn submit(&self, submission: &Submission) -> Result<u64>;

    /// How far the jobs of these arrays are, by array and index. What is not in it the scheduler does not know.
    fn states(&self, arrays: &[u64]) -> Result<HashMap<(u64, usize), JobState>>;

    /// The ids of arrays by their names, as far as they are known.
    fn find(&self, names: &[&str]) -> Result<HashMap<String, u64>>;

    /// Cancels what is not over of these arrays; with `waiting_only` what has not begun.
    fn cancel(&self, arrays: &[u64], waiting_only: bool) -> Result<()>;
}
