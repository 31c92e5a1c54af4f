//! Files that have no end, claim what they do not hold, or make a reader take all memory: each is a bounded, clear error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workspace::{Workspace, chat, chats, stderr, stdout};

const PIPELINE: &str = r#"
[models]
base = { path = "models/base" }
[datasets]
one = { path = "one.jsonl" }
[stages.token_losses]
"#;

fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", PIPELINE);
    workspace.model("base", 0);
    workspace.write("one.jsonl", chats("one", 4));
    workspace
}

fn contains_all(text: &str, parts: &[&str]) {
    for part in parts.iter().copied() {
        assert!(text.contains(part), "no \"{part}\" in:\n{text}");
    }
    assert!(!text.contains("panicked") && !text.contains("a defect in Strata"), "{text}");
}

/// What a run says when a file is in another's place.
fn refused(code: i32, path: &str, place: impl Fn(&Path)) -> String {
    let workspace = workspace();
    workspace.write("template.jinja", "{{ messages }}");
    if path == "template.jinja" {
        let with =
            PIPELINE.replace("path = \"models/base\"", "path = \"models/base\", chat_template = \"template.jinja\"");
        workspace.write("pipeline.toml", with);
    }
    fs::remove_file(workspace.path(path)).expect("removed");
    place(&workspace.path(path));
    workspace.fails(code, &["run"])
}

#[test]
fn what_has_no_end_is_not_read() {
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    let zeros = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).expect("a link");
    for (path, code) in [
        ("pipeline.toml", 2),
        ("one.jsonl", 1),
        ("models/base/model.safetensors", 1),
        ("models/base/config.json", 2),
        ("models/base/tokenizer.json", 1),
        ("models/base/tokenizer_config.json", 1),
        ("template.jinja", 2),
    ] {
        for text in [refused(code, path, pipe), refused(code, path, zeros)] {
            contains_all(
                &text,
                &["cannot read", path.rsplit('/').next().expect("a name"), "a pipe or a device, not a file"],
            );
        }
    }
}

#[test]
fn a_file_that_is_too_large_to_be_what_it_is_named_is_not_read() {
    let sparse = |path: &Path| {
        let file = fs::File::create(path).expect("a file");
        file.set_len(1 << 40).expect("a file without bytes");
    };
    contains_all(&refused(2, "models/base/config.json", sparse), &["config.json", "more than 64 MB"]);
    contains_all(&refused(2, "pipeline.toml", sparse), &["pipeline.toml", "more than 16 MB"]);
}

#[test]
fn a_link_to_itself_is_said_to_be_one() {
    for path in ["one.jsonl", "models/base/config.json"] {
        let code = 2;
        let itself = |path: &Path| std::os::unix::fs::symlink(path, path).expect("a link");
        contains_all(&refused(code, path, itself), &["cannot read", path, "symbolic links", "pipeline.toml:"]);
    }
}

#[test]
fn a_template_that_takes_all_memory_fails_its_tasks_alone() {
    let workspace = workspace();
    let growing = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    workspace.write("models/base/chat_template.jinja", growing);
    workspace.model("other", 0);
    let both = PIPELINE.replace("[datasets]", "other = { path = \"models/other\" }\n[datasets]");
    workspace.write("pipeline.toml", both);
    let text = workspace.fails(1, &["run", "--keep-going"]);
    contains_all(&text, &["tokens[base,one]", "the chat template takes more than 256 MB of memory"]);
    assert!(workspace.path("artifacts/tables/token_losses/model=other").exists(), "{text}");
}

