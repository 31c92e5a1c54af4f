//! Every mistake gets an error that says what was found, where, and the nearest right thing; other results are kept.

use std::fs;

use crate::workspace::{PIPELINE, Workspace, chat, chats, ran};

/// The error text of `strata run` on a changed pipeline, which must be a usage error.
fn rejected(from: &str, to: &str) -> String {
    let workspace = Workspace::new();
    assert!(PIPELINE.contains(from));
    workspace.write("pipeline.toml", PIPELINE.replacen(from, to, 1));
    let text = workspace.fails(2, &["run"]);
    assert!(!workspace.path("artifacts/records").exists(), "nothing was run");
    text
}

fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in:\n{text}");
    }
}

#[test]
fn unknown_names_in_the_pipeline() {
    contains_all(
        &rejected("components = 2", "componets = 2"),
        &["unknown key \"componets\"", "pipeline.toml:", "\"components\""],
    );
    contains_all(
        &rejected("[stages.separation]", "[stages.seperation]"),
        &["unknown stage \"seperation\"", "\"separation\"", "pipeline.toml:"],
    );
    contains_all(
        &rejected("positions = [\"last\"", "models = [\"base\", \"instrct\"]\npositions = [\"last\""),
        &[
            "unknown model \"instrct\"",
            "stages.hidden_states.models[1]",
            "did you mean \"instruct\"?",
            "pipeline.toml:",
        ],
    );
    contains_all(
        &rejected("[stages.token_losses]", "[stages.token_losses]\ndatasets = \"tow\""),
        &["unknown dataset \"tow\"", "\"two\""],
    );
    contains_all(
        &rejected("path = \"one.jsonl\"", "path = \"oen.jsonl\""),
        &["no such file", "one.jsonl", "pipeline.toml:"],
    );
    contains_all(&rejected("label = \"aligned\"", "lable = \"aligned\""), &["lable", "label", "pipeline.toml:"]);
    contains_all(&rejected("[models]", "[models"), &["pipeline.toml:2"]);
}

#[test]
fn values_of_the_wrong_kind() {
    contains_all(
        &rejected("components = 2", "components = \"many\""),
        &["components", "expected a whole number", "pipeline.toml:"],
    );
    contains_all(&rejected("components = 2", "components = -2"), &["`-2`", "expected a whole number, at least 0"]);
    contains_all(
        &rejected("components = 2", "components = 1_000_000_000_000"),
        &["components = 1000000000000 is too large", "at most 1000000", "pipeline.toml:"],
    );
    contains_all(
        &rejected("\"response_mean\"", "\"response_median\""),
        &["response_median", "response_mean", "pipeline.toml:"],
    );
    contains_all(&rejected("path = \"models/base\"", "path = 3"), &["expected a path", "pipeline.toml:"]);
}

#[test]
fn unknown_targets_and_arguments() {
    let workspace = Workspace::new();
    contains_all(
        &workspace.fails(2, &["run", "direction"]),
        &["unknown target \"direction\"", "did you mean \"directions\"?"],
    );
    contains_all(
        &workspace.fails(2, &["run", "hidden_states[bas,one]"]),
        &["unknown name in hidden_states[bas,one], \"bas\"", "did you mean \"base\"?"],
    );
    contains_all(
        &workspace.fails(2, &["run", "hidden_states[base,one,two]"]),
        &["more names", "hidden_states[base,one]"],
    );
    contains_all(&workspace.fails(2, &["run", "--jbos", "2"]), &["--jbos"]);
    contains_all(&workspace.fails(2, &["--pipeline", "nowhere.toml", "run"]), &["nowhere.toml", "strata init"]);
}

#[test]
fn a_pipeline_that_asks_for_nothing() {
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", "[models]\n");
    contains_all(&workspace.fails(2, &["run"]), &["asks for no stage"]);
    workspace.write("pipeline.toml", "[models]\n[stages.tokens]\n");
    contains_all(&workspace.fails(2, &["run"]), &["nothing to compute", "[models]"]);
}

/// What `strata init` writes says what it lacks, and runs once that is there.
#[test]
fn a_new_pipeline_wants_models() {
    let workspace = Workspace::empty();
    workspace.ok(&["init", "."]);
    contains_all(&workspace.fails(2, &["run"]), &["no model", "pipeline.toml:4"]);
    workspace.model("base", 0);
    workspace.model("instruct", 1);
    let lines = workspace.read("pipeline.toml").replace("\n#base ", "\nbase ").replace("\n#instruct ", "\ninstruct ");
    let named = lines
        .replace("models/Qwen2.5-0.5B\"", "models/base\"")
        .replace("models/Qwen2.5-0.5B-Instruct", "models/instruct");
    workspace.write("pipeline.toml", named);
    assert!(ran(&workspace.run(&[]), "report") == 1 && workspace.path("artifacts/report/report.html").exists());
}

