//! Several pipelines on one store: their views, what `gc` keeps, pins, and a pipeline that is gone.

use std::fs;
use std::path::PathBuf;

use crate::workspace::{PIPELINE, Workspace, chats};

/// Two workspaces on one store, which differ in their second dataset.
fn two() -> (Workspace, Workspace, tempfile::TempDir, String) {
    let (mine, yours) = (Workspace::new(), Workspace::new());
    yours.write("two.jsonl", chats("other", 16));
    let shared = tempfile::tempdir().expect("a folder");
    let store = shared.path().join("store").to_str().expect("text").to_string();
    (mine, yours, shared, store)
}

/// Every file that `strata query` sees of a workspace, by a count that tells the datasets apart.
fn examples(workspace: &Workspace, store: &str) -> String {
    let sql = "SELECT dataset, COUNT(*) AS n FROM examples GROUP BY dataset ORDER BY dataset";
    workspace.ok(&["query", "--store", store, sql, "--format", "csv"])
}

#[test]
fn each_pipeline_on_a_store_sees_its_own_tables() {
    let (mine, yours, _shared, store) = two();
    mine.run(&["--store", &store, "tokens"]);
    let before = examples(&mine, &store);
    let summary = yours.run(&["--store", &store, "tokens"]);
    assert_eq!(summary["stages"]["examples"]["cached"], 1, "the dataset that both have is computed once: {summary}");
    assert_eq!(examples(&mine, &store), before, "another's run changes nothing that I see");
    assert_ne!(examples(&yours, &store), before);
    assert_eq!(mine.run(&["--store", &store, "tokens"])["ran"], 0);
}

#[test]
fn a_pipeline_that_names_itself_is_called_so_wherever_it_lies_and_no_other_is() {
    let (mine, yours, shared, store) = two();
    let named = |workspace: &Workspace, name: &str| {
        workspace.write("pipeline.toml", format!("name = {name} # of the study\n{PIPELINE}"));
    };
    named(&mine, "\"study\"");
    mine.run(&["--store", &store, "tokens"]);
    assert!(shared.path().join("store/pipelines/study/tables/tokens").is_dir());
    named(&yours, "\"study\"");
    let text = yours.fails(1, &["run", "--store", &store, "tokens"]);
    assert!(text.contains("study is the name of") && text.contains("give one of them another"), "{text}");
    // Moved, it goes on with its own.
    fs::remove_file(mine.path("pipeline.toml")).expect("removed");
    assert_eq!(yours.run(&["--store", &store, "tokens"])["stages"]["tokens"]["failed"], 0);
    for (name, what) in
        [("\"../up\"", "../up"), ("\"own\"", "choose another name"), ("3", "expected a name in quotes, found 3")]
    {
        named(&yours, name);
        let text = yours.fails(2, &["run", "--store", &store]);
        assert!(text.contains(what) && text.contains("pipeline.toml:1"), "{name}: {text}");
    }
}

#[test]
fn gc_keeps_what_any_pipeline_shows_what_is_young_and_every_input() {
    let (mine, yours, _shared, store) = two();
    mine.run(&["--store", &store]);
    yours.run(&["--store", &store]);
    // What my pipeline used before, and nobody uses now.
    mine.write("two.jsonl", chats("edited", 20));
    mine.run(&["--store", &store]);
    let gc = |arguments: &[&str]| mine.ok(&[&["gc", "--store", &store], arguments].concat());
    assert!(gc(&[]).starts_with("would remove 0 files"), "all is younger than a week");
    let left = [PathBuf::from(&store).join("objects/.tmp-1-2"), PathBuf::from(&store).join("cache/.tmp-1-1")];
    left.iter().for_each(|path| fs::write(path, b"half").expect("written"));
    let planned = gc(&["--keep", "0"]);
    assert!(left.iter().all(|path| path.exists()), "a dry run removes nothing");
    let removed = gc(&["--keep", "0", "--delete"]);
    let counts = |text: &str| {
        text.lines().find_map(|line| Some(line.split_once("remove")?.1.trim_start_matches('d').to_string()))
    };
    assert_eq!(counts(&planned), counts(&removed));
    assert!(!removed.contains("removed 2 files") && !left.iter().any(|path| path.exists()), "{removed}");
    assert_eq!(mine.run(&["--store", &store])["ran"], 0);
    assert_eq!(yours.run(&["--store", &store])["ran"], 0, "a colleague's results are kept");
    for workspace in [&mine, &yours] {
        assert!(workspace.path("two.jsonl").exists() && workspace.path("models/base/model.safetensors").exists());
    }
    mine.ok(&["verify", "--store", &store]);
}

