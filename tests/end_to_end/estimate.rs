//! `run --dry-run` says what a run would take before its weights and data are there; a run itself asks for them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::workspace::Workspace;

/// Qwen2.5-Coder-32B's sizes.
const LARGE: &str = r#"{"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 5120, "intermediate_size": 27648,
    "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_sliding_window": false}"#;

/// The paper's pipeline with nothing of its models but their config.json, and no data.
fn paper() -> Workspace {
    let workspace = Workspace::empty();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/emergent-misalignment/pipeline.toml");
    workspace.write("pipeline.toml", fs::read(pipeline).expect("the preset"));
    for model in ["Qwen2.5-Coder-32B", "Qwen2.5-Coder-32B-Instruct", "Qwen-Coder-Insecure"] {
        workspace.write(&format!("models/{model}/config.json"), LARGE);
    }
    workspace
}

fn row<'a>(estimate: &'a Value, what: &str) -> &'a Value {
    let rows = estimate["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no {what} in {estimate:#}"))
}

#[test]
fn the_papers_experiment_is_estimated_from_configs_alone() {
    let workspace = paper();
    let text = workspace.ok(&["run", "--dry-run", "--json"]);
    let estimate = &serde_json::from_str::<Value>(&text).expect("JSON")["estimate"];
    for model in ["base", "instruct", "misaligned"] {
        let passes = row(estimate, &format!("forward passes of {model}"));
        // Eleven datasets, 400 examples of 300 tokens assumed, one conversation, and the datasets of 2,000 examples.
        let large = BTreeMap::from([("base", 2.0), ("instruct", 3.0), ("misaligned", 0.0)])[model];
        let expected = 1_320_000.0 + 600_000.0 * large;
        let tokens = passes["tokens"].as_f64().expect("a number");
        assert!((expected..expected + 200.0).contains(&tokens), "{passes}");
        // 2 FLOPs a weight and token: 32.8 billion of them, less the embedding matrix, more for attention.
        let flops = passes["flops"].as_f64().expect("a number");
        assert!((6.36e10..6.75e10).contains(&(flops / tokens)), "{passes}");
        assert!(passes["read"].as_f64() >= Some(65.5e9), "{passes}");
    }
    // 3 models, 10 datasets of 400 examples, 10 token states and 2 positions with one, 64 + 2 vectors of 5,120 floats.
    let states = row(estimate, "hidden_states")["written"].as_f64().expect("a number");
    assert_eq!(states, 3.0 * 4000.0 * 12.0 * 66.0 * 5120.0 * 4.0);
    // The one block whose o_proj has the gradients: its factors, 2 x 5,120 floats a token, are less than 5,120².
    let back = row(estimate, "backward passes of base");
    assert_eq!(back["tokens"], 240_000.0, "{back}");
    assert_eq!(row(estimate, "gradient_factors")["written"], 2.0 * 240_000.0 * 2.0 * 5120.0 * 4.0);
    // Gradients of 5,120² from 240,000 tokens and the products of 800 with each other, for each of two models.
    let space = row(estimate, "gradient_space");
    let products = 2.0 * (5120.0 * 5120.0 * (2.0 * 240_000.0 + 800.0 * 800.0) + 10.0 * 800_f64.powi(3));
    assert_eq!(space["flops"], products, "{space}");
    let memory = space["memory"].as_f64().expect("a number");
    // Of 9.8 GB of factors 3 GiB of inputs and two steps of 512 MiB are held at once, and a slab of 1 GiB.
    assert!((5.36e9..5.5e9).contains(&memory), "{space}");
    for stage in ["similarity", "similarity_summary"] {
        let row = row(estimate, stage);
        assert!(row["flops"].as_f64() > Some(0.0) && row["memory"].as_f64() > Some(0.0), "{row}");
    }
    let (total, speed) = (&estimate["total"], estimate["flops_per_second"].as_f64().expect("a number"));
    let hours = total["flops"].as_f64().expect("a number") / speed / 3600.0;
    assert!((total["hours"].as_f64().expect("a number") / hours - 1.0).abs() < 1e-9, "{total}");
    let notes = estimate["notes"].to_string();
    assert!(notes.contains("assumed") && notes.contains("insecure.jsonl") && notes.contains("safetensors"), "{notes}");
    assert!(!workspace.path("artifacts").exists(), "a dry run leaves nothing");

    let text = workspace.ok(&["run", "--dry-run"]);
    assert!(text.contains("FLOP/s") && text.contains("forward passes of base") && text.contains("total"), "{text}");
}

