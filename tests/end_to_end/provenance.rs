//! Where results come from and in what runs differ: `strata show`, `diff`, `explain` and `export`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::workspace::{Workspace, chats, stderr, stdout};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON object")
}

#[test]
fn a_result_is_shown_with_its_date_its_host_and_the_files_behind_it() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let text = workspace.ok(&["show", "separation"]);
    let hash = blake3::hash(workspace.read("one.jsonl").as_bytes()).to_hex().to_string();
    for said in ["models/base/model.safetensors", "one.jsonl", &hash, "components = 2", "directions[one,base,instruct]"]
    {
        assert!(text.contains(said), "no {said} in {text}");
    }
    let of = json(&workspace.ok(&["show", "separation", "--json"]));
    let first = &of["tasks"][0];
    let record = json(&workspace.read(&format!("artifacts/records/{}.json", first["key"].as_str().expect("a key"))));
    assert_eq!(first["made"], record["made"]);
    assert!(
        text.contains(record["made"]["at"].as_str().expect("a time")) && text.contains(" cores, by strata "),
        "{text}"
    );
    workspace.write("one.jsonl", chats("edited", 24));
    fs::remove_file(workspace.path("two.jsonl")).expect("removed");
    let text = workspace.ok(&["show", "separation"]);
    assert!(
        text.contains("one.jsonl  (has changed since)") && text.contains("two.jsonl  (is not there any more)"),
        "{text}"
    );
    assert!(text.contains(&hash), "the hash is of what the result was made from: {text}");
}

#[test]
fn an_object_is_shown_by_its_hash_and_by_a_link_to_it() {
    let workspace = Workspace::new();
    workspace.run(&["tokens"]);
    let link = "artifacts/tables/tokens/model=base/dataset=one/part-00000.parquet";
    let object = fs::read_link(workspace.path(link)).expect("a link");
    let hash = object.file_stem().and_then(|stem| stem.to_str()).expect("a hash");
    for what in [link, hash, &hash[..12]] {
        let text = workspace.ok(&["show", what]);
        assert!(text.starts_with("tokens[base,one]: 1 task in ") && text.contains("one.jsonl"), "{what}: {text}");
    }
    let error = workspace.fails(2, &["show", "0123456789"]);
    assert!(error.contains("no object's hash begins with 0123456789"), "{error}");
    assert!(workspace.fails(2, &["show", "one.jsonl"]).contains("one.jsonl is no file of the store"));
    assert!(workspace.fails(2, &["show", "tokns"]).contains("did you mean \"tokens\"?"));
    assert!(workspace.fails(1, &["show", "directions"]).contains("`strata run directions` makes it"));
    // What no pipeline shows any more is still told from the records.
    workspace.write("one.jsonl", chats("edited", 24));
    workspace.run(&["tokens"]);
    let text = workspace.ok(&["show", hash]);
    assert!(text.starts_with("tokens ") && text.contains("version"), "{text}");
}

#[test]
fn two_runs_differ_in_a_parameter_and_in_what_follows_from_it() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace.ok(&["pin", "separation", "before"]);
    assert!(workspace.ok(&["diff", "pin:before", "pin:before"]).starts_with("0 of "));
    let pipeline = workspace.read("pipeline.toml");
    workspace.write("pipeline.toml", pipeline.replace("components = 2", "components = 1"));
    let text = workspace.ok(&["diff", "pin:before", "pipeline.toml"]);
    assert!(text.contains("params.components: 2 -> 1") && text.contains("are not known yet"), "{text}");
    workspace.write("two.jsonl", chats("quite other", 20));
    workspace.run(&[]);
    let of = json(&workspace.ok(&["diff", "pin:before", "pipeline.toml", "--json"]));
    let changed = |label: &str| {
        let all = of["changed"].as_array().expect("a list");
        all.iter().find(|node| node["label"] == label).unwrap_or_else(|| panic!("no {label} in {of}"))
    };
    assert_eq!(changed("examples[two]")["differences"][0]["at"], "inputs.dataset jsonl");
    assert_eq!(changed("directions[one,base,instruct]")["differences"][0]["at"], "params.components");
    let states = changed("hidden_states[base,two]");
    assert_eq!((&states["differences"], &states["through_what_it_reads"]), (&json("[]"), &json("true")));
    let separation = changed("separation[two,base,instruct,two,base,instruct]");
    let moved = separation["numbers"]["moved"].as_array().expect("a list");
    assert!(!moved.is_empty(), "{separation}");
    for number in moved {
        let [a, b] =
            ["a", "b"].map(|side| ["value", "low", "high"].map(|of| number[side][of].as_f64().expect("a number")));
        assert!(a[0] < b[1] || a[0] > b[2] || b[0] < a[1] || b[0] > a[2], "{number}");
    }
    assert!(workspace.fails(2, &["diff", "pin:nobody", "pipeline.toml"]).contains("unknown pin \"nobody\""));
    assert!(workspace.fails(2, &["diff", "nowhere", "pipeline.toml"]).contains("no pipeline file, store or exported"));
}

#[test]
fn an_explanation_goes_through_tasks_that_ran_since_to_the_file() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace.write("two.jsonl", chats("other", 20));
    // The change has gone as far as the tokens.
    workspace.run(&["tokens"]);
    let text = workspace.ok(&["explain", "separation"]);
    assert!(text.contains("waits for") && text.contains("hidden_states[base,two] part "), "{text}");
    assert!(text.contains("because of tokens[base,two]: inputs.examples."), "{text}");
    assert!(
        text.contains("because of examples[two]: inputs.dataset jsonl: ") && text.contains("(two.jsonl)"),
        "{text}"
    );
}