#[test]
fn a_pin_outlives_its_pipeline_and_a_pipeline_that_is_gone_keeps_what_it_used_until_it_is_forgotten() {
    let (mine, yours, _shared, store) = two();
    mine.run(&["--store", &store, "separation"]);
    yours.run(&["--store", &store, "tokens"]);
    mine.ok(&["pin", "--store", &store, "separation", "paper"]);
    let error = mine.fails(1, &["pin", "--store", &store, "separation", "paper"]);
    assert!(error.contains("already"), "{error}");
    assert!(mine.fails(1, &["pin", "--store", &store, "separation", "../paper"]).contains("cannot be a pin's name"));
    let gone = mine.path("");
    fs::remove_file(mine.path("pipeline.toml")).expect("removed");
    let gc = |arguments: &[&str]| yours.ok(&[&["gc", "--store", &store, "--keep", "0"], arguments].concat());
    let said = gc(&[]);
    let name =
        said.split("--forget ").nth(1).and_then(|rest| rest.split('`').next()).expect("the name of what is gone");
    assert!(said.contains("is gone") && said.contains(gone.to_str().expect("text")), "{said}");
    assert!(said.contains("would remove 0 files"), "{said}");
    gc(&["--forget", name]);
    assert!(gc(&["--delete"]).contains("removed 0 files"), "all of it is pinned");
    yours.ok(&["pin", "--store", &store, "--remove", "paper"]);
    assert!(!gc(&["--delete"]).contains("removed 0 files"));
    assert_eq!(yours.run(&["--store", &store, "tokens"])["ran"], 0);
    yours.ok(&["verify", "--store", &store]);
    assert!(yours.fails(1, &["gc", "--store", &store, "--forget", "nobody"]).contains("no pipeline \"nobody\""));
}

#[test]
fn gc_removes_nothing_while_a_run_is_under_way() {
    let (mine, yours, _shared, store) = two();
    mine.run(&["--store", &store, "tokens"]);
    mine.write("one.jsonl", chats("edited", 24));
    mine.run(&["--store", &store, "tokens"]);
    yours.write("one.jsonl", chats("many", 3000));
    let mut child = yours.command(&["run", "-q", "--store", &store]).spawn().expect("starts");
    let lock = PathBuf::from(&store).join("cache/lock");
    while !PathBuf::from(&store).join("pipelines").read_dir().is_ok_and(|entries| entries.count() > 1) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(lock.exists());
    let error = mine.fails(1, &["gc", "--store", &store, "--keep", "0", "--delete"]);
    assert!(error.contains("in use by another strata"), "{error}");
    child.kill().expect("killed");
    child.wait().expect("ended");
    mine.ok(&["gc", "--store", &store, "--keep", "0", "--delete"]);
}

#[test]
fn weights_below_a_stores_models_are_kept_as_inputs() {
    let workspace = Workspace::new();
    workspace.run(&["tokens"]);
    // Another pipeline reads a file that lies in the store: gc of the store does not take it away.
    let store = workspace.path("artifacts");
    let object = store.join("objects/in/model.safetensors");
    fs::create_dir_all(object.parent().expect("a folder")).expect("a folder");
    fs::rename(workspace.path("models/base/model.safetensors"), &object).expect("moved");
    std::os::unix::fs::symlink(&object, workspace.path("models/base/model.safetensors")).expect("a link");
    workspace.run(&["hidden_states"]);
    workspace.ok(&["gc", "--keep", "0", "--delete"]);
    assert!(object.exists(), "an input is never touched");
}

#[test]
fn a_store_that_is_not_there_is_not_sound() {
    let workspace = Workspace::empty();
    for store in [workspace.path("nowhere"), workspace.path("data")] {
        workspace.write("data/one.txt", "no store's");
        let text = workspace.fails(1, &["verify", "--store", store.to_str().expect("text")]);
        assert!(text.contains("there is no store at"), "{text}");
    }
}

#[test]
fn du_counts_every_object_once() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let said: serde_json::Value = serde_json::from_str(&workspace.ok(&["du", "--json"])).expect("JSON");
    let total = |by: &str| {
        said[by].as_object().expect("a table").values().map(|row| row["bytes"].as_u64().expect("bytes")).sum::<u64>()
    };
    assert!(total("stage") > 0 && total("stage") == total("model") && total("stage") == total("age"), "{said}");
    assert!(said["stage"]["hidden_states"]["files"].as_u64() > Some(0) && said["model"]["base"].is_object(), "{said}");
}