#[test]
fn the_default_pipeline_is_estimated_before_its_models_are_trained() {
    let workspace = Workspace::empty();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.toml");
    workspace.write("pipeline.toml", fs::read(pipeline).expect("the default pipeline"));
    let estimate = |jobs: &str| -> Value {
        let text = workspace.ok(&["run", "--dry-run", "--json", "-j", jobs]);
        serde_json::from_str::<Value>(&text).expect("JSON")["estimate"].clone()
    };
    let (one, two) = (estimate("1"), estimate("2"));
    // Eight datasets of 64 examples, and 37 tokens assumed for each.
    assert_eq!(row(&one, "forward passes of control")["tokens"], 8.0 * 64.0 * 37.0);
    assert!(row(&one, "train")["flops"].as_f64() > row(&one, "forward passes of control")["flops"].as_f64(), "{one:#}");
    let total = |estimate: &Value| estimate["total"]["memory"].as_f64().expect("a number");
    assert!(total(&two) > total(&one), "{two:#}");
    assert!(!workspace.path("artifacts").exists(), "a dry run leaves nothing");
}

#[test]
fn a_run_asks_for_what_the_estimate_did_without() {
    let workspace = paper();
    let text = workspace.fails(2, &["run"]);
    assert!(text.contains("no such file or folder") && text.contains("truthful_qa.parquet"), "{text}");
    for line in workspace.read("pipeline.toml").lines().filter(|line| line.starts_with("path ")) {
        workspace.write(line.split('"').nth(1).expect("a path"), "");
    }
    let text = workspace.fails(2, &["run"]);
    assert!(text.contains("Qwen2.5-Coder-32B") && text.contains(".safetensors"), "{text}");
}

#[test]
fn a_run_says_first_what_a_large_comparison_takes() {
    let workspace = Workspace::new();
    let row = r#"{"messages": [{"role": "user", "content": "%"}, {"role": "assistant", "content": "yes"}]}"#;
    let rows: String = (0..16_384).map(|i| row.replace('%', &i.to_string()) + "\n").collect();
    workspace.write("one.jsonl", rows);
    let text = workspace.read("pipeline.toml");
    workspace.write("pipeline.toml", format!("{text}\n[stages.gradients]\n[stages.gradient_space]\n"));
    let mut child = workspace.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map(|line| line.expect("UTF-8"));
    let heading = lines.next().expect("a line");
    let said: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(heading.starts_with("comparing the examples takes") && heading.contains("memory"), "{heading}");
    // Three matrices of the products of 16,404 gradients are 6.46 GB.
    let space = said.iter().find(|line| line.starts_with("gradient_space")).expect("a row for gradient_space");
    assert!(space.contains(" GB"), "{said:#?}");
}

#[test]
fn what_is_done_is_not_counted_again_and_tokens_are_counted_where_they_are() {
    let workspace = Workspace::new();
    let estimate = |targets: &[&str]| -> Value {
        let text = workspace.ok(&[&["run", "--dry-run", "--json"], targets].concat());
        serde_json::from_str::<Value>(&text).expect("JSON")["estimate"].clone()
    };
    let guessed = estimate(&[]);
    assert!(guessed["notes"].to_string().contains("the bytes of its file"), "{guessed:#}");
    workspace.run(&["tokens"]);
    let counted = estimate(&[]);
    assert_eq!(counted["notes"], serde_json::json!([]), "{counted:#}");
    let sql = "SELECT model, SUM(ARRAY_LENGTH(ids)) AS n FROM tokens GROUP BY model ORDER BY model";
    let sums = workspace.ok(&["query", sql, "--format", "json"]);
    let sums: Value = serde_json::from_str(&sums).expect("JSON");
    assert_eq!(row(&counted, "forward passes of base")["tokens"].as_f64(), sums[0]["n"].as_f64());
    workspace.run(&[]);
    assert_eq!(estimate(&[]), Value::Null, "nothing is left to do");
}