/// `strata verify DIR` where nothing else is.
fn verify(folder: &Path) -> (bool, String) {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    let output = command.arg("verify").arg(folder).current_dir(elsewhere.path()).output().expect("starts");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    (output.status.success(), stdout(&output))
}

#[test]
fn an_exported_folder_is_checked_anywhere_and_every_change_to_it_is_noticed() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace.ok(&["export", "separation", "paper"]);
    // Without the store, the models and the datasets.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let folder = elsewhere.path().join("paper");
    fs::rename(workspace.path("paper"), &folder).expect("moved");
    let whole = copy_of(&folder);
    let (sound, text) = verify(&folder);
    assert!(sound && text.contains(", 0 problems"), "{text}");
    let table = "tables/separation/direction=one/source=base/target=instruct/dataset=one/model_a=base/model_b=instruct";
    let part = format!("{table}/part-00000.parquet");
    assert!(fs::read(folder.join(&part)).expect("a file").starts_with(b"PAR1"), "a file and no link");
    assert!(!folder.join("tables/hidden_states").exists() && folder.join("pipeline.toml").is_file());
    let contents = json(&fs::read_to_string(folder.join("export.json")).expect("text"));
    let files: Vec<&str> =
        contents["files"].as_array().expect("a list").iter().filter_map(|f| f["path"].as_str()).collect();
    assert!(files.contains(&"one.jsonl") && files.contains(&"models/base/model.safetensors"), "{files:?}");

    let key = |stage: &str| {
        let nodes = contents["nodes"].as_array().expect("a list");
        let node = nodes.iter().find(|node| node["stage"] == stage).expect("a node");
        format!("records/{}.json", node["keys"][0].as_str().expect("a key"))
    };
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).expect("bytes");
        bytes[at] ^= 1;
        fs::remove_file(path).expect("removed");
        fs::write(path, bytes).expect("written");
    };
    let (tokens, states) = (key("tokens"), key("hidden_states"));
    type Change<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let changes: [Change; 7] = [
        ("a byte of a table", &|to| flip(&to.join(&part), 40), "is not what its record says"),
        ("a table is gone", &|to| fs::remove_file(to.join(&part)).expect("removed"), "is missing"),
        ("a file more", &|to| fs::write(to.join(table).join("more"), "x").expect("written"), "is of no record"),
        ("a record is gone", &|to| fs::remove_file(to.join(&tokens)).expect("removed"), "which no record here made"),
        ("a record's byte", &|to| flip(&to.join(&states), 90), &states),
        ("the pipeline", &|to| flip(&to.join("pipeline.toml"), 3), "pipeline.toml is not what was exported"),
        (
            "another task's record",
            &|to| drop(fs::copy(to.join(&states), forget(to.join(&tokens)))),
            "is another task's record",
        ),
    ];
    for (what, change, said) in changes {
        let folder = copy_of(&folder);
        change(folder.path());
        let (sound, text) = verify(folder.path());
        assert!(!sound && text.contains(said), "{what}: {text}");
    }
    assert!(verify(whole.path()).0);
    let hostile = fs::read_to_string(whole.path().join("export.json")).expect("text").replace(table, "../../etc");
    forget(whole.path().join("export.json"));
    fs::write(whole.path().join("export.json"), hostile).expect("written");
    let (sound, _) = verify(whole.path());
    assert!(!sound, "a folder's name that leads out is refused");

    workspace.write("full/note", "mine");
    let error = workspace.fails(1, &["export", "separation", "full"]);
    assert!(error.contains("full is not empty"), "{error}");
    workspace.write("one.jsonl", chats("edited", 24));
    assert!(workspace.fails(1, &["export", "separation", "stale"]).contains("is not finished"));
    assert!(!workspace.path("stale").exists());
}

fn forget(path: PathBuf) -> PathBuf {
    fs::remove_file(&path).expect("removed");
    path
}

fn copy_of(folder: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a folder");
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        fs::create_dir_all(to.path().join(&below)).expect("a folder");
        for entry in fs::read_dir(folder.join(&below)).expect("a folder") {
            let entry = entry.expect("an entry");
            let below = below.join(entry.file_name());
            if entry.path().is_dir() {
                pending.push(below);
            } else {
                fs::copy(entry.path(), to.path().join(below)).expect("a copy");
            }
        }
    }
    to
}

#[test]
fn two_exports_are_compared_without_their_stores() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace.ok(&["export", "projection_summary", "a", "--with-inputs"]);
    assert!(workspace.path("a/tables/tokens").is_dir(), "everything behind it comes along where that is asked for");
    workspace.write("two.jsonl", chats("quite other", 20));
    workspace.run(&[]);
    workspace.ok(&["export", "projection_summary", "b"]);
    fs::remove_dir_all(workspace.path("artifacts")).expect("removed");
    let text = workspace.ok(&["diff", "a", "b"]);
    assert!(text.contains("examples[two]\n    inputs.dataset jsonl: "), "{text}");
    assert!(text.contains("projection_summary[two,base,instruct,base,two]: ") && text.contains(" mean "), "{text}");
}
