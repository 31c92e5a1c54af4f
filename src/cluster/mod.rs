//! Running a pipeline as jobs of a cluster's scheduler.
//!
//! What is not done is cut into steps (`steps.rs`): nodes that become ready together and ask for the same resources. A step
//! is a job array; each of its jobs is `strata work --shard I/N` on the shared store, so nothing here knows how a task is
//! computed, and the store says what came of it. A job never waits for another: that is what dependencies between arrays are
//! for. What was submitted is written down before and after (`jobs.rs`), so that a run that is started again goes on with
//! what is under way.

pub mod drive;
#[cfg(test)]
mod drive_tests;
pub mod jobs;
pub mod scheduler;
pub mod slurm;
pub mod state;
pub mod steps;
mod verdict;
pub mod waves;
pub mod words;
