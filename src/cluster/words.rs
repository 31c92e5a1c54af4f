//! What is said of jobs.

use super::jobs::{JobArray, Jobs, StepJobs};
use super::state::JobState;
use crate::manifest::Resources;

/// Where all steps are that are not over.
pub fn summary(jobs: &Jobs) -> String {
    let open = jobs.steps.iter().filter(|step| step.last().is_some_and(|array| !array.settled));
    let started = |step: &&StepJobs| {
        step.last().is_some_and(|array| array.states.values().any(|state| *state != JobState::Pending))
    };
    let (under_way, waiting): (Vec<&StepJobs>, Vec<&StepJobs>) = open.partition(started);
    let mut parts: Vec<String> = under_way.into_iter().map(line).collect();
    match (waiting.len(), parts.is_empty()) {
        (0, _) => {}
        (1, true) => parts.push("1 step pending".to_string()),
        (waiting, true) => parts.push(format!("{waiting} steps pending")),
        (waiting, false) => parts.push(format!("{waiting} more pending")),
    }
    parts.join("; ")
}

/// `tokens: job 12, 3 done, 5 running of 8`
pub fn line(step: &StepJobs) -> String {
    format!("{}: {}", step.label(), step.last().map_or("not submitted".to_string(), standing))
}

fn standing(array: &JobArray) -> String {
    let id = array.id.map_or("not yet submitted".to_string(), |id| format!("job {id}"));
    let of = |state: &JobState| match state {
        JobState::Completed => 0,
        JobState::Running => 1,
        JobState::Pending => 2,
        JobState::Forgotten => 3,
        _ => 4,
    };
    let words = ["done", "running", "pending", "over", "not done"];
    let count = |(kind, word): (usize, &str)| {
        let count = array.states.values().filter(|state| of(state) == kind).count();
        (count > 0).then(|| format!("{count} {word}"))
    };
    let known: Vec<String> = words.into_iter().enumerate().filter_map(count).collect();
    let known = if known.is_empty() { "submitted".to_string() } else { known.join(", ") };
    format!("{id}, {known} of {}", array.indices.len())
}

/// `8 jobs of 4 CPUs, 16 GiB, 2 h 30 min`
pub fn asked(jobs: usize, resources: &Resources) -> String {
    let mut parts = vec![match (jobs, resources.cpus) {
        (1, 1) => "1 job of 1 CPU".to_string(),
        (1, cpus) => format!("1 job of {cpus} CPUs"),
        (jobs, 1) => format!("{jobs} jobs of 1 CPU"),
        (jobs, cpus) => format!("{jobs} jobs of {cpus} CPUs"),
    }];
    match resources.gpus {
        0 => {}
        1 => parts.push("1 GPU".to_string()),
        gpus => parts.push(format!("{gpus} GPUs")),
    }
    parts.extend(resources.memory.map(mebibytes));
    parts.extend(resources.time.map(minutes));
    parts.join(", ")
}

pub fn mebibytes(mebibytes: u64) -> String {
    if mebibytes.is_multiple_of(1024) { format!("{} GiB", mebibytes / 1024) } else { format!("{mebibytes} MiB") }
}

pub fn minutes(minutes: u64) -> String {
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_asks_for_is_said_in_words() {
        let resources = Resources { cpus: 4, gpus: 1, memory: Some(16 << 10), time: Some(150), ..Resources::default() };
        assert_eq!(asked(8, &resources), "8 jobs of 4 CPUs, 1 GPU, 16 GiB, 2 h 30 min");
        assert_eq!(asked(1, &Resources::default()), "1 job of 1 CPU");
        assert_eq!([1, 60, 61].map(minutes), ["1 min", "1 h", "1 h 1 min"]);
        assert_eq!([1023, 1024].map(mebibytes), ["1023 MiB", "1 GiB"]);
    }
}
