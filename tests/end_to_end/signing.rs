//! Signed records: who is believed, and what comes of a record of somebody else's.

use std::fs;

use crate::workspace::{PIPELINE, Workspace, stderr};

/// A person with a key, whose public half is returned.
fn person() -> (Workspace, String) {
    let workspace = Workspace::new();
    let public = workspace.ok(&["key", "new", "-q"]).trim().to_string();
    assert!(public.starts_with("ed25519:") && public.len() == 72, "{public}");
    (workspace, public)
}

fn trusts(workspace: &Workspace, keys: &[&str], remote: &str) {
    let text = format!("trust = {keys:?}\n{PIPELINE}\n[remotes.team]\nurl = {remote:?}\n");
    workspace.write("pipeline.toml", text);
}

#[test]
fn only_records_of_the_trusted_are_used() {
    let ((alice, public), (mallory, _), (reader, _)) = (person(), person(), person());
    let shared = tempfile::tempdir().expect("a folder");
    let url = shared.path().to_str().expect("text");
    mallory.run(&[]);
    mallory.ok(&["push", "--to", url]);
    trusts(&reader, &[&public], url);
    let output = reader.strata(&["run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("whom pipeline.toml does not trust"), "{}", stderr(&output));
    let summary = reader.run(&["--force"]);
    assert_eq!(summary["fetched"], 0);
    // What the trusted one computed is used, and what one made oneself.
    fs::remove_dir_all(shared.path().join("records")).expect("removed");
    alice.run(&[]);
    alice.ok(&["push", "--to", url]);
    fs::remove_dir_all(reader.path("artifacts")).expect("removed");
    let summary = reader.run(&[]);
    assert!(summary["ran"] == 0 && summary["fetched"].as_u64() > Some(60), "{summary}");
    assert_eq!(reader.run(&[])["ran"], 0);
}

#[test]
fn a_signed_record_with_other_outputs_is_refused_and_an_unsigned_one_too() {
    let ((alice, public), (reader, _)) = (person(), person());
    let shared = tempfile::tempdir().expect("a folder");
    let url = shared.path().to_str().expect("text");
    alice.run(&["tokens"]);
    alice.ok(&["push", "--to", url]);
    trusts(&reader, &[&public], url);
    let records: Vec<_> =
        fs::read_dir(shared.path().join("records")).expect("records").map(|entry| entry.expect("one").path()).collect();
    let signature = |text: &str| text.find(",\n  \"signature\"").expect("signed");
    for record in &records {
        let text = fs::read_to_string(record).expect("text");
        fs::remove_file(record).expect("removed");
        fs::write(record, format!("{}\n}}", &text[..signature(&text)])).expect("written");
    }
    let text = reader.fails(1, &["pull", "tokens"]);
    assert!(text.contains("is not signed"), "{text}");
    reader.run(&["tokens"]);
    reader.ok(&["verify"]);
}

#[test]
fn trust_without_a_key_of_ones_own_is_an_error_before_anything_runs() {
    let ((_, public), reader) = (person(), Workspace::new());
    trusts(&reader, &[&public], "nowhere");
    let text = reader.fails(1, &["run"]);
    assert!(text.contains("`strata key new` makes one"), "{text}");
    assert!(!reader.path("artifacts/records").exists());
    reader.ok(&["status"]);
    for (trust, what) in [
        ("trust = \"x\"", "expected a list of public keys"),
        ("trust = [3]", "expected a key in quotes"),
        ("trust = [\"ed25519:12\"]", "64 hexadecimal digits"),
    ] {
        reader.write("pipeline.toml", format!("{trust}\n{PIPELINE}"));
        let text = reader.fails(2, &["status"]);
        assert!(text.contains(what) && text.contains("pipeline.toml:1"), "{trust}: {text}");
    }
}

#[test]
fn a_store_of_before_can_be_signed() {
    let workspace = Workspace::new();
    workspace.run(&["tokens"]);
    let public = workspace.ok(&["key", "new", "-q"]).trim().to_string();
    workspace.write("pipeline.toml", format!("trust = [{public:?}]\n{PIPELINE}"));
    assert!(workspace.fails(1, &["verify"]).is_empty());
    let said = workspace.ok(&["key", "sign"]);
    assert!(said.contains("records signed; 0 were signed before"), "{said}");
    assert_eq!(workspace.run(&["tokens"])["ran"], 0);
    workspace.ok(&["verify"]);
    assert!(workspace.fails(1, &["key", "new"]).contains("is not replaced"));
}