/// The most memory that a run held, in bytes.
pub fn peak(workspace: &Workspace) -> u64 {
    let mut command = workspace.command(&["run", "--quiet", "-j", "1"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let status = PathBuf::from(format!("/proc/{}/status", run.id()));
    let mut peak = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        peak = peak.max(kilobytes << 10);
        if let Some(ended) = run.try_wait().expect("a child") {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(ended.success());
    peak
}

#[test]
#[cfg(target_os = "linux")]
fn a_long_line_takes_a_few_times_its_memory() {
    const LINE: usize = 20 << 20;
    let workspace = workspace();
    let short = peak(&workspace);
    workspace.write("one.jsonl", chat("a question", &"word ".repeat(LINE / 5)));
    let long = peak(&workspace);
    assert!(long < short + 25 * LINE as u64, "{} MB instead of {} MB", long >> 20, short >> 20);
}

#[test]
fn a_line_without_an_end_is_refused() {
    let text = refused(1, "one.jsonl", |path| {
        fs::File::create(path).and_then(|file| file.set_len((256 << 20) + 2)).expect("zeros");
    });
    contains_all(&text, &["one.jsonl: line 1 is longer than 256 MB", "format = \"json\""]);
}

#[test]
fn a_damaged_parquet_file_is_said_to_be_one() {
    let workspace = workspace();
    workspace.run(&["examples"]);
    let part = workspace.path("artifacts/tables/examples/dataset=one/part-00000.parquet");
    let sound = fs::read(part).expect("a table of prompts and responses");
    workspace.write("pipeline.toml", PIPELINE.replace("one.jsonl", "one.parquet"));
    workspace.write("one.parquet", &sound);
    workspace.run(&[]);
    let size = sound.len();
    let mut short = sound.clone();
    short.truncate(size / 2);
    let (mut footer, mut pages) = (sound.clone(), sound.clone());
    footer[size - 8..size - 4].copy_from_slice(&[0xff; 4]);
    pages[4..size / 3].iter_mut().for_each(|byte| *byte ^= 0xa5);
    for bytes in [short, footer, pages, b"PAR1".to_vec(), Vec::new()] {
        workspace.write("one.parquet", &bytes);
        let said = format!("it is cut short, damaged or no Parquet file ({} bytes)", bytes.len());
        contains_all(&workspace.fails(1, &["run"]), &["examples[one]: one.parquet: ", &said]);
    }
}

#[test]
fn a_model_that_claims_more_layers_than_it_has() {
    let layers = |said: &str, code: i32| {
        let workspace = workspace();
        let config = workspace.read("models/base/config.json");
        let claimed = config.replace("\"num_hidden_layers\": 2", &format!("\"num_hidden_layers\": {said}"));
        assert_ne!(claimed, config);
        workspace.write("models/base/config.json", claimed);
        workspace.fails(code, &["run"])
    };
    contains_all(&layers("1000000000", 2), &["\"num_hidden_layers\" is 1000000000, expected at most 10000"]);
    let more = layers("40", 1);
    contains_all(
        &more,
        &["config.json says that there are 40 layers", "the model's files have tensors of the first 2"],
    );
}

#[test]
fn a_safetensors_file_that_claims_a_huge_header() {
    for claimed in [u64::MAX, 1 << 62, 99_000_000] {
        let workspace = workspace();
        let mut bytes = fs::read(workspace.path("models/base/model.safetensors")).expect("weights");
        bytes[..8].copy_from_slice(&claimed.to_le_bytes());
        workspace.write("models/base/model.safetensors", bytes);
        contains_all(
            &workspace.fails(1, &["run"]),
            &["model.safetensors is cut short, damaged or no safetensors file"],
        );
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused_and_an_unknown_role_is_told() {
    let workspace = workspace();
    let twice = r#"{"prompt": "a", "response": "b", "response": "c"}"#;
    workspace.write("one.jsonl", format!("{}{twice}\n", chat("a question", "an answer")));
    contains_all(&workspace.fails(1, &["run"]), &["one.jsonl:2", "the key \"response\" is there twice"]);
    let within = r#"{"messages": [{"role": "user", "role": "user", "content": "a"}]}"#;
    workspace.write("one.jsonl", format!("{within}\n"));
    contains_all(&workspace.fails(1, &["run"]), &["one.jsonl:1", "the key \"role\" is there twice"]);
    workspace.write("one.jsonl", chat("a", "b").replace("\"user\"", "\"usr\"") + &chat("c", "d"));
    let output = workspace.strata(&["run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    contains_all(&stdout(&output), &["roles", "\"usr\" (1)"]);
    workspace.write("one.jsonl", chats("one", 4));
    assert!(!workspace.ok(&["run"]).contains("roles"));
}

#[test]
fn counts_and_names_that_are_too_large() {
    let rejected = |from: &str, to: &str| {
        let workspace = workspace();
        assert!(PIPELINE.contains(from));
        workspace.write("pipeline.toml", PIPELINE.replace(from, to));
        workspace.fails(2, &["run"])
    };
    let k = rejected("[stages.token_losses]", "[stages.next_tokens]\nk = 1_000_000_000_000");
    contains_all(&k, &["k = 1000000000000 is too large", "at most"]);
    let permutations = rejected("[stages.token_losses]", "[stages.separation]\npermutations = 1_000_000_000_000");
    contains_all(&permutations, &["permutations = 1000000000000 is too large", "at most"]);
    let name = "n".repeat(300);
    contains_all(&rejected("one =", &format!("{name} =")), &["a name of 300 bytes is too long", "pipeline.toml:5"]);
}
