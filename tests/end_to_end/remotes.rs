//! Two people on one S3 server (moto, on loopback), which is slow, fails, lies, hangs or dies. Skipped where moto is not installed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::workspace::{PIPELINE, Workspace, stderr, stdout};

struct Server {
    process: Child,
    answers: BufReader<ChildStdout>,
    port: u64,
}

impl Server {
    /// A server without faults; none where moto is not installed.
    fn start() -> Option<Server> {
        let installed = Command::new("python3").args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !installed.is_ok_and(|status| status.success()) {
            eprintln!("moto is not installed: skipped");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/faulty_s3.py");
        let mut process = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut server = Server { process, answers, port: 0 };
        server.port = server.number();
        Some(server)
    }

    fn number(&mut self) -> u64 {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).expect("a line") > 0, "the server ended");
            if let Ok(number) = line.trim().parse() {
                return number;
            }
        }
    }

    /// Behaves in another way from now on; returns how many requests came before.
    fn behave(&mut self, behaviour: &str) -> u64 {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{behaviour}").expect("written");
        self.number()
    }

    fn run(&self, workspace: &Workspace, arguments: &[&str]) -> Output {
        workspace
            .command(arguments)
            .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1")
            .output()
            .expect("starts")
    }

    /// What `run --json` counts.
    fn counts(&self, workspace: &Workspace, arguments: &[&str]) -> (u64, u64) {
        let output = self.run(workspace, &[&["run", "--json"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let summary: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        (summary["ran"].as_u64().expect("a count"), summary["fetched"].as_u64().expect("a count"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A person whose pipeline names the remote; everything is asked for, so that all tables are brought.
fn person(more: &str) -> Workspace {
    let workspace = Workspace::new();
    let remote = format!("[remotes.team]\nurl = \"s3://bucket/team\"\n{more}\n");
    workspace.write("pipeline.toml", format!("{PIPELINE}\n[stages.tokens]\n[stages.projections]\n{remote}"));
    workspace
}

#[test]
fn what_one_computed_the_other_fetches_from_a_server_that_fails_and_lies_now_and_then() {
    let Some(mut server) = Server::start() else { return };
    let (mine, yours, again) = (person("push = true"), person(""), person(""));
    let (ran, fetched) = server.counts(&mine, &[]);
    assert!(ran > 70 && fetched == 0, "{ran} {fetched}");
    server.behave(r#"{"fail": 5, "truncate": 7, "wrong": 11}"#);
    // An answer that is wrong time and again is refused, and its task computed.
    let (ran, fetched) = server.counts(&yours, &[]);
    assert!(ran <= 2 && fetched > 70, "{ran} {fetched}");
    assert_eq!(mine.tables(), yours.tables());
    yours.ok(&["verify"]);
    // A server that is slow, and one object in its own words every time: its task alone is computed.
    server.behave(r#"{"delay": 0.01}"#);
    let output = server.run(&again, &["pull", "projection_summary"]);
    assert!(output.status.success() && stdout(&output).starts_with("pulled 4 tasks"), "{}", stderr(&output));
    assert!(!again.path("artifacts/tables/hidden_states").exists(), "what is behind it stays where it is");
    assert_eq!(server.counts(&again, &["projection_summary", "--offline"]), (0, 0));
    // With nothing to do, the server is not asked.
    server.counts(&yours, &[]);
    server.behave("{}");
    assert_eq!(server.counts(&yours, &[]), (0, 0));
    assert_eq!(server.behave("{}"), 0);
}

#[test]
fn a_server_that_dies_half_way_costs_what_it_did_not_give() {
    let Some(mut server) = Server::start() else { return };
    let (mine, yours) = (person("push = true"), person("push = true"));
    server.counts(&mine, &[]);
    server.behave(r#"{"die": 40}"#);
    let output = server.run(&yours, &["run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("goes on without it") && stderr(&output).contains("were not sent"),
        "{}",
        stderr(&output)
    );
    assert_eq!(mine.tables(), yours.tables());
    yours.ok(&["verify"]);
    // What was not sent then is sent by the next run.
    server.behave("{}");
    assert_eq!(server.counts(&yours, &[]), (0, 0));
    assert!(!stderr(&server.run(&yours, &["run"])).contains("not sent"));
}

#[test]
fn a_remote_that_is_not_there_is_an_error_by_name() {
    let Some(server) = Server::start() else { return };
    let workspace = person("");
    for (url, what) in
        [("s3://nobody/x", "there is no such bucket"), ("s3://bucket/empty", "there is no store at s3://bucket/empty")]
    {
        let output = server.run(&workspace, &["pull", "--from", url]);
        assert!(output.status.code() == Some(1) && stderr(&output).contains(what), "{url}: {}", stderr(&output));
    }
    // Also where nothing is missing.
    workspace.run(&["--offline"]);
    for (url, what) in [("s3://nobody/x", "there is no such bucket"), ("elsewhere/x", "there is no folder")] {
        let output = server.run(&workspace, &["pull", "--from", url]);
        assert!(output.status.code() == Some(1) && stderr(&output).contains(what), "{url}: {}", stderr(&output));
    }
    for workspace in [&workspace, &person("")] {
        let output = server.run(workspace, &["push", "--to", "s3://nobody/x"]);
        let text = stderr(&output);
        assert!(output.status.code() == Some(1) && text.contains("there is no such bucket"), "{text}");
    }
}

#[test]
fn a_pipeline_that_says_so_stops_without_its_remote() {
    let workspace = Workspace::new();
    let remote = "[remotes.team]\nurl = \"gone\"\n";
    workspace.write("pipeline.toml", format!("{PIPELINE}{remote}on_remote_failure = \"stop\"\n"));
    let text = workspace.fails(1, &["run"]);
    assert!(text.contains("the remote team cannot be asked: there is no folder"), "{text}");
    assert!(workspace.run(&["--offline"])["ran"].as_u64() > Some(0));
    let workspace = Workspace::new();
    workspace.write("pipeline.toml", format!("{PIPELINE}{remote}"));
    let output = workspace.strata(&["run"]);
    assert!(output.status.success() && stderr(&output).contains("goes on without it"), "{}", stderr(&output));
}

#[test]
fn tables_come_without_the_models_and_the_data_where_the_lock_says_what_they_were() {
    let shared = tempfile::tempdir().expect("a folder");
    let remote = format!("[remotes.team]\nurl = {:?}\n", shared.path().to_str().expect("text"));
    let mine = Workspace::new();
    mine.write("pipeline.toml", format!("{PIPELINE}{remote}push = true\n"));
    mine.run(&[]);
    let yours = Workspace::empty();
    yours.write("pipeline.toml", format!("{PIPELINE}{remote}"));
    yours.fails(2, &["pull"]);
    yours.write("strata.lock", mine.read("strata.lock"));
    // A query fetches the tables that it names.
    let count = "SELECT COUNT(*) AS n FROM separation WHERE layer = 0";
    let answer = yours.ok(&["query", count, "--remote", "team", "--format", "csv"]);
    assert_eq!(answer, mine.ok(&["query", count, "--format", "csv"]));
    let tables: Vec<_> = fs::read_dir(yours.path("artifacts/tables")).expect("listed").collect();
    assert_eq!(tables.len(), 1, "{tables:?}");
    let text = yours.fails(2, &["query", "SELECT * FROM seperation", "--remote", "team"]);
    assert!(text.contains("did you mean \"separation\"?"), "{text}");
    assert!(yours.ok(&["pull", "projection_summary"]).starts_with("pulled 4 tasks"));
    yours.ok(&["query", "SELECT mean FROM projection_summary"]);
    let summary = yours.run(&[]);
    assert!(summary["ran"] == 0 && summary["fetched"].as_u64() > Some(50), "{summary}");
    assert_eq!(yours.run(&["--offline"])["ran"], 0);
    assert_eq!(yours.read("strata.lock"), mine.read("strata.lock"), "what is not here stays as it was");
    // What lies in the remote alone is not kept by a pin, nor can it be exported.
    for command in [["pin", "separation", "paper"], ["export", "separation", "folder"]] {
        let text = yours.fails(1, &command);
        assert!(text.contains("are in a remote; `strata pull separation --with-inputs` brings them"), "{text}");
    }
    yours.ok(&["pull", "separation", "--with-inputs"]);
    yours.ok(&["pin", "separation", "paper"]);
    // What nobody computed cannot be.
    yours.write("pipeline.toml", format!("{PIPELINE}[stages.next_tokens]\n{remote}"));
    let text = yours.fails(1, &["query", "SELECT * FROM next_tokens", "--remote", "team"]);
    assert!(text.contains("not all of next_tokens is in team"), "{text}");
    let text = yours.fails(1, &["run"]);
    assert!(text.contains("is not here, and no remote has what is made from it"), "{text}");
    yours.write("strata.lock", "version = 1\nfiles = 3\n");
    let text = yours.fails(2, &["status"]);
    assert!(text.contains("strata.lock cannot be used"), "{text}");
}

#[test]
fn a_remote_written_wrongly_is_an_error_by_line() {
    let workspace = Workspace::new();
    for (written, what) in [
        ("ulr = \"x\"", "did you mean \"url\"?"),
        ("url = \"ftp://x\"", "unknown kind of remote"),
        ("url = \"s3://key:secret@bucket/x\"", "credentials come from the environment"),
        ("url = \"https://example.org/x\"\npush = true", "can only be read from"),
        ("url = \"x\"\non_remote_failure = \"stopp\"", "did you mean \"stop\"?"),
        ("push = true", "a remote needs url"),
    ] {
        workspace.write("pipeline.toml", format!("{PIPELINE}[remotes.team]\n{written}\n"));
        let text = workspace.fails(2, &["run"]);
        assert!(text.contains(what) && text.contains("pipeline.toml:"), "{written}: {text}");
    }
    workspace.write("pipeline.toml", format!("{PIPELINE}[remotes.team]\nurl = \"x\"\n"));
    let text = workspace.fails(2, &["pull", "--from", "taem"]);
    assert!(text.contains("did you mean \"team\"?"), "{text}");
    let text = workspace.fails(2, &["pull", "s3://bucket/x"]);
    assert!(text.contains("did you mean --from s3://bucket/x?"), "{text}");
}
