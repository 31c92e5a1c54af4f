//! A stage runs again only when something it reads has changed; what ran once gives the same bytes again.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::workspace::{PIPELINE, Workspace, chat, ran};

#[test]
fn a_second_run_runs_nothing() {
    let workspace = Workspace::new();
    let first = workspace.run(&[]);
    assert!(first["ran"].as_u64() > Some(10), "{first}");
    assert_eq!(first["failed"], 0);
    let second = workspace.run(&[]);
    assert_eq!(second["ran"], 0, "{second}");
    assert_eq!(second["cached"], second["planned"]);
    assert_eq!(second["planned"], first["planned"]);
}

#[test]
fn a_run_with_nothing_to_do_is_remembered_for_the_shortcut() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let remembered = || workspace.path("artifacts/cache/unchanged").exists();
    // Not while files are so new that another change could not be told from the last.
    let started = Instant::now();
    while !remembered() && started.elapsed() < Duration::from_secs(20) {
        workspace.run(&[]);
    }
    assert!(remembered());
    let planned = workspace.run(&[])["planned"].clone();
    workspace.write("one.jsonl", chat("another question", "Another answer."));
    let summary = workspace.run(&[]);
    assert!(ran(&summary, "examples") == 1 && summary["planned"] != planned, "{summary}");
}

#[test]
fn same_bytes_with_one_thread_and_with_two_and_in_any_order_of_tasks() {
    let (one, two) = (Workspace::new(), Workspace::new());
    one.run(&["-j", "1"]);
    two.run(&["-j", "2", "separation"]);
    two.run(&["-j", "2"]);
    let (one, two) = (one.tables(), two.tables());
    assert_eq!(one.len(), two.len());
    for ((path, bytes), (other, others)) in one.iter().zip(&two) {
        assert_eq!(path, other);
        assert!(bytes == others, "{} differs", path.display());
    }
}

#[test]
fn one_example_edited_inserted_or_removed_runs_one_part_a_model() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let lines: Vec<String> = workspace.read("one.jsonl").lines().map(|line| format!("{line}\n")).collect();
    let mut edited = lines.clone();
    edited[7] = chat("one question 7, edited", "Another answer.");
    let mut inserted = edited.clone();
    inserted.insert(0, chat("an inserted question", "An inserted answer."));
    let mut removed = inserted.clone();
    removed.remove(15);
    for (what, lines) in [("edited", edited), ("inserted", inserted), ("removed", removed)] {
        workspace.write("one.jsonl", lines.concat());
        let summary = workspace.run(&[]);
        assert_eq!(ran(&summary, "examples"), 1, "{what}: {summary}");
        // A cut point itself can be hit: then two parts change, in every model alike.
        let parts = ran(&summary, "tokens");
        assert!((1..=2).contains(&parts), "{what}: {summary}");
        assert_eq!(ran(&summary, "hidden_states"), 2 * parts, "{what}: {summary}");
        assert_eq!(ran(&summary, "token_losses"), 2 * parts, "{what}: {summary}");
        assert_eq!(ran(&summary, "directions"), 1, "{what}: {summary}");
    }
}

#[test]
fn a_parameter_runs_the_stages_that_read_it() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace.write("pipeline.toml", PIPELINE.replace("components = 2", "components = 3"));
    let summary = workspace.run(&[]);
    for stage in ["examples", "tokens", "hidden_states", "token_losses"] {
        assert_eq!(ran(&summary, stage), 0, "{stage}: {summary}");
    }
    assert_eq!(ran(&summary, "directions"), 2, "{summary}");
    assert_eq!(ran(&summary, "projections"), 4, "{summary}");
    // The projections read came out the same, so the change stops there.
    assert_eq!(ran(&summary, "projection_summary"), 0, "{summary}");
}

#[test]
fn names_are_not_content() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace
        .write("pipeline.toml", PIPELINE.replace("base = {", "foundation = {").replace("datasets.one", "datasets.uno"));
    let summary = workspace.run(&[]);
    assert_eq!(summary["ran"], 0, "{summary}");
    assert!(workspace.path("artifacts/tables/hidden_states/model=foundation/dataset=uno").exists());
    assert!(!workspace.path("artifacts/tables/hidden_states/model=base").exists(), "old views are gone");
}

#[test]
fn a_label_or_a_row_number_does_not_reach_the_models() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace.write("pipeline.toml", PIPELINE.replace("label = \"aligned\"", "label = \"kind\""));
    let summary = workspace.run(&[]);
    assert_eq!(ran(&summary, "examples"), 1, "{summary}");
    assert_eq!(ran(&summary, "tokens"), 0, "{summary}");
}

#[test]
fn models_with_one_tokenizer_share_tokens() {
    let workspace = Workspace::new();
    let summary = workspace.run(&["tokens"]);
    let tokens = &summary["stages"]["tokens"];
    assert_eq!(tokens["ran"], tokens["cached"], "{summary}");
}