#[test]
fn a_trained_model_that_descends_from_itself() {
    let workspace = Workspace::empty();
    let text = r#"
[models.a]
train = { from = "b", data = ["train_base"], steps = 1 }
[models.b]
train = { from = "a", data = ["train_base"], steps = 1 }
[datasets.general]
corpus = "general"
[stages.hidden_states]
"#;
    workspace.write("pipeline.toml", text);
    contains_all(&workspace.fails(2, &["run"]), &["trained from itself", "a -> b -> a"]);
}

#[test]
fn bad_datasets_fail_their_tasks_and_keep_the_others() {
    let cases = [
        ("{\"messages\": [}\n".to_string(), vec!["one.jsonl:2"]),
        ("{\"messages\": []}\n".to_string(), vec!["one.jsonl"]),
        ("{\"message\": []}\n".to_string(), vec!["one.jsonl", "messages"]),
    ];
    for (line, expected) in cases {
        let workspace = Workspace::new();
        workspace.write("one.jsonl", format!("{}{line}", chat("a question", "an answer")));
        let text = workspace.fails(1, &["run", "--keep-going"]);
        contains_all(&text, &expected);
        assert!(
            workspace.path("artifacts/tables/hidden_states/model=base/dataset=two").exists(),
            "the other dataset is there"
        );
        assert!(!workspace.path("artifacts/tables/examples/dataset=one").exists());
        workspace.write("one.jsonl", chats("one", 24));
        let summary = workspace.run(&[]);
        assert_eq!(ran(&summary, "examples"), 1, "the other dataset's examples are kept: {summary}");
    }
}

#[test]
fn an_empty_dataset() {
    let workspace = Workspace::new();
    workspace.write("one.jsonl", "\n");
    contains_all(&workspace.fails(1, &["run"]), &["examples[one]", "one.jsonl"]);
}

#[test]
fn long_examples_are_cut_marked_and_counted() {
    let workspace = Workspace::new();
    workspace.write("pipeline.toml", format!("{PIPELINE}\n[stages.tokens]\nmax_tokens = 64\n"));
    let long = "many words that go on and on ".repeat(20);
    workspace.write("one.jsonl", format!("{}{}", chat("short", "yes"), chat(&long, "yes")));
    let text = workspace.ok(&["run", "tokens"]);
    assert!(text.contains("longer than max_tokens"), "{text}");
    let cut = workspace.ok(&[
        "query",
        "--format",
        "csv",
        "SELECT COUNT(*) AS n FROM tokens WHERE truncated AND dataset = 'one' AND model = 'base'",
    ]);
    assert_eq!(cut.trim(), "n\n1");
}

/// Breaks one file of the model `base` and returns the error of a run that keeps going.
fn broken_model(file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    let workspace = Workspace::new();
    let path = workspace.path(&format!("models/base/{file}"));
    let bytes = fs::read(&path).expect("the model's file");
    fs::write(&path, change(bytes)).expect("written");
    let text = workspace.fails(1, &["run", "--keep-going"]);
    assert!(
        workspace.path("artifacts/tables/hidden_states/model=instruct/dataset=one").exists(),
        "the other model's states are there:\n{text}"
    );
    assert!(!workspace.path("artifacts/tables/hidden_states/model=base").exists());
    text
}

/// The error of a command after a change in the config.json of `instruct`, before which nothing was run.
fn rejected_config(pipeline: &str, find: &str, replace: &str) -> String {
    let workspace = Workspace::new();
    workspace.write("pipeline.toml", pipeline);
    let config = workspace.read("models/instruct/config.json");
    assert!(config.contains(find), "no {find} in {config}");
    workspace.write("models/instruct/config.json", config.replacen(find, replace, 1));
    let text = workspace.fails(2, &["run", "--keep-going"]);
    assert!(!workspace.path("artifacts/records").exists(), "nothing was run");
    // Of a model that is only estimated the config.json is there and the weights are not.
    for model in ["base", "instruct"] {
        fs::remove_file(workspace.path(&format!("models/{model}/model.safetensors"))).expect("the weights");
    }
    assert_eq!(workspace.fails(2, &["run", "--dry-run"]), text);
    text
}

#[test]
fn a_model_of_a_family_that_is_not_computed() {
    contains_all(
        &rejected_config(PIPELINE, "\"model_type\": \"qwen2\"", "\"model_type\": \"mamba\""),
        &[
            "pipeline.toml:4:",
            "models/instruct/config.json",
            "\"mamba\" is not supported",
            "help: supported are: gemma2, gemma3, gemma3_text",
        ],
    );
    contains_all(
        &rejected_config(PIPELINE, "\"hidden_act\": \"silu\"", "\"hidden_act\": \"mish\""),
        &["pipeline.toml:4:", "models/instruct/config.json: the activation \"mish\" is not supported"],
    );
}

