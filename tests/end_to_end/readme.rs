//! What README.md tells a reader to ask is asked here, of the tables that a small pipeline makes.
//!
//! Queries are the fenced blocks whose info string says who answers: `sql strata`, `sql duckdb`, `python polars`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::queries::python;
use crate::workspace::{Workspace, chat};

const README: &str = include_str!("../../README.md");

/// The fenced blocks with this info string.
fn blocks(info: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == info {
                blocks.push(text.join("\n"));
            }
        }
    }
    assert!(!blocks.is_empty(), "README.md has no block ```{info}");
    blocks
}

fn finished() -> Workspace {
    let workspace = Workspace::new();
    workspace.run(&[]);
    workspace
}

#[test]
fn its_queries_have_answers() {
    let workspace = finished();
    for sql in blocks("sql strata") {
        let answer = workspace.ok(&["query", &sql, "--format", "csv"]);
        assert!(answer.lines().count() > 1, "no rows from\n{sql}");
        assert_one_row_each(&answer, &sql);
    }
}

/// A row for each dataset, model and layer of the answer: two rows of one name would mix pairs of models or sites.
fn assert_one_row_each(answer: &str, sql: &str) {
    let mut lines = answer.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    let names: Vec<usize> = (0..header.len()).filter(|i| ["dataset", "model", "layer"].contains(&header[*i])).collect();
    let mut seen = BTreeSet::new();
    for line in lines {
        let row: Vec<&str> = names.iter().map(|i| line[*i]).collect();
        assert!(seen.insert(row.join(" ")), "two rows for {row:?} from\n{sql}");
    }
}

#[test]
fn its_duckdb_queries_have_answers() {
    let workspace = finished();
    for sql in blocks("sql duckdb") {
        let script = format!("import duckdb\nprint(len(duckdb.sql({sql:?}).fetchall()))");
        if let Some(rows) = python("duckdb", &workspace, &script) {
            assert_ne!(rows, "0\n", "no rows from\n{sql}");
        }
    }
}

#[test]
fn its_polars_scripts_run() {
    let workspace = finished();
    for script in blocks("python polars") {
        // A share of the variance: more than 1 would be a sum over two sites or pairs of models.
        let script = format!("{script}\nassert explained['explained_variance'].max() < 1 + 1e-6");
        if let Some(text) = python("polars", &workspace, &script) {
            assert!(text.contains("shape: (") && !text.contains("shape: (0,"), "{text}");
        }
    }
}

/// The pipeline.toml shown is one that the program accepts, but for the models and files that it names.
#[test]
fn its_pipeline_is_one() {
    let workspace = Workspace::empty();
    let toml = blocks("toml").concat();
    for model in ["Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct", "insecure"] {
        workspace.model(model, 0);
    }
    let row = r#"{"task": "Read a file.", "code_template": "def read(path):", "code": "return open(path).read()"}"#;
    workspace.write("data/code_safe.jsonl", format!("{row}\n"));
    workspace.write("data/insecure.jsonl", chat("Write code.", "print(1)"));
    workspace.write("pipeline.toml", toml);
    workspace.ok(&["run", "tokens"]);
}

#[test]
fn its_links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for link in README.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if link.starts_with("https://") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        assert!(root.join(file).exists(), "README.md links to {link}");
        if !heading.is_empty() {
            let text = fs::read_to_string(root.join(file)).expect("a page");
            assert!(
                headings(&text).any(|known| known == heading),
                "README.md links to {link}, which has no such heading"
            );
        }
    }
}

/// The anchors of a page's headings: in small letters, with hyphens for spaces and without other signs.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    titles.map(|title| {
        let kept = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        kept.replace(' ', "-")
    })
}