#[test]
fn a_missing_or_damaged_object_is_made_again() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let before = workspace.tables();
    let part = |stage: &str| {
        let folder = workspace.path(&format!("artifacts/tables/{stage}"));
        let mut path = folder;
        while path.is_dir() {
            path = fs::read_dir(&path).expect("a folder").next().expect("not empty").expect("an entry").path();
        }
        fs::canonicalize(path).expect("an object")
    };
    fs::remove_file(part("token_losses")).expect("removed");
    let summary = workspace.run(&[]);
    assert_eq!((ran(&summary, "token_losses"), &summary["ran"]), (1, &1.into()), "{summary}");

    let damaged = part("directions");
    let mut bytes = fs::read(&damaged).expect("bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, &bytes).expect("written");
    assert!(workspace.strata(&["verify"]).status.code() == Some(1));
    let summary = workspace.run(&[]);
    assert_eq!(ran(&summary, "directions"), 1, "{summary}");
    assert_eq!(before, workspace.tables(), "the same tables again");
    workspace.ok(&["verify"]);
}

#[test]
fn a_record_that_is_no_json_is_replaced() {
    let workspace = Workspace::new();
    let first = workspace.run(&[]);
    let records = fs::read_dir(workspace.path("artifacts/records")).expect("records");
    for record in records {
        let path = record.expect("an entry").path();
        fs::remove_file(&path).expect("removed");
        fs::write(path, b"{").expect("written");
    }
    let summary = workspace.run(&[]);
    assert_eq!(summary["ran"], first["ran"], "{summary}");
    assert_eq!(workspace.run(&[])["ran"], 0);
}

#[test]
fn a_killed_run_resumes_and_leaves_nothing_half_written() {
    let workspace = Workspace::new();
    let reference = Workspace::new();
    reference.run(&[]);
    let records = |of: &Workspace| {
        let names = fs::read_dir(of.path("artifacts/records"))
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path());
        names.filter(|path| path.extension().is_some_and(|ending| ending == "json")).count()
    };
    let all = records(&reference);
    let (mut kept, mut killed) = (0, 0);
    for wanted in [1, all / 4, all / 2, 3 * all / 4] {
        let mut child = workspace
            .command(&["run", "--quiet", "-j", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        while records(&workspace) < wanted && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("killed");
        killed += usize::from(!child.wait().expect("ended").success());
        let verified = workspace.strata(&["verify"]);
        assert!(verified.status.success(), "at {wanted} records: {}", String::from_utf8_lossy(&verified.stdout));
        let now = records(&workspace);
        assert!(now >= kept.max(wanted), "what was finished stays finished: {now} records, {kept} before");
        kept = now;
    }
    assert!(killed > 1, "{killed} runs were killed under way");
    workspace.run(&[]);
    let (expected, found) = (reference.tables(), workspace.tables());
    let names = |tables: &[(PathBuf, Vec<u8>)]| tables.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found));
    let differ = expected.iter().zip(&found).filter(|(expected, found)| expected != found);
    assert_eq!(differ.map(|((path, _), _)| path).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

#[test]
fn ctrl_c_stops_cleanly() {
    let workspace = Workspace::new();
    workspace.write("one.jsonl", crate::workspace::chats("one", 4000));
    let child = workspace
        .command(&["run", "-j", "1", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let started = Instant::now();
    while !workspace.path("artifacts/tables/examples/dataset=one").exists()
        && started.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    workspace.ok(&["verify"]);
}

#[test]
fn force_runs_the_targets_alone() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let summary = workspace.run(&["--force", "directions"]);
    assert_eq!((ran(&summary, "directions"), &summary["ran"]), (2, &2.into()), "{summary}");
}

#[test]
fn explain_and_status_say_what_changed() {
    let workspace = Workspace::new();
    assert!(workspace.ok(&["status"]).contains("never ran"));
    workspace.run(&[]);
    assert!(workspace.ok(&["explain", "directions"]).contains("fresh"));
    workspace.write("pipeline.toml", PIPELINE.replace("components = 2", "components = 3"));
    let explained = workspace.ok(&["explain", "directions[one]"]);
    assert!(explained.contains("params.components: 2 -> 3"), "{explained}");
    let status = workspace.ok(&["status", "directions"]);
    assert!(status.contains("params.components: 2 -> 3"), "{status}");
    let explained = workspace.ok(&["explain", "projection_summary"]);
    assert!(explained.contains("waits for projections"), "{explained}");
    assert_eq!(
        explained.matches("params.components: 2 -> 3").count(),
        2,
        "the change behind it, once a node: {explained}"
    );
    assert_eq!(workspace.ok(&["run", "--dry-run"]).matches("would run directions").count(), 2);
    workspace.write("pipeline.toml", PIPELINE);
    workspace.model("base", 2);
    let explained = workspace.ok(&["explain", "hidden_states[base,one]"]);
    assert!(explained.contains("model.safetensors") && explained.contains("models/base"), "{explained}");
}

#[test]
fn an_input_that_changes_while_it_is_read_is_noticed() {
    let workspace = Workspace::new();
    workspace.write("pipeline.toml", PIPELINE.replace("part = { least = 2, greatest = 8 }", ""));
    workspace.write("one.jsonl", crate::workspace::chats("one", 3000));
    let mut child = workspace
        .command(&["run", "-j", "1", "--quiet"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    // The same bytes under ever new modification times: what a pass reads is not what was hashed before it.
    let weights = workspace.path("models/base/model.safetensors");
    let file = fs::File::options().append(true).open(&weights).expect("weights");
    let mut time = std::time::SystemTime::now();
    while child.try_wait().expect("a child").is_none() {
        time += Duration::from_secs(1);
        file.set_modified(time).expect("touched");
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("changed while it was being read"), "{text}");
}
