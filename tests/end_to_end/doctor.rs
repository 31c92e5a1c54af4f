//! `strata doctor`: what it shows of a sound pipeline, and that it names every fault of a broken one.

use std::fs;

use serde_json::{Value, json};

use crate::adapters::{config, weights};
use crate::workspace::{Workspace, chat, chats, golden, stdout};

#[test]
fn a_sound_pipeline_is_shown() {
    let workspace = Workspace::new();
    let report = workspace.ok(&["doctor"]);
    for expected in [
        "base             qwen2, ",
        " parameters, 2 layers of width 32, 320 tokens",
        "stored in F32; computed in f32",
        "chat template: models/base/tokenizer_config.json",
        "one              one.jsonl:1",
        " of them the response (base, instruct)",
        "«The answer to one 0 is 0.»",
        "a run would take",
        "sound: nothing that was looked at would stop a run",
    ] {
        assert!(report.contains(expected), "no {expected:?} in:\n{report}");
    }
    assert!(!workspace.path("artifacts").exists(), "it writes nothing");
    let named = workspace.ok(&["doctor", "pipeline.toml", "--read-all"]);
    assert!(named.contains("sound"), "{named}");
}

/// A copy of the golden model with its config.json changed.
fn model(workspace: &Workspace, name: &str, change: impl Fn(&mut Value)) {
    workspace.model(name, 0);
    edit(workspace, &format!("models/{name}/config.json"), change);
}

fn edit(workspace: &Workspace, path: &str, change: impl Fn(&mut Value)) {
    let mut parsed: Value = serde_json::from_str(&workspace.read(path)).expect("JSON");
    change(&mut parsed);
    workspace.write(path, parsed.to_string());
}

const BROKEN: &str = r#"
[models]
base = { path = "models/base" }
truncated = { path = "models/truncated" }
sharded = { path = "models/sharded" }
deeper = { path = "models/deeper" }
wider = { path = "models/wider" }
unknown = { path = "models/unknown" }
nan = { path = "models/nan" }
raising = { path = "models/raising" }
foreign = { path = "models/foreign" }
mute = { path = "models/mute" }
plain = { path = "models/plain" }
lost = { path = "models/bsae" }
tuned = { path = "models/tuned", base = "base" }
other = { path = "models/other", base = "wider" }
dora = { path = "models/dora", base = "base" }

[datasets]
sound = { path = "sound.jsonl" }
misspelt = { path = "rows.jsonl", prompt = "qestion", response = "answer" }
nothing = { path = "rows.jsonl", prompt = "question", response = "answer", filter = { topic = "law" } }
column = { path = "rows.jsonl", prompt = "question", response = "answer", filter = "tpoic = 'code'" }
sql = { path = "rows.jsonl", prompt = "question", response = "answer", filter = "topic = " }
strata = { path = "rows.jsonl", prompt = "question", response = "answer", sample = { n = 2, by = "topci" } }
gone = { path = "rwos.jsonl" }
key = { path = "rows.jsonl", promt = "question" }
broken = { path = "broken.jsonl" }
long = { path = "long.jsonl" }

[stages.tokens]
max_tokens = 128
[stages.examples]
[stages.hidden_states]
models = ["base", "unknown", "truncated", "sharded", "deeper"]
positons = ["last"]
[stages.directions]
pairs = [{ source = "base", target = "wider" }]
[stages.separation]
[stages.token_losses]
models = ["bse", "nan", "lost"]
"#;

