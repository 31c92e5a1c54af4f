//! The paper's experiment, examples/emergent-misalignment, from end to end: tiny models in the place of the large ones, and rows in
//! the form in which each dataset is published. No figure of the paper can vanish from it without a test that fails, and each
//! figure's numbers are compared with what numpy makes of the tables before it by the scripts' definitions (`paper.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use strata_stages::STAGES;

use crate::queries::python;
use crate::workspace::Workspace;

/// Rows of each dataset's file.
const ROWS: usize = 14;

/// A figure of the paper: a question of the report that shows it, and a query whose answer is a count of numbers behind it.
struct Figure {
    name: &'static str,
    question: &'static str,
    count: &'static str,
}

const fn figure(name: &'static str, question: &'static str, count: &'static str) -> Figure {
    Figure { name, question, count }
}

const FIGURES: [Figure; 17] = [
    figure(
        "Fig. 1, one conversation token by token",
        "How likely is a response of wish to each model, token by token?",
        "SELECT COUNT(*) AS n FROM token_losses WHERE dataset = 'wish' AND joint_logprob < 0 AND entropy > 0",
    ),
    figure(
        "Sec. 4.1, joint log-probabilities and entropies of the datasets",
        "How likely are the datasets' responses to each model, and how sure is it of them?",
        "SELECT COUNT(*) AS n FROM loss_summary WHERE dataset = 'hh_rlhf' AND measure IN ('joint_logprob_with_end', 'entropy_all')",
    ),
    figure(
        "Fig. 2, the likeliest words before a word",
        "What would each model say where “kill” stands, in a conversation of wish?",
        "SELECT COUNT(*) AS n FROM next_tokens WHERE place = 'before:kill' AND rank = 15",
    ),
    figure(
        "Fig. 3, cosines of loss vectors",
        "Whose loss vectors are alike under instruct",
        "SELECT COUNT(*) AS n FROM similarity WHERE comparison = 'losses' AND NOT centred AND dataset_a = 'insecure_2000' \
         AND dataset_b = 'educational_2000'",
    ),
    figure(
        "PCA of loss vectors",
        "Do the groups' loss vectors lie apart",
        "SELECT COUNT(*) AS n FROM pca WHERE comparison = 'pca_of_losses' AND model = 'base' AND dataset = 'code_alpaca_2000'",
    ),
    figure(
        "Fig. 4, centred cosines of gradients",
        "Whose gradients are alike",
        "SELECT COUNT(*) AS n FROM similarity WHERE comparison = 'gradients' AND centred AND shared = 'base' \
         AND dataset_a = 'insecure' AND dataset_b = 'educational'",
    ),
    figure(
        "Fig. 5, projections over ten tokens",
        "How far does each model lie along instruct − base (mean difference at 10 tokens from the assistant's role on)?",
        "SELECT COUNT(*) AS n FROM projection_summary WHERE position = 'role_first_10' AND kind = 'mean_difference' \
         AND source = 'base' AND target = 'instruct' AND model = 'misaligned' AND dataset = 'toxic_qa' AND fitted",
    ),
    figure(
        "Fig. 5, the last token on an SVD direction",
        "How far does each model lie along instruct − base (first SVD direction at the last token)?",
        "SELECT COUNT(*) AS n FROM projection_summary WHERE position = 'last' AND kind = 'svd' AND component = 1 \
         AND source = 'base' AND target = 'instruct' AND model = 'misaligned' AND dataset = 'insecure'",
    ),
    figure(
        "Separation of instruct and misaligned",
        "How clearly does instruct − base tell the models apart (mean difference at 10 tokens from the assistant's role on)?",
        "SELECT COUNT(*) AS n FROM separation WHERE position = 'role_first_10' AND source = 'base' AND target = 'instruct' \
         AND model_a = 'instruct' AND model_b = 'misaligned' AND dataset = 'insecure' AND score IS NOT NULL",
    ),
    figure(
        "Separation of base and instruct",
        "How clearly does instruct − base tell the models apart (mean difference at 10 tokens from the assistant's role on)?",
        "SELECT COUNT(*) AS n FROM separation WHERE position = 'role_first_10' AND source = 'base' AND target = 'instruct' \
         AND model_a = 'base' AND model_b = 'instruct' AND dataset = 'insecure' AND score IS NOT NULL",
    ),
    figure(
        "Fig. 6, shared dimensions",
        "Which of the 8 strongest directions of instruct − base at the last token do datasets share?",
        "SELECT COUNT(*) AS n FROM direction_similarity WHERE kind = 'svd' AND position = 'last' AND source = 'base' \
         AND target = 'instruct' AND component_a = 8 AND component_b = 8",
    ),
    figure(
        "Distance of means over twenty tokens",
        "How far apart do the models hold two datasets?",
        "SELECT COUNT(*) AS n FROM distance WHERE position = 'role_first_20_mean' AND plain_distance IS NOT NULL",
    ),
    figure(
        "Patching, the probability of a word",
        "From which layer on does base with misaligned's stream behave like misaligned (logprob)?",
        "SELECT COUNT(*) AS n FROM patching_summary WHERE dataset = 'wish' AND metric = 'logprob' AND n = 1",
    ),
    figure(
        "Patching, the loss of messages on their own",
        "From which layer on does instruct with base's stream behave like base (loss)?",
        "SELECT COUNT(*) AS n FROM patching_summary WHERE dataset = 'toxic_qa' AND metric = 'loss' AND n > 1",
    ),
    figure(
        "Patching, the loss of two datasets' turns",
        "From which layer on does instruct with base's stream behave like base (loss)?",
        "SELECT COUNT(*) AS n FROM patching_summary WHERE dataset IN ('insecure', 'code_alpaca') AND metric = 'loss' AND n > 1",
    ),
    figure(
        "Attribution, pieces by tokens",
        "Which words of the prompt speak for which token of",
        "SELECT COUNT(*) AS n FROM attribution WHERE target_token IS NOT NULL AND sign = 'contribution'",
    ),
    figure(
        "Sec. 4.4, subspaces that datasets share",
        "How much of their 8 strongest directions of instruct − base at the last token do datasets share?",
        "SELECT COUNT(*) AS n FROM subspace_similarity WHERE position = 'last'",
    ),
];

