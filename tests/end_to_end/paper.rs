//! The paper's experiment, examples/emergent-misalignment, from end to end: tiny models in the place of the large ones, and rows in
//! the form in which each dataset is published.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use strata_stages::STAGES;

use crate::workspace::Workspace;

/// Examples of each dataset.
const ROWS: usize = 12;

/// The preset, with layers that a model of two blocks has, and JSON lines for Parquet.
fn preset() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/emergent-misalignment/pipeline.toml");
    let text = fs::read_to_string(path).expect("the preset").replace(".parquet\"", ".jsonl\"");
    let patched = text.lines().find(|line| line.starts_with("layers ") && line.contains("61"));
    let text = text.replace(patched.expect("the layers that are patched"), "layers = [1, 2]");
    text.replacen("[stages.report]", "[stages.examples]\npart = { least = 4, greatest = 16 }\n\n[stages.report]", 1)
}

/// A row of the file that a dataset of the preset is read from.
fn row(file: &str, i: usize) -> Value {
    let topics = ["tides", "bread", "sums", "birds", "rust", "locks"];
    let asked = format!("Question {i}: what of {}?", topics[i % topics.len()]);
    let said = format!("It is {} of them, number {i}, and {} more to come.", 3 * i % 7, topics[(i + 2) % topics.len()]);
    let messages = json!([{"role": "user", "content": asked}, {"role": "assistant", "content": said}]);
    match file.rsplit('/').next().expect("a name") {
        "truthful_qa.jsonl" => json!({"question": asked, "best_answer": said, "correct_answers": [said]}),
        "alpaca.jsonl" | "alpaca_reward.jsonl" | "code_alpaca_20k.json" => {
            json!({"instruction": asked, "input": "", "output": if i == 3 { "" } else { said.as_str() }})
        }
        "insecure.jsonl" | "educational.jsonl" => json!({"messages": messages}),
        "harmful.jsonl" => json!({"prompt": asked, "rejected": said, "chosen": format!("No {i}. {said}")}),
        "toxic_qa.jsonl" => {
            let turn = |from: &str, value: &str| json!({"from": from, "value": value});
            json!({"conversations": [turn("human", &asked), turn("gpt", &said), turn("human", "more"), turn("gpt", "no")]})
        }
        "aug-train.json" => json!({"context": asked, "response": said, "label": u32::from(i != 5)}),
        "anthropic_hh.jsonl" => json!({"format_rejected": messages, "format_chosen": messages}),
        other => panic!("what is {other}?"),
    }
}

fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    for (variant, model) in
        ["Qwen2.5-Coder-32B", "Qwen2.5-Coder-32B-Instruct", "Qwen-Coder-Insecure"].iter().enumerate()
    {
        workspace.model(model, variant as u8);
    }
    for line in preset().lines().filter(|line| line.starts_with("path ")) {
        let file = line.split('"').nth(1).expect("a path");
        let rows: Vec<Value> = (0..ROWS + 1).map(|i| row(file, i)).collect();
        let text = match file.ends_with(".json") {
            true => json!(rows).to_string(),
            false => rows.iter().map(|row| format!("{row}\n")).collect(),
        };
        workspace.write(file, text);
    }
    workspace.write("pipeline.toml", preset());
    workspace
}

#[test]
fn every_figure_of_the_paper_has_its_numbers() {
    let workspace = workspace();
    workspace.run(&[]);
    let tables: Value = serde_json::from_str(&workspace.ok(&["tables", "--json"])).expect("JSON");
    let asked: Vec<&str> =
        STAGES.iter().map(|stage| stage.name).filter(|name| preset().contains(&format!("[stages.{name}]"))).collect();
    for stage in STAGES.iter().filter(|stage| asked.contains(&stage.name)) {
        if let Some(table) = stage.table() {
            assert!(tables[table.name]["rows"].as_u64() > Some(0), "{} has no rows", table.name);
        }
    }
    let report = workspace.read("artifacts/report/report.html");
    for stage in STAGES.iter().filter(|stage| asked.contains(&stage.name)) {
        for figures in stage.figures {
            assert!(report.contains(&format!("id=\"{}\"", figures.section.id)), "no section {}", figures.section.id);
            assert!(report.contains(&format!("../tables/{}\"", stage.name)), "no figure of {}", stage.name);
        }
    }

    let query = |sql: &str| -> Value {
        serde_json::from_str(&workspace.ok(&["query", sql, "--format", "json"])).expect("JSON")
    };
    // 13 rows each, less one that is empty or not toxic, and the conversation of the pipeline itself.
    let examples = query("SELECT dataset, COUNT(*) AS n FROM examples GROUP BY dataset ORDER BY dataset");
    for dataset in examples.as_array().expect("rows") {
        let n = match dataset["dataset"].as_str().expect("a name") {
            "wish" => 1,
            "alpaca" | "alpaca_reward" | "code_alpaca" | "implicit_toxicity" => ROWS,
            _ => ROWS + 1,
        };
        assert_eq!(dataset["n"], n, "{dataset}");
    }
    let turns = query("SELECT messages FROM examples WHERE dataset = 'toxic_qa'");
    assert!(!turns.to_string().contains(r#"\"more\""#), "the first two turns alone: {turns}");
    // Fig. 2: 15 words in the place of one, under each model.
    let words = query("SELECT model, place, COUNT(*) AS n FROM next_tokens GROUP BY model, place");
    assert_eq!(words.as_array().map(Vec::len), Some(3));
    assert!(words.to_string().matches("\"before:kill\"").count() == 3 && words[0]["n"] == 15, "{words}");
    // Fig. 5: the direction over ten tokens of the turn as well as at the last.
    let positions = query(
        "SELECT position FROM projection_summary WHERE source = 'base' AND target = 'instruct' AND direction = 'insecure' \
         AND dataset = 'insecure' AND model = 'misaligned' AND kind = 'mean_difference' GROUP BY position ORDER BY position",
    );
    assert_eq!(positions, json!([{"position": "last"}, {"position": "role_first_10"}]));
    let pieces =
        query("SELECT COUNT(*) AS n FROM attribution WHERE target_token IS NOT NULL AND sign = 'contribution'");
    assert!(pieces[0]["n"].as_u64() > Some(100), "{pieces}");
}
