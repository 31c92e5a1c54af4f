//! Workers that share a pipeline: `strata work` and `strata plan`.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::workspace::{Workspace, ran, stderr, stdout};

fn start(workspace: &Workspace, shard: &str, more: &[&str]) -> Child {
    let arguments = [&["work", "--json", "--shard", shard, "-j", "1"], more].concat();
    workspace.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// The tasks of a stage that a worker says it did: `[base,one] part 2/9`.
fn did(lines: &str, stage: &str) -> BTreeSet<String> {
    let of = |line: &str| Some(line.strip_prefix(stage)?.split("  ").next()?.to_string());
    lines.lines().filter_map(of).filter(|rest| rest.starts_with('[')).collect()
}

#[test]
fn workers_share_the_tasks_and_each_pass_is_of_one() {
    let (workspace, reference) = (Workspace::new(), Workspace::new());
    let alone = reference.run(&[]);
    let workers: Vec<Child> = (0..3).map(|index| start(&workspace, &format!("{index}/3"), &["--wait=60s"])).collect();
    let (mut total, mut passed) = (0, BTreeSet::new());
    for worker in workers {
        let output = worker.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", stderr(&output));
        let summary: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
        assert_eq!((&summary["others"], &summary["unreached"]), (&Value::from(0), &Value::from(0)));
        total += summary["ran"].as_u64().expect("a count");
        let (states, losses) = (did(&stderr(&output), "hidden_states"), did(&stderr(&output), "token_losses"));
        assert!(states.len() > 3, "a third of the {} parts", ran(&alone, "hidden_states"));
        assert_eq!(states, losses, "what watches one part is one worker's");
        passed.extend(states);
    }
    assert_eq!(Some(total), alone["ran"].as_u64(), "every task once");
    assert_eq!(passed.len() as u64, ran(&alone, "hidden_states"));
    assert!(workspace.tables() == reference.tables());
}

#[test]
fn a_worker_that_dies_is_started_again_while_the_other_waits() {
    let (workspace, reference) = (Workspace::new(), Workspace::new());
    reference.run(&[]);
    let patient = start(&workspace, "0/2", &["--wait=60s"]);
    let mut dying = start(&workspace, "1/2", &["--wait=60s"]);
    while !workspace.path("artifacts/records").exists() {
        std::thread::yield_now();
    }
    dying.kill().expect("killed");
    dying.wait().expect("ended");
    let again = start(&workspace, "1/2", &["--wait=60s"]);
    for worker in [patient, again] {
        let output = worker.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert!(workspace.tables() == reference.tables());
}

#[test]
fn a_worker_alone_does_its_share_and_says_what_it_waits_for() {
    let workspace = Workspace::new();
    // Which of two workers has which dataset follows from the keys; each has something sooner or later.
    let text = workspace.fails(1, &["work", "--shard", "0/2", "--wait=1s"]);
    assert!(
        text.contains("tasks of other workers are not done") && text.contains("Is every worker running?"),
        "{text}"
    );
    let note = workspace.ok(&["work", "--shard", "0/2"]);
    assert!(note.contains("share 0/2: 0 ran") && note.contains("are not done, the first of"), "{note}");
    for (arguments, expected) in [
        (&["work", "--shard", "2/2"][..], "the last of 2 is 1"),
        (&["work", "--shard", "x"], "expected I/N"),
        (&["work", "--shard", "0/2", "--wait=soon"], "such as 90s"),
        (&["work", "--shard", "0/2", "--stages", "hiden_states"], "did you mean \"hidden_states\"?"),
        (&["work"], "--shard"),
    ] {
        let text = workspace.fails(2, arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn the_plan_has_every_node_with_what_is_known_of_its_tasks() {
    let workspace = Workspace::new();
    let plan = |arguments: &[&str]| -> Value {
        let text = workspace.ok(&[&["plan", "--format", "json"], arguments].concat());
        serde_json::from_str(&text).expect("one JSON object")
    };
    let node = |plan: &Value, label: &str| -> Value {
        let nodes = plan["nodes"].as_array().expect("a list").iter();
        nodes.clone().find(|node| node["label"] == label).unwrap_or_else(|| panic!("no {label}")).clone()
    };
    let first = plan(&[]);
    let (examples, states) = (node(&first, "examples[one]"), node(&first, "hidden_states[base,one]"));
    assert_eq!((&examples["state"], &examples["wave"]), (&"stale".into(), &0.into()));
    assert_eq!(examples["stale"].as_array().map(Vec::len), Some(1));
    assert_eq!((&states["state"], &states["wave"]), (&"waiting".into(), &2.into()));
    assert_eq!(states["waits_for"], serde_json::json!(["tokens[base,one]"]));
    workspace.run(&["tokens"]);
    let second = plan(&["hidden_states", "token_losses"]);
    let (states, losses) = (node(&second, "hidden_states[base,one]"), node(&second, "token_losses[base,one]"));
    let groups = |node: &Value| -> Vec<Value> {
        node["stale"].as_array().expect("a list").iter().map(|task| task["group"].clone()).collect()
    };
    assert!(groups(&states).len() > 3 && states["passes_a_model"] == true);
    assert_eq!(groups(&states), groups(&losses), "both watch the same pass of the same part");
    assert_ne!(groups(&states), groups(&node(&second, "hidden_states[instruct,one]")), "another model's pass");
    assert_eq!(states["resources"]["cpus"], 1);
    workspace.run(&[]);
    let last = plan(&[]);
    assert_eq!(last["waves"], 0);
    assert!(last["nodes"].as_array().expect("a list").iter().all(|node| node["state"] == "fresh"));
    assert_eq!(workspace.ok(&["plan"]), "nothing is stale\n");
}
