//! What follows from how a job ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::jobs::{JobArray, StepJobs};
use super::state::JobState;
use super::words::{mebibytes, minutes};
use crate::store::Store;

pub enum Verdict {
    Fine,
    Again,
    /// Why it is not tried again.
    Failed(String),
}

/// A job that failed and is not tried again.
#[derive(Debug)]
pub struct Failure {
    pub label: String,
    pub why: String,
}

pub fn verdict(step: &StepJobs, array: &JobArray, state: JobState) -> Verdict {
    let tried = array.tried + 1;
    let times = if tried == 1 { String::new() } else { format!(", tried {tried} times") };
    let grown = |what: &str, key: &str, asked: Option<String>| match asked {
        Some(asked) => format!("{what} with {asked}{times}; {key} in [executor.slurm] gives it more"),
        None => format!("{what}{times}; {key} in [executor.slurm] gives it more, and then it is tried again"),
    };
    let (memory, time) = (array.memory.map(mebibytes), array.time.map(minutes));
    let may_grow = match state {
        JobState::OutOfMemory => memory.is_some(),
        JobState::TimedOut => time.is_some(),
        _ => true,
    };
    if state.is_worth_another() && array.tried < step.resources.retries && may_grow {
        return Verdict::Again;
    }
    Verdict::Failed(match state {
        JobState::Completed | JobState::Blocked => return Verdict::Fine,
        // Its results are in the store or they are not; the run looks when all is over.
        JobState::Forgotten => return Verdict::Fine,
        JobState::Failed(code) => format!("failed with exit code {code}"),
        JobState::OutOfMemory => grown("ran out of memory (or was killed by signal 9)", "memory", memory),
        JobState::TimedOut => grown("ran out of time", "time", time),
        JobState::Cancelled => "was cancelled".to_string(),
        JobState::Lost => format!("was lost with its node{times}"),
        JobState::Pending | JobState::Running => "is not over".to_string(),
    })
}

/// The jobs of an array that failed, each with why; of many the first few.
pub fn failures(store: &Store, step: &StepJobs, array: &JobArray, failed: &[(usize, String)]) -> Vec<Failure> {
    const SAID: usize = 3;
    let label = || step.label();
    let said = failed.iter().take(SAID);
    let said = said.map(|(index, why)| Failure { label: label(), why: in_full(store, array, *index, why) });
    let more = failed.len().saturating_sub(SAID);
    let more = (more > 0).then(|| Failure { label: label(), why: format!("{more} more of its jobs failed") });
    said.chain(more).collect()
}

fn in_full(store: &Store, array: &JobArray, index: usize, why: &str) -> String {
    let log = array.log(store, index);
    let mut text = format!("job {}_{index} {why}; its log is {}", array.id.unwrap_or(0), log.display());
    for line in last_words(&log) {
        text.push_str("\n    ");
        text.push_str(&line);
    }
    text
}

/// What the job's own run complained of; where it did not get so far, the end of what it printed.
fn last_words(log: &Path) -> Vec<String> {
    const READ: u64 = 64 << 10;
    let read = || {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(READ)))?;
        let mut bytes = Vec::new();
        file.take(READ).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let complaints: Vec<String> =
        text.lines().filter(|line| line.starts_with("error")).take(5).map(str::to_string).collect();
    if !complaints.is_empty() {
        return complaints;
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].iter().map(ToString::to_string).collect()
}
