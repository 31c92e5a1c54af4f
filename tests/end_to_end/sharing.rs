//! Push and pull, and a store that several people write to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::workspace::Workspace;

#[test]
fn what_one_pushed_another_pulls_and_need_not_run() {
    let (mine, yours) = (Workspace::new(), Workspace::new());
    mine.run(&[]);
    let shared = tempfile::tempdir().expect("a folder");
    let url = shared.path().to_str().expect("text");
    assert!(mine.ok(&["push", "--to", url]).starts_with("pushed"));
    assert!(mine.ok(&["push", "--to", url]).starts_with("pushed 0 tasks"));
    assert!(yours.ok(&["pull", "--with-inputs", "--from", url]).starts_with("pulled"));
    assert_eq!(yours.run(&[])["ran"], 0);
    assert_eq!(mine.tables(), yours.tables());
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_is_not_made() {
    let workspace = Workspace::new();
    let shared = tempfile::tempdir().expect("a folder");
    fs::create_dir(shared.path().join("strata")).expect("a folder");
    let wrong = shared.path().join("srata");
    for url in [wrong.display().to_string(), format!("file://{}", wrong.display())] {
        let text = workspace.fails(1, &["pull", "--from", &url]);
        assert!(text.contains("there is no folder") && text.contains("is it") && text.contains("strata?"), "{text}");
    }
    assert!(!wrong.exists());
}

#[test]
fn a_damaged_object_is_not_let_in() {
    let (mine, yours) = (Workspace::new(), Workspace::new());
    mine.run(&["tokens"]);
    let shared = tempfile::tempdir().expect("a folder");
    let url = shared.path().to_str().expect("text");
    mine.ok(&["push", "--to", url]);
    let mut damaged = 0;
    for folder in fs::read_dir(shared.path().join("objects")).expect("objects") {
        for object in fs::read_dir(folder.expect("a folder").path()).expect("objects") {
            let path = object.expect("an object").path();
            let mut bytes = fs::read(&path).expect("bytes");
            bytes[10] ^= 1;
            fs::write(&path, bytes).expect("written");
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let text = yours.fails(1, &["pull", "--from", url]);
    assert!(text.contains("damaged"), "{text}");
    yours.ok(&["verify"]);
    assert!(yours.run(&["tokens"])["ran"].as_u64() > Some(0));
}

#[test]
fn a_poisoned_remote_is_refused_and_writes_nothing_outside_the_store() {
    let (mine, yours) = (Workspace::new(), Workspace::new());
    mine.run(&["tokens"]);
    let shared = tempfile::tempdir().expect("a folder");
    let url = shared.path().to_str().expect("text");
    yours.write("notes.txt", "my only copy");
    let notes = yours.path("notes.txt").display().to_string();
    for (field, text) in [("extension", "x/../../../../notes.txt"), ("name", &notes), ("name", "../../../notes.txt")] {
        let _ = fs::remove_dir_all(shared.path().join("records"));
        mine.ok(&["push", "--to", url]);
        for record in fs::read_dir(shared.path().join("records")).expect("records") {
            let path = record.expect("an entry").path();
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("bytes")).expect("JSON");
            record["outputs"][0][field] = text.into();
            fs::write(&path, record.to_string()).expect("written");
        }
        let error = yours.fails(1, &["pull", "--from", url]);
        assert!(error.contains(&format!("cannot be the {field} of an output")), "{error}");
        assert_eq!(yours.read("notes.txt"), "my only copy");
        assert!(fs::symlink_metadata(yours.path("notes.txt")).expect("a file").is_file());
    }
}

#[test]
fn a_store_outside_the_workspace_serves_several() {
    let (mine, yours) = (Workspace::new(), Workspace::new());
    let shared = tempfile::tempdir().expect("a folder");
    let store = shared.path().join("store");
    let store = store.to_str().expect("text");
    mine.run(&["--store", store]);
    assert_eq!(yours.run(&["--store", store])["ran"], 0);
    // Files are made with what the umask leaves, so a group's umask makes them the group's.
    let object = walk(shared.path());
    let mode = fs::metadata(object).expect("an object").permissions().mode();
    assert_eq!(mode & 0o444, 0o444 & !umask(), "{mode:o}");
}

fn walk(folder: &std::path::Path) -> std::path::PathBuf {
    let mut path = folder.join("store/objects");
    while path.is_dir() {
        path = fs::read_dir(&path).expect("a folder").next().expect("an entry").expect("an entry").path();
    }
    path
}

fn umask() -> u32 {
    let output = Command::new("sh").args(["-c", "umask"]).output().expect("sh");
    u32::from_str_radix(String::from_utf8_lossy(&output.stdout).trim(), 8).expect("octal")
}