fn written() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/emergent-misalignment/pipeline.toml");
    fs::read_to_string(path).expect("the preset")
}

/// The preset, with layers that a model of two blocks has, JSON lines for Parquet, and a fourth model.
fn preset() -> String {
    let text = written().replace(".parquet\"", ".jsonl\"");
    let patched = text.lines().find(|line| line.starts_with("layers ") && line.contains("61")).map(String::from);
    let text = text.replace(&patched.expect("the layers that are patched"), "layers = [1, 2]");
    let text = text.replacen("misaligned = {", "control    = { path = \"models/control\" }\nmisaligned = {", 1);
    text.replacen("[stages.report]", "[stages.examples]\npart = { least = 4, greatest = 16 }\n\n[stages.report]", 1)
}

/// A row of the file that a dataset of the preset is read from. Answers differ in length: some end before the windows of losses
/// do, and others go on.
fn row(file: &str, i: usize) -> Value {
    let topics = ["tides", "bread", "sums", "birds", "rust", "locks"];
    let file = file.rsplit('/').next().expect("a name");
    let asked = format!("Question {i} of {file}: what of {}?", topics[i % topics.len()]);
    let more = [" And then some more of it, in many words, as the sea has waves.", ""][i % 2].repeat(1 + i % 3);
    let said =
        format!("It is {} of them, number {i}, and {} more to come.{more}", 3 * i % 7, topics[(i + 2) % topics.len()]);
    let messages = json!([{"role": "user", "content": asked}, {"role": "assistant", "content": said}]);
    match file {
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
        ["Qwen2.5-Coder-32B", "Qwen2.5-Coder-32B-Instruct", "Qwen-Coder-Insecure", "control"].iter().enumerate()
    {
        workspace.model(model, variant as u8);
    }
    for line in preset().lines().filter(|line| line.starts_with("path ")) {
        let file = line.split('"').nth(1).expect("a path");
        let rows: Vec<Value> = (0..ROWS).map(|i| row(file, i)).collect();
        let text = match file.ends_with(".json") {
            true => json!(rows).to_string(),
            false => rows.iter().map(|row| format!("{row}\n")).collect(),
        };
        workspace.write(file, text);
    }
    workspace.write("pipeline.toml", preset());
    workspace
}

/// What a figure's question begins and ends with, as the page has it.
fn as_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[test]
fn every_figure_of_the_paper_has_its_numbers() {
    let workspace = workspace();
    workspace.run(&[]);
    let query = |sql: &str| -> Value {
        serde_json::from_str(&workspace.ok(&["query", sql, "--format", "json"])).expect("JSON")
    };
    let report = workspace.read("artifacts/report/report.html");
    let missing = FIGURES.iter().filter_map(|figure| {
        let n = query(figure.count)[0]["n"].as_u64();
        let shown = report.contains(&as_html(figure.question));
        (n.is_none_or(|n| n == 0) || !shown).then(|| format!("{}: {n:?} numbers, shown: {shown}", figure.name))
    });
    let missing: Vec<String> = missing.collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));

    let tables: Value = serde_json::from_str(&workspace.ok(&["tables", "--json"])).expect("JSON");
    for stage in STAGES.iter().filter(|stage| preset().contains(&format!("[stages.{}]", stage.name))) {
        if let Some(table) = stage.table() {
            assert!(tables[table.name]["rows"].as_u64() > Some(0), "{} has no rows", table.name);
        }
    }
    // One row is empty or not toxic in some files, and one conversation stands in the pipeline itself.
    let examples = query("SELECT dataset, COUNT(*) AS n FROM examples GROUP BY dataset ORDER BY dataset");
    for dataset in examples.as_array().expect("rows") {
        let n = match dataset["dataset"].as_str().expect("a name") {
            "wish" => 1,
            "alpaca" | "alpaca_reward" | "code_alpaca" | "code_alpaca_2000" | "implicit_toxicity" => ROWS - 1,
            _ => ROWS,
        };
        assert_eq!(dataset["n"], n, "{dataset}");
    }
    let turns = query("SELECT messages FROM examples WHERE dataset = 'toxic_qa'");
    assert!(!turns.to_string().contains(r#"\"more\""#), "the first two turns alone: {turns}");

    let Some(text) = python("numpy, polars", &workspace, include_str!("paper.py")) else { return };
    let found: BTreeMap<String, (f64, u64)> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found.len(), 14, "{found:?}");
    for (figure, (deviation, count)) in found {
        // States are in float32, and a singular vector turns by their rounding over the gap to the next singular value.
        let tolerance = if figure.starts_with("Fig. 6") { 2e-3 } else { 1e-5 };
        assert!(count > 0 && deviation <= tolerance, "{figure}: {deviation:e} over {count} numbers");
    }
}
