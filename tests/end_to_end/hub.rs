//! Models and datasets of a hub: a server on loopback that speaks its API, and is cut off, lies, limits or refuses. Skipped where there is no
//! python3.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::adapters::{config, weights};
use crate::workspace::{Workspace, chats, golden, stderr, stdout};

struct Hub {
    process: Child,
    answers: BufReader<ChildStdout>,
    port: u64,
    folder: TempDir,
}

impl Hub {
    /// With one model `org/tiny`, one adapter-free dataset `org/chats`, and no faults.
    fn start() -> Option<Hub> {
        if Command::new("python3").arg("--version").output().is_err() {
            eprintln!("python3 is not installed: skipped");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/faulty_hub.py");
        let mut process = Command::new("python3")
            .arg(script)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut hub = Hub { process, answers, port: 0, folder };
        hub.port = hub.number();
        hub.model("org/tiny", "main", 0);
        hub.file("datasets/org/chats/main/data/train-00000-of-00001.jsonl", chats("one", 12));
        hub.file("datasets/org/chats/main/README.md", "# chats");
        Some(hub)
    }

    fn number(&mut self) -> u64 {
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).expect("a line") > 0, "the server ended");
        line.trim().parse().expect("a number")
    }

    /// Behaves in another way from now on; returns how many requests came before.
    fn behave(&mut self, behaviour: &str) -> u64 {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{behaviour}").expect("written");
        self.number()
    }

    fn requests(&mut self) -> u64 {
        self.behave("{}")
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }

    /// The golden model of a name, with a byte of its last weights changed `variant` times, beside what other programs read.
    fn model(&self, name: &str, revision: &str, variant: u8) {
        for entry in fs::read_dir(golden("qwen2")).expect("the golden model") {
            let path = entry.expect("an entry").path();
            let file = path.file_name().and_then(|name| name.to_str()).expect("a name").to_string();
            let mut bytes = fs::read(&path).expect("a file");
            if file.ends_with(".safetensors") {
                let end = bytes.len();
                bytes[end - 3] ^= variant;
            }
            self.file(&format!("models/{name}/{revision}/{file}"), bytes);
        }
        self.file(&format!("models/{name}/{revision}/pytorch_model.bin"), vec![7; 200_000]);
    }

    fn command(&self, workspace: &Workspace, arguments: &[&str]) -> Command {
        let mut command = workspace.command(arguments);
        command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port)).env("HF_HOME", workspace.path("hf"));
        command.env("NO_PROXY", "127.0.0.1,localhost");
        for other in ["HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            command.env_remove(other);
        }
        command
    }

    fn run(&self, workspace: &Workspace, arguments: &[&str]) -> Output {
        self.command(workspace, arguments).output().expect("starts")
    }

    fn ok(&self, workspace: &Workspace, arguments: &[&str]) -> String {
        let output = self.run(workspace, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn fails(&self, workspace: &Workspace, code: i32, arguments: &[&str]) -> String {
        let output = self.run(workspace, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }

    /// How many tasks `strata run` ran.
    fn ran(&self, workspace: &Workspace) -> u64 {
        let summary: Value = serde_json::from_str(&self.ok(workspace, &["run", "--json"])).expect("JSON");
        summary["ran"].as_u64().expect("a count")
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const STAGES: &str = "[stages.hidden_states]\npositions = [\"last\"]\n";

/// A pipeline with one model and one dataset.
fn study(model: &str, dataset: &str) -> Workspace {
    let workspace = Workspace::empty();
    workspace
        .write("pipeline.toml", format!("[models]\nbase = {{ {model} }}\n[datasets]\none = {{ {dataset} }}\n{STAGES}"));
    workspace
}

fn of_hub() -> Workspace {
    study("hub = \"org/tiny\"", "hub = \"org/chats\"")
}

/// The names of a store's records, which are their keys.
fn keys(workspace: &Workspace) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![workspace.path("artifacts/records")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { pending.push(path) } else { found.push(path.file_name().expect("a name").into()) }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

fn model_folder(workspace: &Workspace) -> PathBuf {
    workspace.path("hf/hub/models--org--tiny")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn what_comes_from_the_hub_has_the_keys_of_the_same_files_on_disk_and_stays_what_it_was() {
    let Some(mut hub) = Hub::start() else { return };
    let local = study(&format!("path = {:?}", golden("qwen2")), "path = \"chats.jsonl\"");
    local.write("chats.jsonl", chats("one", 12));
    local.run(&[]);
    let workspace = of_hub();
    assert!(hub.ran(&workspace) > 0);
    assert_eq!((keys(&workspace), workspace.tables()), (keys(&local), local.tables()));
    let commit = names(&model_folder(&workspace).join("snapshots")).remove(0);
    let read = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&model_folder(&workspace).join("snapshots").join(&commit)), read, "nothing else was fetched");
    assert_eq!(fs::read_to_string(model_folder(&workspace).join("refs/main")).expect("a ref"), commit);
    assert!(workspace.read("strata.lock").contains(&commit));
    // A listing for each, and a request and its redirect for each file.
    assert_eq!(hub.requests(), 2 + 2 * 5);

    // What the branch has become is not what was read.
    hub.model("org/tiny", "main", 1);
    workspace.write("pipeline.toml", workspace.read("pipeline.toml").replace("\"last\"", "\"response_mean\""));
    assert!(hub.ran(&workspace) > 0);
    assert_eq!(hub.requests(), 0, "all of it was here");
    assert!(hub.ok(&workspace, &["hub"]).contains(&commit[..12]));
    let said = hub.run(&workspace, &["hub", "--update", "base"]);
    assert!(said.status.success() && stderr(&said).contains(", and was "), "{}", stderr(&said));
    assert!(!workspace.read("strata.lock").contains(&format!("\"{commit}\"")));
    assert!(hub.ran(&workspace) > 0, "another model");
    assert_eq!(names(&model_folder(&workspace).join("snapshots")).len(), 2);
    hub.requests();
    assert_eq!((hub.ran(&workspace), hub.requests()), (0, 0));

    // On another machine strata.lock says which commits are meant.
    let colleague = Workspace::empty();
    for file in ["pipeline.toml", "strata.lock"] {
        colleague.write(file, workspace.read(file));
    }
    hub.model("org/tiny", "main", 2);
    let error = hub.fails(&colleague, 2, &["run"]);
    assert!(error.contains("is not on the hub any more") && error.contains("strata hub --update"), "{error}");
    hub.model("org/tiny", "main", 1);
    hub.ran(&colleague);
    assert_eq!(colleague.tables(), workspace.tables());
}

#[test]
fn a_connection_that_is_cut_or_stands_still_is_gone_on_with() {
    let Some(mut hub) = Hub::start() else { return };
    let workspace = of_hub();
    hub.behave(r#"{"cut": 2, "fail": 4}"#);
    assert!(hub.ran(&workspace) > 0);
    // A server that knows no ranges sends the whole once more.
    hub.behave(r#"{"cut": 1, "ranges": false}"#);
    assert!(hub.ran(&of_hub()) > 0);

    // Ctrl-C keeps what came.
    let stopped = of_hub();
    hub.behave(r#"{"hang": 1}"#);
    let child = hub.command(&stopped, &["run"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    let blobs = model_folder(&stopped).join("blobs");
    let half =
        |name: &String| name.ends_with(".incomplete") && fs::metadata(blobs.join(name)).is_ok_and(|m| m.len() > 10_000);
    let began = Instant::now();
    while !names(&blobs).iter().any(half) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", names(&blobs));
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let incomplete = names(&blobs).into_iter().find(half).expect("what came");
    let before = fs::metadata(blobs.join(&incomplete)).expect("a file").len();
    assert!(before > 10_000, "{before}");
    hub.behave(r#"{"resume": true}"#);
    assert!(hub.ran(&stopped) > 0);
    assert!(names(&blobs).iter().all(|name| !name.ends_with(".incomplete")));
    assert_eq!(stopped.tables(), workspace.tables());
}

#[test]
fn a_hub_that_says_to_wait_is_asked_again_then() {
    let Some(mut hub) = Hub::start() else { return };
    let workspace = of_hub();
    hub.behave(r#"{"limit": 1}"#);
    let output = hub.run(&workspace, &["run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("(429): waiting 1 s"), "{}", stderr(&output));
}

#[test]
fn what_does_not_hash_to_what_the_hub_said_is_not_kept() {
    let Some(mut hub) = Hub::start() else { return };
    for wrong in ["model.safetensors", "config.json"] {
        let workspace = of_hub();
        hub.behave(&format!("{{\"wrong\": {wrong:?}}}"));
        let error = hub.fails(&workspace, 1, &["run"]);
        assert!(error.contains(&format!("{wrong} of org/tiny is damaged: its bytes hash to ")), "{error}");
        assert!(error.contains("Nothing of it was kept"), "{error}");
        let commit = names(&model_folder(&workspace).join("snapshots"));
        let there = commit.first().map(|commit| model_folder(&workspace).join("snapshots").join(commit).join(wrong));
        assert!(there.is_none_or(|path| !path.exists()));
        hub.behave("{}");
        assert!(hub.ran(&workspace) > 0);
    }
    // A name that leads out of the cache.
    for extra in ["../../../../evil.safetensors", "/etc/evil.safetensors"] {
        let workspace = of_hub();
        hub.behave(&format!("{{\"extra\": [{extra:?}]}}"));
        let error = hub.fails(&workspace, 1, &["run"]);
        assert!(error.contains("which leads out of the repository; nothing of it was kept"), "{error}");
        assert!(!workspace.path("hf/evil.safetensors").exists() && names(&model_folder(&workspace)).is_empty());
    }
    // An index that does.
    hub.behave("{}");
    hub.model("org/sharded", "main", 0);
    for (shard, says) in
        [("../../evil.safetensors", "is no name of a file"), ("gone.safetensors", "names gone.safetensors")]
    {
        let index = format!("{{\"weight_map\": {{\"x\": {shard:?}}}}}");
        hub.file("models/org/sharded/main/model.safetensors.index.json", index);
        let workspace = study("hub = \"org/sharded\"", "hub = \"org/chats\"");
        let output = hub.run(&workspace, &["run"]);
        assert!(!output.status.success() && stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn what_is_not_there_or_not_for_us_is_said_with_the_nearest_name() {
    let Some(mut hub) = Hub::start() else { return };
    hub.model("org/tiny", "step1000", 3);
    hub.file("models/org/quantised/main/tiny-Q8_0.gguf", "GGUF");
    let fails = |hub: &Hub, model: &str, dataset: &str| hub.fails(&study(model, dataset), 2, &["run"]);
    let (model, dataset) = ("hub = \"org/tiny\"", "hub = \"org/chats\"");
    for (model, dataset, says) in [
        ("hub = \"org/tinny\"", dataset, ["there is no model org/tinny at http://127.0.0.1", "HF_TOKEN is not set"]),
        (
            "hub = \"org/tiny\", revision = \"step100\"",
            dataset,
            ["org/tiny has no revision \"step100\"", "\"step1000\"?"],
        ),
        (
            "hub = \"org/quantised\", file = \"tiny-Q8_1.gguf\"",
            dataset,
            ["org/quantised has no file \"tiny-Q8_1.gguf\"", "did you mean \"tiny-Q8_0.gguf\"?"],
        ),
        ("hub = \"org/quantised\"", dataset, ["holds neither config.json nor", "file = \"tiny-Q8_0.gguf\""]),
        (model, "hub = \"org/chats\", split = \"tran\"", ["has no split \"tran\" in datasets.one.split", "\"train\"?"]),
        (model, "hub = \"org/chats\", config = \"small\"", ["no file of org/chats can be read", "README.md"]),
        (model, "hub = \"org/chats\", file = \"data/train.jsonl\"", ["has no file \"data/train.jsonl\"", "it has "]),
        ("hub = \"../tiny\"", dataset, ["\"../tiny\" is no name of a repository", "pipeline.toml:2:"]),
        ("hub = \"/etc/passwd\"", dataset, ["is no name of a repository", "Qwen/Qwen2.5-0.5B-Instruct"]),
        ("hub = \"org/tiny\", revision = \"../x\"", dataset, ["is no name of a revision", "pipeline.toml:2:"]),
        (model, "hub = \"org/chats\", file = \"../../x.jsonl\"", ["is no name of a file", "pipeline.toml:4:"]),
        ("hub = \"org/tiny\", path = \"x\"", dataset, ["one of path, hub and", "pipeline.toml:2:"]),
        ("path = \"x\", revision = \"main\"", dataset, ["revision says what is read of a repository", "hub ="]),
        (model, "hub = \"org/chats\", revison = \"main\"", ["unknown key \"revison\"", "\"revision\"?"]),
    ] {
        let error = fails(&hub, model, dataset);
        assert!(says.iter().all(|said| error.contains(said)), "{model} {dataset}: {error}");
    }
    hub.behave(r#"{"gated": true}"#);
    let error = fails(&hub, model, dataset);
    assert!(
        error.contains("org/tiny is gated, and") && error.contains("HF_TOKEN is not set: ask for access"),
        "{error}"
    );
    hub.behave(r#"{"token": "hf_right"}"#);
    let workspace = of_hub();
    let error = hub.fails(&workspace, 2, &["run"]);
    assert!(error.contains(", or it is private or gated in ") && error.contains("HF_TOKEN is not set;"), "{error}");
    let with = |token: &str| hub.command(&workspace, &["run"]).env("HF_TOKEN", token).output().expect("starts");
    let output = with("hf_wrong");
    assert!(
        stderr(&output).contains("does not open it") && !stderr(&output).contains("hf_wrong"),
        "{}",
        stderr(&output)
    );
    // The server answers 400 to a token on the host that the redirect leads to.
    let output = with("hf_right");
    assert!(output.status.success(), "{}", stderr(&output));
    // Where nobody answers.
    let output = hub.command(&of_hub(), &["run"]).env("HF_ENDPOINT", "ftp://x").output().expect("starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("HF_ENDPOINT"), "{}", stderr(&output));
}

#[test]
fn doctor_names_every_fault_of_the_hub_once_and_fetches_no_weights() {
    let Some(hub) = Hub::start() else { return };
    let workspace = Workspace::empty();
    let models = "base = { hub = \"org/tiny\" }\nother = { hub = \"org/tinny\" }\nold = { hub = \"org/tiny\", revision = \"v1\" }";
    let datasets = "one = { hub = \"org/chats\", split = \"tests\" }\ntwo = { hub = \"org/chats\" }";
    workspace.write("pipeline.toml", format!("[models]\n{models}\n[datasets]\n{datasets}\n{STAGES}"));
    let output = hub.run(&workspace, &["doctor"]);
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(2), "{said}");
    for fault in ["there is no model org/tinny", "org/tiny has no revision \"v1\"", "org/chats has no split \"tests\""]
    {
        assert!(said.contains(fault), "{said}");
    }
    assert!(said.contains("3 faults") && said.contains("qwen2, "), "{said}");
    assert!(!said.contains("model.safetensors"), "{said}");
    assert!(!workspace.path("strata.lock").exists());
}

#[test]
fn two_runs_at_once_fetch_into_one_cache() {
    let Some(mut hub) = Hub::start() else { return };
    hub.behave(r#"{"slow": 0.5}"#);
    let (first, second) = (of_hub(), of_hub());
    let shared = first.path("hf");
    let start = |workspace: &Workspace| {
        let mut command = hub.command(workspace, &["run"]);
        command.env("HF_HOME", &shared).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts")
    };
    let running = [start(&first), start(&second)];
    for child in running {
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(first.tables(), second.tables());
    // Each file came once: two listings of each repository, and of five files two requests each.
    assert_eq!(hub.requests(), 4 + 2 * 5);
    assert!(names(&first.path("hf/hub/models--org--tiny/blobs")).iter().all(|name| !name.ends_with(".incomplete")));
}

#[test]
fn without_the_hub_what_is_here_is_used_and_what_is_not_is_named() {
    let Some(mut hub) = Hub::start() else { return };
    let workspace = of_hub();
    let dry = hub.ok(&workspace, &["run", "--dry-run"]);
    assert!(dry.contains("org/tiny is on the hub and not here yet: `strata run` fetches it ("), "{dry}");
    assert!(!workspace.path("strata.lock").exists(), "a dry run writes nothing");
    let snapshot = model_folder(&workspace).join("snapshots");
    assert_eq!(names(&snapshot.join(&names(&snapshot)[0])), ["config.json"]);
    hub.requests();
    for command in ["status", "plan", "graph"] {
        let error = hub.fails(&workspace, 2, &[command]);
        assert!(error.contains("is not here yet") && error.contains("strata hub --fetch"), "{command}: {error}");
    }
    let error = hub.fails(&workspace, 2, &["run", "--offline"]);
    assert!(
        error.contains("is not whole in ")
            && error.contains("--offline fetches nothing")
            && error.contains("pipeline.toml:2:"),
        "{error}"
    );
    let output = hub.command(&workspace, &["run"]).env("HF_HUB_OFFLINE", "1").output().expect("starts");
    assert!(stderr(&output).contains("HF_HUB_OFFLINE fetches nothing"), "{}", stderr(&output));
    assert_eq!(hub.requests(), 0);
    hub.ok(&workspace, &["hub", "--fetch"]);
    assert!(hub.ok(&workspace, &["hub"]).lines().skip(1).all(|line| line.ends_with("yes")));
    hub.requests();
    let output = hub.command(&workspace, &["run", "--offline"]).env("HF_HUB_OFFLINE", "1").output().expect("starts");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(hub.ok(&workspace, &["status"]).contains("hidden_states"));
    assert_eq!(hub.requests(), 0);
    // A blob that went is fetched again, at the commit that was pinned; until then what reads it waits.
    let blob =
        names(&model_folder(&workspace).join("blobs")).into_iter().find(|name| name.len() == 64).expect("weights");
    fs::remove_file(model_folder(&workspace).join("blobs").join(blob)).expect("removed");
    let status = hub.ok(&workspace, &["status"]);
    assert!(status.contains("org/tiny is on the hub and not here yet"), "{status}");
    assert_eq!(hub.ran(&workspace), 0);
}

#[test]
fn what_strata_lock_and_a_remote_know_needs_no_model() {
    let Some(mut hub) = Hub::start() else { return };
    let workspace = of_hub();
    let remote = workspace.path("remote");
    let shared = format!("{}[remotes.team]\nurl = {remote:?}\npush = true\n", workspace.read("pipeline.toml"));
    workspace.write("pipeline.toml", &shared);
    hub.ran(&workspace);
    let colleague = Workspace::empty();
    colleague.write("pipeline.toml", &shared);
    colleague.write("strata.lock", workspace.read("strata.lock"));
    hub.requests();
    assert_eq!(hub.ran(&colleague), 0, "all of it is in the remote");
    assert_eq!(hub.requests(), 0);
    assert!(!colleague.path("hf").exists());
    assert!(hub.ok(&colleague, &["status"]).contains("hidden_states"));
    // What nobody computed needs the model, and a run has it come.
    colleague.write("pipeline.toml", shared.replace("\"last\"", "\"response_mean\""));
    assert!(hub.ran(&colleague) > 0);
    assert!(hub.requests() > 0);
}

#[test]
fn an_adapter_of_the_hub_finds_its_base_by_the_repositorys_name() {
    let Some(hub) = Hub::start() else { return };
    let config = config(|config| config["base_model_name_or_path"] = "org/tiny".into());
    hub.file("models/org/adapter/main/adapter_config.json", &config);
    hub.file("models/org/adapter/main/adapter_model.safetensors", weights(0.25));
    hub.file("models/org/adapter/main/training_args.bin", vec![0; 100_000]);
    let models = "[models]\nbase = { hub = \"org/tiny\" }\ntuned = { hub = \"org/adapter\" }\n";
    let rest = format!("[datasets]\none = {{ hub = \"org/chats\" }}\n{STAGES}");
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", format!("{models}{rest}"));
    assert!(hub.ran(&workspace) > 0);
    let local = Workspace::empty();
    local.write("adapter/adapter_config.json", &config);
    local.write("adapter/adapter_model.safetensors", weights(0.25));
    local.write("chats.jsonl", chats("one", 12));
    let models = format!("[models]\nbase = {{ path = {:?} }}\n", golden("qwen2"));
    let rest = rest.replace("hub = \"org/chats\"", "path = \"chats.jsonl\"");
    local.write("pipeline.toml", format!("{models}tuned = {{ path = \"adapter\", base = \"base\" }}\n{rest}"));
    local.run(&[]);
    assert_eq!(keys(&workspace), keys(&local));
    // Without its base beside it.
    let workspace = study("hub = \"org/adapter\"", "hub = \"org/chats\"");
    let error = hub.fails(&workspace, 2, &["run"]);
    assert!(error.contains("trained on \"org/tiny\"") && error.contains("base = { hub = \"org/tiny\" }"), "{error}");
}

#[test]
fn a_datasets_card_or_the_hubs_conversion_says_which_file_is_read() {
    let Some(mut hub) = Hub::start() else { return };
    hub.file("datasets/org/cards/main/a/rows.jsonl", chats("one", 6));
    hub.file("datasets/org/cards/main/b/rows.jsonl", chats("two", 6));
    let card = r#"{"configs": [{"config_name": "a", "data_files": "a/*"},
        {"config_name": "b", "data_files": [{"split": "test", "path": "b/**"}]}]}"#;
    hub.file("datasets/org/cards/main/card.json", card);
    hub.file("datasets/org/script/main/loader.py", "raise SystemExit");
    let local = study(&format!("path = {:?}", golden("qwen2")), "path = \"chats.jsonl\"");
    local.write("chats.jsonl", chats("one", 6));
    local.run(&["examples"]);
    let parquet = fs::read(local.path("artifacts/tables/examples/dataset=one/part-00000.parquet")).expect("a table");
    hub.file("datasets/org/script/refs--convert--parquet/default/train/0000.parquet", parquet);
    let read = |dataset: &str| {
        let workspace = study("hub = \"org/tiny\"", dataset);
        assert!(hub.ran(&workspace) > 0);
        let lock = workspace.read("strata.lock");
        let pin = lock.split("[hub.\"datasets/").nth(1).expect("a pin").to_string();
        pin.split("files = [\"").nth(1).expect("a file").split('"').next().expect("a name").to_string()
    };
    assert_eq!(read("hub = \"org/cards\", config = \"a\""), "a/rows.jsonl");
    assert_eq!(read("hub = \"org/cards\", config = \"b\", split = \"test\""), "b/rows.jsonl");
    assert_eq!(read("hub = \"org/cards\", file = \"b/rows.jsonl\""), "b/rows.jsonl");
    assert_eq!(read("hub = \"org/script\""), "default/train/0000.parquet");
    // The commit of the conversion is pinned, and moves on too.
    let workspace = study("hub = \"org/tiny\"", "hub = \"org/script\", split = \"train\"");
    hub.ran(&workspace);
    assert!(workspace.read("strata.lock").contains("converted = true"));
    fs::remove_dir_all(workspace.path("hf/hub/datasets--org--script")).expect("removed");
    assert_eq!(hub.ran(&workspace), 0);
    assert!(!stderr(&hub.run(&workspace, &["hub", "--update"])).contains("was"));
    let error = hub.fails(&study("hub = \"org/tiny\"", "hub = \"org/cards\""), 2, &["run"]);
    assert!(error.contains("has several configs") && error.contains("of a, b"), "{error}");
    hub.requests();
}

#[test]
fn the_cache_is_that_of_huggingface_hub_both_ways() {
    let installed = Command::new("python3").args(["-c", "import huggingface_hub"]).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        eprintln!("huggingface_hub is not installed: skipped");
        return;
    }
    let Some(mut hub) = Hub::start() else { return };
    let python = |hub: &Hub, workspace: &Workspace, code: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", &format!("from huggingface_hub import *\n{code}")]);
        command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", hub.port)).env("HF_HOME", workspace.path("hf"));
        command.env("HF_HUB_DISABLE_PROGRESS_BARS", "1").env_remove("HF_TOKEN").env_remove("HF_HUB_CACHE");
        command.env("HF_HUB_OFFLINE", if code.contains("local_files_only") { "1" } else { "0" });
        let output = command.output().expect("python3");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_string()
    };
    // What it fetched is used as it lies. Which file of a dataset a split is, its card says, which is asked for once.
    let workspace = study("hub = \"org/tiny\"", "hub = \"org/chats\", file = \"data/train-00000-of-00001.jsonl\"");
    python(&hub, &workspace, "snapshot_download('org/tiny'); snapshot_download('org/chats', repo_type='dataset')");
    hub.requests();
    assert!(hub.ran(&workspace) > 0);
    assert_eq!(hub.requests(), 0);
    assert!(workspace.read("strata.lock").contains("models/org/tiny@main"));
    // One that another program has in part is completed.
    let part = of_hub();
    python(&hub, &part, "hf_hub_download('org/tiny', 'model.safetensors')");
    hub.requests();
    assert!(hub.ran(&part) > 0);
    assert_eq!(hub.requests(), 2 + 2 * 4, "the weights were here");
    assert_eq!(part.tables(), workspace.tables());
    // The other way: what Strata fetched, it finds without the hub, and lists as whole.
    let fetched = of_hub();
    hub.ran(&fetched);
    hub.requests();
    let code = "\
import os
for name in ['config.json', 'model.safetensors', 'tokenizer.json']:
    path = hf_hub_download('org/tiny', name, local_files_only=True)
    assert os.path.getsize(path) > 0
assert try_to_load_from_cache('org/tiny', 'chat_template.jinja') is _CACHED_NO_EXIST
found = scan_cache_dir()
assert not found.warnings, found.warnings
print(sorted((repo.repo_type, repo.repo_id, repo.nb_files) for repo in found.repos))";
    let said = python(&hub, &fetched, code);
    assert_eq!(said, "[('dataset', 'org/chats', 1), ('model', 'org/tiny', 4)]");
    assert_eq!(hub.requests(), 0);
    // And it goes on writing there.
    hub.model("org/tiny", "main", 5);
    python(&hub, &fetched, "snapshot_download('org/tiny')");
    assert_eq!(names(&model_folder(&fetched).join("snapshots")).len(), 2);
}
