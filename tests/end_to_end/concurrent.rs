//! Several runs at once on one store: each task is computed by one of them, and what a killed one left by another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::workspace::{Workspace, stderr, stdout};

/// The store of a workspace under a second path: mounted twice where that is allowed, else by a link.
struct SecondPath {
    path: PathBuf,
    mounted: bool,
}

impl SecondPath {
    fn of(store: &Path, path: PathBuf) -> SecondPath {
        fs::create_dir_all(store).expect("a folder");
        fs::create_dir(&path).expect("a folder");
        let mount = Command::new("mount").arg("--bind").args([store, &path]).stderr(Stdio::null()).status();
        let mounted = mount.is_ok_and(|status| status.success());
        if !mounted {
            fs::remove_dir(&path).expect("removed");
            std::os::unix::fs::symlink(store, &path).expect("a link");
        }
        SecondPath { path, mounted }
    }
}

impl Drop for SecondPath {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg(&self.path).status();
        }
    }
}

#[test]
fn of_eight_runs_at_once_each_task_is_computed_by_one() {
    let (workspace, reference) = (Workspace::new(), Workspace::new());
    let alone = reference.run(&[]);
    let second = SecondPath::of(&workspace.path("artifacts"), workspace.path("second"));
    let targets: [&[&str]; 8] = [
        &[],
        &["separation"],
        &["token_losses"],
        &["projection_summary", "token_losses"],
        &["hidden_states[base,*]"],
        &["directions", "tokens"],
        &["hidden_states[*,two]", "projections"],
        &[],
    ];
    let spawn = |(index, targets): (usize, &&[&str])| {
        let store = ["artifacts", "second"][index % 2];
        let arguments = [&["run", "--json", "--quiet", "-j", "2", "--store", store], *targets].concat();
        workspace.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
    };
    let runs: Vec<Child> = targets.iter().enumerate().map(spawn).collect();
    let mut ran = 0;
    for run in runs {
        let output = run.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", stderr(&output));
        let summary: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!(summary["failed"], 0, "{summary}");
        ran += summary["ran"].as_u64().expect("a count");
    }
    assert_eq!(ran, alone["ran"], "none was computed twice and none was lost");
    assert!(reference.tables() == workspace.tables());
    drop(second);
    workspace.ok(&["verify"]);
    assert_eq!(workspace.run(&[])["ran"], 0);
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

fn records(workspace: &Workspace) -> usize {
    let names = fs::read_dir(workspace.path("artifacts/records")).into_iter().flatten();
    names.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some())).count()
}

/// A run that is stopped under way, with tasks that it has begun.
fn stopped(workspace: &Workspace, at: usize) -> Child {
    let mut command = workspace.command(&["run", "--quiet", "-j", "1"]);
    let run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    while records(workspace) < at {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    signal(&run, "-STOP");
    run
}

/// A run that has said that it waits for another, and what it says; none where it ended without.
fn waiting(workspace: &Workspace, said: &str) -> Option<Child> {
    let said = workspace.path(said);
    let mut command = workspace.command(&["run", "--json", "-j", "1"]);
    let mut run =
        command.stdout(Stdio::piped()).stderr(fs::File::create(&said).expect("a file")).spawn().expect("starts");
    while !fs::read_to_string(&said).expect("text").contains("waiting for another run, which computes ") {
        if run.try_wait().expect("a child").is_some() {
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Some(run)
}

#[test]
fn what_a_killed_run_held_is_computed_by_the_one_that_waits() {
    let reference = Workspace::new();
    let all = reference.run(&[])["ran"].as_u64().expect("a count");
    // A run that is stopped between two tasks holds no lock: then another is tried.
    let (workspace, mut held, mut impatient) = (1..20)
        .find_map(|at| {
            let workspace = Workspace::new();
            let mut held = stopped(&workspace, at);
            if let Some(impatient) = waiting(&workspace, "impatient") {
                return Some((workspace, held, impatient));
            }
            held.kill().expect("killed");
            held.wait().expect("ended");
            None
        })
        .expect("one of them holds a lock");
    signal(&impatient, "-INT");
    assert_eq!(impatient.wait().expect("ended").code(), Some(130));
    let patient = waiting(&workspace, "patient").expect("it waits for the same");
    let before = records(&workspace) as u64;
    assert!(before < all);
    held.kill().expect("killed");
    assert!(!held.wait().expect("ended").success());
    let output = patient.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", workspace.read("patient"));
    let summary: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert!(summary["ran"].as_u64() >= Some(all - before) && records(&workspace) as u64 == all, "{summary}");
    assert!(reference.tables() == workspace.tables());
    workspace.ok(&["verify"]);
}
