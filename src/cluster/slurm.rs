//! Slurm through its commands: sbatch, squeue, sacct, scancel.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::scheduler::{Scheduler, Submission};
use super::state::{Ended, JobState};

/// A command that does not answer within this is given up: the controller is down or overloaded.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Slurm;

impl Scheduler for Slurm {
    fn submit(&self, submission: &Submission) -> Result<u64> {
        let resources = submission.resources;
        let mut command = Command::new("sbatch");
        command.arg("--parsable").arg(format!("--job-name={}", submission.name));
        command.arg(format!("--array={}", list(submission.indices)));
        // Slurm reads % as the beginning of a pattern.
        let logs = submission.logs.display().to_string().replace('%', "%%");
        command.arg(format!("--output={logs}/%A_%a.log"));
        command.args(["--nodes=1", "--ntasks=1"]).arg(format!("--cpus-per-task={}", resources.cpus));
        let optional = [
            ("partition", resources.partition.clone()),
            ("account", resources.account.clone()),
            ("mem", resources.memory.map(|mebibytes| format!("{mebibytes}M"))),
            ("time", resources.time.map(|minutes| minutes.to_string())),
            ("gres", (resources.gpus > 0).then(|| format!("gpu:{}", resources.gpus))),
        ];
        for (name, value) in optional {
            command.args(value.map(|value| format!("--{name}={value}")));
        }
        if !submission.after.is_empty() {
            let kind = if submission.whatever_comes { "afterany" } else { "afterok" };
            command.arg(format!("--dependency={kind}:{}", joined(&submission.after, ":")));
            command.arg("--kill-on-invalid-dep=yes");
        }
        command.args(&resources.args);
        let text = output_of(command, submission.script.as_bytes())?;
        // "ID" or "ID;CLUSTER".
        let id = text.trim().split(';').next().and_then(|id| id.parse().ok());
        id.with_context(|| format!("sbatch printed {:?} where a job's number was expected", text.trim()))
    }

    fn states(&self, arrays: &[u64]) -> Result<HashMap<(u64, usize), JobState>> {
        let mut command = Command::new("squeue");
        command.args(["--noheader", "--array", "--states=all"]).arg(format!("--jobs={}", joined(arrays, ",")));
        command.arg("--Format=ArrayJobID:|,ArrayTaskID:|,State:|,exit_code:|,Reason:|");
        let text = match output_of(command, b"") {
            // Of one job that it has forgotten squeue makes an error, of several it leaves it out.
            Err(error) if format!("{error:#}").contains("Invalid job id") => String::new(),
            other => other?,
        };
        let mut found = HashMap::new();
        for line in text.lines() {
            let [array, index, state, status, reason, ..] = line.split('|').map(str::trim).collect::<Vec<_>>()[..]
            else {
                continue;
            };
            let (Ok(array), Ok(index)) = (array.parse(), index.parse()) else { continue };
            let ended = Ended::of_status(status.parse().unwrap_or(0));
            found.insert((array, index), JobState::parse(state, reason, ended));
        }
        let forgotten: Vec<u64> =
            arrays.iter().copied().filter(|array| !found.keys().any(|(known, _)| known == array)).collect();
        if !forgotten.is_empty() {
            found.extend(accounted(&forgotten));
        }
        Ok(found)
    }

    fn find(&self, names: &[&str]) -> Result<HashMap<String, u64>> {
        let mut command = Command::new("squeue");
        command.args(["--noheader", "--states=all", "--format=%F|%j"]).arg(format!("--name={}", names.join(",")));
        let text = output_of(command, b"")?;
        let of_line = |line: &str| {
            let (id, name) = line.split_once('|')?;
            Some((name.trim().to_string(), id.trim().parse().ok()?))
        };
        Ok(text.lines().filter_map(of_line).collect())
    }

    fn cancel(&self, arrays: &[u64], waiting_only: bool) -> Result<()> {
        let mut command = Command::new("scancel");
        command.arg("--quiet").args(waiting_only.then_some("--state=PENDING"));
        command.args(arrays.iter().map(u64::to_string));
        let Err(error) = output_of(command, b"") else { return Ok(()) };
        // It is an error to scancel that a job is over; that is no matter as long as none is left.
        let left = |state: &JobState| if waiting_only { *state == JobState::Pending } else { !state.is_over() };
        // What was told to end may take a moment.
        for _ in 0..20 {
            if !self.states(arrays)?.values().any(left) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(error)
    }
}

/// What accounting knows of arrays that the controller has forgotten; nothing where there is no accounting.
fn accounted(arrays: &[u64]) -> HashMap<(u64, usize), JobState> {
    let mut command = Command::new("sacct");
    command.args(["--noheader", "--parsable2", "--allocations", "--array", "--format=JobID,State,ExitCode"]);
    command.arg(format!("--jobs={}", joined(arrays, ",")));
    let text = output_of(command, b"").unwrap_or_default();
    text.lines().filter_map(accounted_line).collect()
}

/// `12_3|FAILED|1:0`
fn accounted_line(line: &str) -> Option<((u64, usize), JobState)> {
    let [job, state, ended] = line.split('|').collect::<Vec<_>>()[..] else { return None };
    let (array, index) = job.split_once('_')?;
    Some(((array.parse().ok()?, index.parse().ok()?), JobState::parse(state, "", Ended::of_pair(ended))))
}

fn joined(ids: &[u64], separator: &str) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(separator)
}

fn list(indices: &[usize]) -> String {
    match indices {
        [first, .., last] if last - first + 1 == indices.len() => format!("{first}-{last}"),
        _ => indices.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
    }
}

/// Runs a command and returns what it printed. It has a process group of its own: Ctrl-C must not end an sbatch that has
/// submitted and not yet said what.
fn output_of(mut command: Command, input: &[u8]) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
    let mut child = match piped {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{name} is not installed here: --executor slurm needs Slurm's commands in PATH")
        }
        other => other.with_context(|| format!("cannot run {name}"))?,
    };
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let read = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            from.map(|mut from| from.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let (said, complained) =
        (read(stdout.map(|from| Box::new(from) as _)), read(stderr.map(|from| Box::new(from) as _)));
    // A command that does not read its input has its own reason, which it says.
    let _ = stdin.as_mut().map(|stdin| stdin.write_all(input));
    drop(stdin);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} did not answer within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (said, complained) = (said.join().unwrap_or_default(), complained.join().unwrap_or_default());
    if !status.success() {
        bail!("{name} failed: {}", complained.trim());
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_written_as_sbatch_reads_them() {
        assert_eq!([&[0, 1, 2, 3][..], &[1, 3], &[2]].map(list), ["0-3", "1,3", "2"]);
    }

    #[test]
    fn a_line_of_accounting_is_an_arrays_job() {
        assert_eq!(accounted_line("12_3|OUT_OF_MEMORY|0:125"), Some(((12, 3), JobState::OutOfMemory)));
        assert_eq!(accounted_line("12_3|CANCELLED by 0|0:0"), Some(((12, 3), JobState::Cancelled)));
        assert_eq!(accounted_line("12.batch|FAILED|1:0"), None);
    }

    #[test]
    fn a_command_that_is_missing_or_fails_says_so() {
        let error = |command| output_of(command, b"").map_err(|error| error.to_string()).err().unwrap_or_default();
        assert!(error(Command::new("no-such-command-of-slurm")).contains("is not installed here"));
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        assert_eq!(error(command), "sh failed: why");
    }
}
