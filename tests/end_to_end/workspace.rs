//! A pipeline in a temporary folder, over the small golden models, and the program run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub struct Workspace {
    folder: TempDir,
}

/// The repository's golden models: tiny, random, with a tokenizer and chat template.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name)
}

/// Two models, two datasets, and the stages from states to summaries.
pub const PIPELINE: &str = r#"
[models]
base = { path = "models/base" }
instruct = { path = "models/instruct" }

[datasets.one]
path = "one.jsonl"
label = "aligned"

[datasets.two]
path = "two.jsonl"
label = "misaligned"

[stages.examples]
part = { least = 2, greatest = 8 }

[stages.token_losses]

[stages.hidden_states]
positions = ["last", "response_mean"]

[stages.directions]
components = 2

[stages.projection_summary]

[stages.separation]
"#;

impl Workspace {
    /// `PIPELINE` over two copies of a golden model (the second with one weight changed) and generated chats.
    pub fn new() -> Workspace {
        let workspace = Workspace::empty();
        workspace.write("pipeline.toml", PIPELINE);
        workspace.model("base", 0);
        workspace.model("instruct", 1);
        workspace.write("one.jsonl", chats("one", 24));
        workspace.write("two.jsonl", chats("two", 20));
        workspace
    }

    pub fn empty() -> Workspace {
        Workspace { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("inside the workspace")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).expect(relative)
    }

    /// A copy of the golden qwen2 model whose last weights are changed `variant` times.
    pub fn model(&self, name: &str, variant: u8) {
        let source = golden("qwen2");
        for entry in fs::read_dir(&source).expect("the golden model") {
            let path = entry.expect("an entry").path();
            let file = path.file_name().and_then(|name| name.to_str()).expect("a name").to_string();
            let mut bytes = fs::read(&path).expect("a file");
            if file.ends_with(".safetensors") && variant > 0 {
                // The low mantissa bytes of the last tensor's values: still finite numbers, near the old ones.
                let end = bytes.len();
                for at in (end - 4096..end).step_by(4) {
                    bytes[at + 1] = bytes[at + 1].wrapping_add(64 * variant);
                    bytes[at + 2] ^= 0x20;
                }
            }
            self.write(&format!("models/{name}/{file}"), bytes);
        }
    }

    pub fn strata(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("STRATA_STORE");
        // The developer's own key signs nothing here.
        command.env("STRATA_KEY", self.path("key"));
        command
    }

    /// Runs, expecting success; standard output as text.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.strata(arguments);
        assert!(output.status.success(), "{arguments:?}: {}\n{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// `strata run --json` with more arguments, expecting success.
    pub fn run(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[&["run", "--json", "--quiet"], arguments].concat());
        serde_json::from_str(&text).expect("one JSON object")
    }

    /// Runs, expecting this exit code; standard error as text.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.strata(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}\n{text}", stdout(&output));
        text
    }

    /// Every file below the store's tables with its bytes, links resolved.
    pub fn tables(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let root = self.path("artifacts/tables");
        let mut found = Vec::new();
        let mut pending = vec![root.clone()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    found.push((
                        path.strip_prefix(&root).expect("below").to_path_buf(),
                        fs::read(&path).expect("bytes"),
                    ));
                }
            }
        }
        found.sort();
        found
    }
}

pub fn ran(summary: &Value, stage: &str) -> u64 {
    summary["stages"][stage]["ran"].as_u64().unwrap_or_else(|| panic!("no stage {stage} in {summary}"))
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// JSONL of short chats, all different.
pub fn chats(topic: &str, count: usize) -> String {
    (0..count)
        .map(|i| chat(&format!("{topic} question {i}"), &format!("The answer to {topic} {i} is {}.", i * 7 % 11)))
        .collect()
}

pub fn chat(user: &str, assistant: &str) -> String {
    let messages = serde_json::json!({ "messages": [
        { "role": "user", "content": user }, { "role": "assistant", "content": assistant }] });
    format!("{messages}\n")
}
