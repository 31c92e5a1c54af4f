//! A run whose writes fail, or that is killed at any moment, leaves a sound store, and the next run makes it whole.
//! `benches/durability/` does the same at every step and at hundreds of moments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::workspace::{Workspace, chats, stderr, stdout};

const PIPELINE: &str = r#"
[models]
base = { path = "models/base" }
[datasets]
one = { path = "one.jsonl" }
[stages.examples]
part = { least = 2, greatest = 4 }
[stages.token_losses]
[stages.loss_summary]
"#;

fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", PIPELINE);
    workspace.model("base", 0);
    workspace.write("one.jsonl", chats("one", 6));
    workspace
}

/// The library that makes calls fail; none where there is no C compiler or no preloading.
fn shim(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/faulty_disk.c");
    let shim = folder.join("faulty_disk.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(source).arg("-ldl").stderr(Stdio::null());
    (cfg!(target_os = "linux") && compile.status().is_ok_and(|status| status.success())).then_some(shim)
}

/// A run, of which the step `at` below the store fails with the error of this number; with `stay` all later ones too.
fn faulty(workspace: &Workspace, shim: &Path, at: usize, error: i32, stay: bool) -> Output {
    let mut command = workspace.command(&["run", "--quiet", "-j", "1"]);
    command.env("LD_PRELOAD", shim).env("FAULTS_BELOW", workspace.path("artifacts"));
    command.env("FAULTS_COUNT", workspace.path("count")).env("FAULTS_AT", at.to_string());
    command.env("FAULTS_ERROR", error.to_string()).env("FAULTS_STAY", if stay { "1" } else { "0" });
    command.output().expect("the program starts")
}

/// The store is sound, and the next run gives the tables of an undisturbed run.
fn is_whole_after(workspace: &Workspace, expected: &[(PathBuf, Vec<u8>)], what: &str) {
    // It may have ended before there was one.
    fs::create_dir_all(workspace.path("artifacts")).expect("a folder");
    let verified = workspace.strata(&["verify"]);
    assert!(verified.status.success(), "{what}: {}{}", stdout(&verified), stderr(&verified));
    let again = workspace.strata(&["run", "--quiet"]);
    assert!(again.status.success(), "{what}: {}", stderr(&again));
    assert!(workspace.tables() == expected, "{what}: other tables");
}

#[test]
fn a_write_that_fails_is_an_error_and_no_damage() {
    const TRIALS: usize = 36;
    // As Linux numbers them: a bad disk once, and one that is full from then on.
    const FAULTS: [(i32, bool, &str); 2] = [(5, false, "Input/output error"), (28, true, "No space left on device")];
    let reference = workspace();
    let Some(shim) = shim(&reference.path("")) else {
        eprintln!("skipped: there is no C compiler");
        return;
    };
    assert!(faulty(&reference, &shim, 0, 5, false).status.success());
    let steps: usize = reference.read("count").trim().parse().expect("a count");
    assert!(steps > TRIALS, "only {steps} steps were seen");
    let expected = reference.tables();
    let trial = |trial: usize| {
        let (at, (error, stay, text)) = (1 + trial * steps / TRIALS, FAULTS[trial % FAULTS.len()]);
        let workspace = workspace();
        let output = faulty(&workspace, &shim, at, error, stay);
        let (what, said) = (format!("{text} at step {at} of {steps}"), stderr(&output));
        assert!(!said.contains("panicked") && !said.contains("a defect"), "{what}: {said}");
        match output.status.code() {
            // What failed was not needed: a lock, what is only remembered.
            Some(0) => assert!(workspace.tables() == expected, "{what}"),
            Some(1) => assert!(said.contains(text) && said.contains("artifacts"), "{what}: {said}"),
            other => panic!("{what}: exit code {other:?}: {said}"),
        }
        is_whole_after(&workspace, &expected, &what);
        output.status.success()
    };
    let got_by = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| scope.spawn(move || (thread..TRIALS).step_by(4).filter(|at| trial(*at)).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no failure")).sum::<usize>()
    });
    assert!(got_by < TRIALS / 4, "{got_by} of {TRIALS} runs did not mind");
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_a_sound_store() {
    let reference = workspace();
    let started = Instant::now();
    reference.run(&[]);
    let (whole, expected) = (started.elapsed(), reference.tables());
    let mut killed = 0;
    for moment in 0..12 {
        let workspace = workspace();
        let mut command = workspace.command(&["run", "--quiet"]);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(whole * moment / 12 + Duration::from_millis(1));
        run.kill().expect("killed");
        killed += usize::from(!run.wait().expect("ended").success());
        is_whole_after(&workspace, &expected, &format!("killed after {moment}/12"));
    }
    assert!(killed > 3, "{killed} runs were killed under way");
}
