//! How far a job is, as far as Slurm says.

use serde::{Deserialize, Serialize};

/// One job of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Pending,
    Running,
    Completed,
    /// Ended with this exit code.
    Failed(i32),
    /// Killed because it took more memory than it had asked for.
    OutOfMemory,
    TimedOut,
    Cancelled,
    /// Never started, because a job that it depends on failed.
    Blocked,
    /// Its node failed, or another job took its place.
    Lost,
    /// Slurm no longer knows of it.
    Forgotten,
}

impl JobState {
    /// From the words of squeue and sacct, the reason where there is one, and what the process ended with.
    pub fn parse(state: &str, reason: &str, ended: Ended) -> JobState {
        // sacct says who cancelled: "CANCELLED by 1000".
        match state.split([' ', '+']).next().unwrap_or_default() {
            "COMPLETED" => JobState::Completed,
            "OUT_OF_MEMORY" => JobState::OutOfMemory,
            "TIMEOUT" | "DEADLINE" => JobState::TimedOut,
            "NODE_FAIL" | "PREEMPTED" | "BOOT_FAIL" | "REVOKED" => JobState::Lost,
            "CANCELLED" if reason.contains("DependencyNeverSatisfied") => JobState::Blocked,
            "CANCELLED" => JobState::Cancelled,
            // A kernel that is out of memory kills with signal 9, and so does a cluster without accounting of memory.
            "FAILED" if ended.killed() => JobState::OutOfMemory,
            "FAILED" => JobState::Failed(ended.code),
            "RUNNING" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" | "SUSPENDED" | "STOPPED" => JobState::Running,
            _ => JobState::Pending,
        }
    }

    pub fn is_over(self) -> bool {
        !matches!(self, JobState::Pending | JobState::Running)
    }

    /// Whether the same job may end well when it is tried again.
    pub fn is_worth_another(self) -> bool {
        matches!(self, JobState::OutOfMemory | JobState::TimedOut | JobState::Lost)
    }
}

/// What a process ended with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ended {
    pub code: i32,
    pub signal: i32,
}

impl Ended {
    /// From what wait(2) gives, as squeue prints it.
    pub fn of_status(status: i32) -> Ended {
        Ended { code: status >> 8 & 0xff, signal: status & 0x7f }
    }

    /// From sacct's `CODE:SIGNAL`.
    pub fn of_pair(text: &str) -> Ended {
        let (code, signal) = text.split_once(':').unwrap_or((text, ""));
        Ended { code: code.parse().unwrap_or(0), signal: signal.parse().unwrap_or(0) }
    }

    /// Whether it, or what its shell ran, was killed by signal 9.
    fn killed(self) -> bool {
        self.signal == 9 || self.code == 128 + 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurms_words_are_understood() {
        let of = |state, reason, status| JobState::parse(state, reason, Ended::of_status(status));
        assert_eq!(of("PENDING", "Dependency", 0), JobState::Pending);
        assert_eq!(of("CONFIGURING", "", 0), JobState::Pending);
        assert_eq!(of("RUNNING", "None", 0), JobState::Running);
        assert_eq!(of("COMPLETED", "None", 0), JobState::Completed);
        assert_eq!(of("FAILED", "NonZeroExitCode", 768), JobState::Failed(3));
        assert_eq!(of("FAILED", "JobLaunchFailure", 9), JobState::OutOfMemory);
        assert_eq!(of("FAILED", "NonZeroExitCode", 137 << 8), JobState::OutOfMemory);
        assert_eq!(of("OUT_OF_MEMORY", "OutOfMemory", 0), JobState::OutOfMemory);
        assert_eq!(of("TIMEOUT", "TimeLimit", 0), JobState::TimedOut);
        assert_eq!(of("CANCELLED", "DependencyNeverSatisfied", 0), JobState::Blocked);
        assert_eq!(of("CANCELLED by 1000", "", 0), JobState::Cancelled);
        assert_eq!(of("CANCELLED+", "", 0), JobState::Cancelled);
        assert_eq!(of("NODE_FAIL", "", 0), JobState::Lost);
        assert_eq!(JobState::parse("FAILED", "", Ended::of_pair("2:0")), JobState::Failed(2));
        assert_eq!(JobState::parse("FAILED", "", Ended::of_pair("0:9")), JobState::OutOfMemory);
    }
}