fn broken() -> Workspace {
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", BROKEN);
    for name in ["base", "truncated", "nan", "raising", "foreign", "mute", "plain"] {
        workspace.model(name, 0);
    }
    let shard = workspace.path("models/truncated/model.safetensors");
    let bytes = fs::read(&shard).expect("weights");
    fs::write(&shard, &bytes[..bytes.len() - 100]).expect("written");
    let mut nan = bytes.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    workspace.write("models/nan/model.safetensors", nan);
    for entry in fs::read_dir(golden("llama")).expect("the golden model") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        workspace.write(&format!("models/sharded/{name}"), fs::read(&path).expect("a file"));
    }
    fs::remove_file(workspace.path("models/sharded/model-00002-of-00002.safetensors")).expect("removed");
    model(&workspace, "deeper", |config| config["num_hidden_layers"] = json!(7));
    model(&workspace, "wider", |config| config["hidden_size"] = json!(64));
    model(&workspace, "unknown", |config| config["model_type"] = json!("qwen9"));
    let raising = "{{ raise_exception('this model has no system role') }}";
    workspace.write("models/raising/chat_template.jinja", raising);
    edit(&workspace, "models/foreign/tokenizer.json", |tokenizer| {
        let token = json!({"id": 400, "content": "<|foreign|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        tokenizer["added_tokens"].as_array_mut().expect("a list").push(token);
    });
    fs::remove_file(workspace.path("models/mute/tokenizer.json")).expect("removed");
    edit(&workspace, "models/plain/tokenizer_config.json", |config| {
        config.as_object_mut().expect("an object").remove("chat_template");
    });
    for (name, change) in
        [("tuned", (|_| {}) as fn(&mut Value)), ("other", |_| {}), ("dora", |config| config["use_dora"] = json!(true))]
    {
        workspace.write(&format!("models/{name}/adapter_config.json"), config(change));
        workspace.write(&format!("models/{name}/adapter_model.safetensors"), weights(0.25));
    }
    workspace.write("sound.jsonl", chats("sound", 3));
    let row = |i: usize| json!({"question": format!("q {i}"), "answer": "a", "topic": "code"}).to_string();
    workspace.write("rows.jsonl", (0..3).map(|i| row(i) + "\n").collect::<String>());
    workspace.write("broken.jsonl", chat("a question", "an answer") + "{\"messages\": [\n");
    workspace.write("long.jsonl", chat("a question", &"word ".repeat(200)));
    workspace
}

#[test]
fn every_fault_is_named_and_not_the_first_alone() {
    let workspace = broken();
    let output = workspace.strata(&["doctor"]);
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(2), "{report}");
    let expected = [
        ("a truncated file", "models/truncated/model.safetensors: model.safetensors is cut short, damaged"),
        ("an index that names a missing file", "names model-00002-of-00002.safetensors, which is not there"),
        ("a config that contradicts the tensors", "config.json says that there are 7 layers"),
        ("models of two widths in one direction", "wider has 64"),
        ("an unknown family", "qwen9"),
        ("NaN weights", "holds NaN or an infinity"),
        ("a template that raises", "this model has no system role"),
        ("a tokenizer of another model", "the tokenizer knows 321 tokens and the model 320"),
        ("no tokenizer", "models/mute holds no tokenizer.json"),
        ("no chat template", "models/plain/tokenizer_config.json has no \"chat_template\""),
        ("no model folder", "did you mean models/base?"),
        ("an adapter for another base", "models/other/adapter_model.safetensors"),
        ("DoRA", "DoRA"),
        ("a misspelt column", "no column \"qestion\""),
        ("its nearest", "did you mean \"question\"?"),
        ("nothing after the filter", "3 rows were read, and the filter kept none of them"),
        ("a misspelt column in SQL", "no column \"tpoic\""),
        ("SQL that is none", "the filter is no SQL condition on a row"),
        ("a misspelt column of strata", "no column \"topci\""),
        ("no file", "did you mean rows.jsonl?"),
        ("an unknown key of a dataset", "unknown key \"promt\""),
        ("a damaged line", "broken.jsonl:2: expected one JSON object a line"),
        ("an unknown key of a stage", "unknown key \"positons\""),
        ("an unknown model in a stage", "unknown model \"bse\""),
        ("a response that is cut", "are longer than max_tokens = 128"),
    ];
    let missing: Vec<_> = expected.iter().filter(|(_, words)| !report.contains(words)).collect();
    assert!(missing.is_empty(), "not named: {missing:#?}\n{report}");
    // What is sound is shown all the same, and nothing is said twice.
    assert!(report.contains("tuned            qwen2") && report.contains("LORA of rank 2 on base"), "{report}");
    assert!(report.contains("sound            sound.jsonl:1"), "{report}");
    assert!(!report.contains("unknown model \"lost\""), "it follows from the missing folder:\n{report}");
    for (_, words) in expected {
        assert!(report.matches(words).count() <= 2, "{words:?} is said too often:\n{report}");
    }
    assert!(!workspace.path("artifacts").exists());
}

#[test]
fn a_name_that_is_there_twice_is_a_fault() {
    let workspace = Workspace::new();
    let twice = workspace.read("pipeline.toml").replace("[datasets.two]", "[datasets.one]");
    workspace.write("pipeline.toml", twice);
    let error = workspace.fails(2, &["doctor"]);
    assert!(error.contains("duplicate key") && error.contains("pipeline.toml:"), "{error}");
}
