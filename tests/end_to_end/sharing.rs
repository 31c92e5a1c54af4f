//! Push and pull, and a store that several people write to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::workspace::{Workspace, stderr};

#[test]
fn what_one_pushed_another_pulls_and_need_not_run() {
    let (mine, yours) = (Workspace::new(), Workspace::new());
    mine.run(&[]);
    let shared = tempfile::tempdir().expect("a folder");
    let url = shared.path().to_str().expect("text");
    assert!(mine.ok(&["push", url]).starts_with("pushed"));
    assert!(mine.ok(&["push", url]).starts_with("pushed 0 tasks"));
    assert!(yours.ok(&["pull", url]).starts_with("pulled"));
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
        let text = workspace.fails(1, &["pull", &url]);
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
    mine.ok(&["push", url]);
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
    let text = yours.fails(1, &["pull", url]);
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
        mine.ok(&["push", url]);
        for record in fs::read_dir(shared.path().join("records")).expect("records") {
            let path = record.expect("an entry").path();
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("bytes")).expect("JSON");
            record["outputs"][0][field] = text.into();
            fs::write(&path, record.to_string()).expect("written");
        }
        let error = yours.fails(1, &["pull", url]);
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

/// A real S3 server on loopback (moto, which CI installs); the test is skipped where it is not installed.
#[test]
fn s3_on_loopback() {
    let installed = Command::new("python3").args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let server = format!(
        "from moto.server import ThreadedMotoServer\nimport time\ns = ThreadedMotoServer(ip_address='127.0.0.1', port={port})\ns.start()\n\
         import urllib.request as u\nu.urlopen(u.Request('http://127.0.0.1:{port}/bucket', method='PUT'))\nprint('ready', flush=True)\ntime.sleep(120)"
    );
    let mut server = Command::new("python3")
        .args(["-c", &server])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3");
    let lines = std::io::BufReader::new(server.stdout.take().expect("piped"));
    let ready = std::io::BufRead::lines(lines).map_while(Result::ok).any(|line| line == "ready");
    assert!(ready, "the server did not start");

    let (mine, yours) = (Workspace::new(), Workspace::new());
    mine.run(&[]);
    for (workspace, verb) in [(&mine, "push"), (&yours, "pull")] {
        let output = workspace
            .command(&[verb, "s3://bucket/team/strata"])
            .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1")
            .output()
            .expect("starts");
        assert!(output.status.success(), "{verb}: {}", stderr(&output));
    }
    server.kill().expect("killed");
    server.wait().expect("ended");
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(yours.run(&[])["ran"], 0);
    assert_eq!(mine.tables(), yours.tables());
}