#[test]
fn models_of_different_shapes_in_one_pair() {
    let all = ["pipeline.toml:4:", "models/base/config.json", "models/instruct/config.json"];
    let wider = rejected_config(PIPELINE, "\"hidden_size\": 32", "\"hidden_size\": 96");
    contains_all(&wider, &all);
    contains_all(&wider, &["directions[one,base,instruct]", "base has hidden size 32", "instruct has 96"]);
    contains_all(&wider, &["expected models of one hidden size"]);
    let deeper = rejected_config(PIPELINE, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    contains_all(&deeper, &all);
    contains_all(&deeper, &["base has number of layers 2", "instruct has 3"]);
    let patching = format!("{}\n[stages.patching]\n", &PIPELINE[..PIPELINE.find("[stages.").expect("stages")]);
    let larger = rejected_config(&patching, "\"vocab_size\": 320", "\"vocab_size\": 321");
    contains_all(&larger, &all);
    contains_all(&larger, &["patching[base,instruct,one]", "base has vocabulary size 320", "instruct has 321"]);
}

/// Models that no node holds against each other may differ.
#[test]
fn models_of_different_shapes_apart() {
    let workspace = Workspace::new();
    let apart = format!("{}\n[stages.token_losses]\n", &PIPELINE[..PIPELINE.find("[stages.").expect("stages")]);
    workspace.write("pipeline.toml", apart);
    let config = workspace.read("models/instruct/config.json");
    workspace.write("models/instruct/config.json", config.replacen("\"hidden_size\": 32", "\"hidden_size\": 96", 1));
    workspace.ok(&["run", "--dry-run"]);
}

#[test]
fn models_that_cannot_be_read() {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    contains_all(&broken_model("model.safetensors", half), &["model.safetensors"]);
    contains_all(
        &broken_model("model.safetensors", |bytes| rename(bytes, b"layers.0.mlp.up_proj", b"layers.0.mlp.op_proj")),
        &["up_proj"],
    );
}

fn rename(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the name");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn a_vocabulary_smaller_than_a_token_id() {
    let workspace = Workspace::new();
    // An added token beyond the model's embedding.
    let path = workspace.path("models/base/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("tokenizer")).expect("JSON");
    let added = serde_json::json!({ "id": 60000, "content": "zebra", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": false });
    tokenizer["added_tokens"].as_array_mut().expect("a list").push(added);
    fs::write(&path, tokenizer.to_string()).expect("written");
    workspace.write("one.jsonl", chat("a zebra question", "an answer"));
    let text = workspace.fails(1, &["run", "--keep-going"]);
    contains_all(&text, &["vocabulary"]);
}

#[test]
fn a_tokenizer_without_a_chat_template() {
    let workspace = Workspace::new();
    let path = workspace.path("models/base/tokenizer_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("config")).expect("JSON");
    config.as_object_mut().expect("an object").remove("chat_template");
    fs::write(&path, config.to_string()).expect("written");
    contains_all(&workspace.fails(1, &["run", "--keep-going"]), &["tokens[base", "chat template"]);
}

#[test]
fn nan_in_hidden_states() {
    let workspace = Workspace::new();
    let path = workspace.path("models/base/model.safetensors");
    let mut bytes = fs::read(&path).expect("weights");
    let end = bytes.len();
    bytes[end - 4096..].chunks_mut(4).for_each(|value| value.copy_from_slice(&f32::NAN.to_le_bytes()));
    fs::write(&path, bytes).expect("written");
    let text = workspace.fails(1, &["run", "--keep-going"]);
    contains_all(&text, &["base", "layer"]);
}

#[test]
fn a_store_that_cannot_be_written() {
    let workspace = Workspace::new();
    workspace.write("artifacts", "a file where the folder should be");
    contains_all(&workspace.fails(1, &["run"]), &["cannot write the store", "artifacts"]);
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    // A limit on file size stands in for a full disk: writes beyond it fail with an error from the system.
    let workspace = Workspace::new();
    let program = env!("CARGO_BIN_EXE_strata");
    let limited = format!("trap '' XFSZ; ulimit -f 4; exec {program} run --keep-going");
    let output = std::process::Command::new("bash")
        .args(["-c", &limited])
        .current_dir(workspace.path(""))
        .output()
        .expect("bash");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    workspace.ok(&["verify"]);
    workspace.run(&[]);
    workspace.ok(&["verify"]);
}

#[test]
fn instructions_that_the_processor_does_not_have_are_named_before_anything_runs() {
    let workspace = Workspace::new();
    let output = workspace.command(&["run"]).env("GEMMKIT_REQUIRE_ISA", "avx9").output().expect("starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("GEMMKIT_REQUIRE_ISA=avx9") && text.contains("scalar"), "{text}");
    assert!(!workspace.path("artifacts").exists(), "nothing ran");
}
