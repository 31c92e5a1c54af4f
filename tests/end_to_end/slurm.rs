//! Runs on a real Slurm of one node on loopback (`tests/slurm/start.sh`); skipped where Slurm is not installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::workspace::{PIPELINE, Workspace, stderr, stdout};

/// A Slurm that ends with the test.
struct Slurm {
    folder: PathBuf,
}

impl Slurm {
    /// None where there is none to start.
    fn start(workspace: &Workspace) -> Option<Slurm> {
        let folder = workspace.path("slurm");
        let started = script("start.sh").arg(&folder).env("CPUS", "4").output().expect("bash");
        match started.status.code() {
            Some(0) => Some(Slurm { folder }),
            // What is missing here; anything else is a Slurm that does not start.
            Some(3) => {
                eprintln!("skipped: {}", stderr(&started).trim());
                None
            }
            _ => panic!("{}", stderr(&started)),
        }
    }

    fn strata(&self, workspace: &Workspace, arguments: &[&str]) -> Command {
        let mut command = workspace.command(arguments);
        command.env("SLURM_CONF", self.folder.join("slurm.conf"));
        command
    }

    /// The jobs that are not over.
    fn queue(&self) -> String {
        let mut squeue = Command::new("squeue");
        let output = squeue.args(["--noheader", "--format=%i"]).env("SLURM_CONF", self.folder.join("slurm.conf"));
        stdout(&output.output().expect("squeue"))
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = script("stop.sh").arg(&self.folder).status();
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm").join(name));
    command
}

/// Waits until something is there, for as long as a slow machine may take.
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited for {what}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_pipeline_runs_as_jobs_and_can_be_stopped_and_taken_up_again() {
    let (workspace, reference) = (Workspace::new(), Workspace::new());
    let Some(slurm) = Slurm::start(&workspace) else { return };
    let run = |more: &[&str]| slurm.strata(&workspace, &[&["run", "--executor", "slurm"], more].concat());
    let shown = |output: &std::process::Output| format!("{}{}", stdout(output), stderr(output));

    // A job that fails is named with its log and what it said; nothing that depends on it is left.
    let (good, bad) = (workspace.read("one.jsonl"), "{\"messages\": 7}\n");
    workspace.write("one.jsonl", format!("{good}{bad}"));
    workspace.write("pipeline.toml", format!("{PIPELINE}\n[executor.slurm]\njobs = 2\n"));
    let output = run(&["tokens"]).output().expect("starts");
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("failed with exit code 1; its log is") && text.contains("one.jsonl:25:"), "{text}");
    assert_eq!(slurm.queue(), "");
    workspace.write("one.jsonl", good);

    // A run that is killed leaves its jobs, `status` shows them, the next run goes on with them, and Ctrl-C cancels them.
    workspace.write("pipeline.toml", format!("{PIPELINE}\n[executor.slurm]\njobs = 2\nsetup = \"sleep 60\"\n"));
    let mut killed: Child = run(&[]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
    wait_for("the jobs", || slurm.queue().lines().count() >= 6);
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    let status = slurm.strata(&workspace, &["status"]).output().expect("starts");
    assert!(stdout(&status).contains("jobs of `strata run --executor slurm`"), "{}", shown(&status));
    assert!(stdout(&status).contains("  token_losses, hidden_states: job"), "{}", shown(&status));
    // An array is written otherwise while it waits than while it runs.
    let arrays = |queue: String| {
        let ids = queue.lines().filter_map(|line| line.split('_').next());
        ids.map(str::to_string).collect::<std::collections::BTreeSet<_>>()
    };
    let before = arrays(slurm.queue());
    let log = workspace.path("second.log");
    let to_log = || Stdio::from(std::fs::File::options().append(true).create(true).open(&log).expect("a file"));
    let mut second = run(&[]).stderr(to_log()).stdout(to_log()).spawn().expect("starts");
    wait_for("the second run", || workspace.read("second.log").contains("going on with"));
    let third = run(&[]).output().expect("starts");
    assert!(stderr(&third).contains("is under way"), "{}", shown(&third));
    assert_eq!(arrays(slurm.queue()), before, "nothing is submitted twice");
    Command::new("kill").args(["-INT", &second.id().to_string()]).status().expect("kill");
    assert_eq!(second.wait().expect("ends").code(), Some(130), "{}", workspace.read("second.log"));
    assert!(workspace.read("second.log").contains("cancelled the jobs"), "{}", workspace.read("second.log"));
    wait_for("the jobs to end", || slurm.queue().is_empty());

    // The whole gives what a run here gives.
    workspace.write("pipeline.toml", format!("{PIPELINE}\n[executor.slurm]\njobs = 2\n"));
    let output = run(&["hidden_states", "token_losses"]).output().expect("starts");
    assert!(output.status.success(), "{}", shown(&output));
    reference.run(&["hidden_states", "token_losses"]);
    assert!(workspace.tables() == reference.tables(), "{}", shown(&output));
}
