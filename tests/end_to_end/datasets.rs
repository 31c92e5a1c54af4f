//! Datasets as they are drawn and filtered: samples by strata, filters in SQL, files larger than what is held of them.

use std::fs;
use std::io::{BufWriter, Write as _};

use serde_json::{Value, json};

use crate::hostile_input::peak;
use crate::workspace::Workspace;

/// Rows of three topics, half, a third and a sixth of them, in two languages or none.
fn rows(count: usize) -> Vec<Value> {
    let topic = |i: usize| ["code", "law", "code", "history", "code", "law"][i % 6];
    let language = |i: usize| [json!("python"), json!("go"), Value::Null][i % 3].clone();
    let row = |i: usize| {
        json!({"prompt": format!("question {i}"), "response": "yes".repeat(i % 9 + 1), "topic": topic(i), "language": language(i),
            "score": i})
    };
    (0..count).map(row).collect()
}

fn workspace(dataset: &str) -> Workspace {
    let workspace = Workspace::empty();
    workspace.write("pipeline.toml", format!("[datasets.one]\n{dataset}\n[stages.examples]\n"));
    workspace.write("one.jsonl", rows(600).iter().map(|row| format!("{row}\n")).collect::<String>());
    let csv: String = rows(20).iter().map(|row| format!("{},yes,{}\n", row["prompt"], row["score"])).collect();
    workspace.write("one.csv", format!("prompt,response,score\n{csv}"));
    workspace
}

fn counts(workspace: &Workspace) -> String {
    let sql = "SELECT label, count(*) AS n FROM examples GROUP BY label ORDER BY label";
    workspace.ok(&["query", sql, "--format", "csv"])
}

#[test]
fn a_sample_by_strata_has_the_file_s_composition_or_is_balanced() {
    for (counts_key, expected) in
        [("", "code,30\nhistory,10\nlaw,20\n"), (", counts = \"equal\"", "code,20\nhistory,20\nlaw,20\n")]
    {
        let sample = format!("sample = {{ n = 60, seed = 3, by = \"topic\"{counts_key} }}");
        let workspace = workspace(&format!("path = \"one.jsonl\"\nlabel_column = \"topic\"\n{sample}"));
        workspace.run(&[]);
        assert_eq!(counts(&workspace), format!("label,n\n{expected}"));
    }
    let sample = "sample = { n = 450, by = \"topic\", counts = \"equal\" }";
    let workspace = workspace(&format!("path = \"one.jsonl\"\nlabel_column = \"topic\"\n{sample}"));
    let said = workspace.ok(&["run"]);
    assert!(said.contains("takes all 100 rows of \"history\", where 150 were asked for"), "{said}");
    assert_eq!(counts(&workspace), "label,n\ncode,150\nhistory,100\nlaw,150\n");
}

#[test]
fn a_filter_in_sql_keeps_what_is_true() {
    let filter = "filter = \"language IN ('python', 'go') AND length(response) > 20\"";
    let workspace = workspace(&format!("path = \"one.jsonl\"\nlabel_column = \"language\"\n{filter}"));
    workspace.run(&[]);
    let kept = rows(600).into_iter().filter(|row| row["response"].as_str().is_some_and(|text| text.len() > 20));
    let of = |language: &str| kept.clone().filter(|row| row["language"] == language).count();
    assert!(of("go") > 50);
    assert_eq!(counts(&workspace), format!("label,n\ngo,{}\npython,{}\n", of("go"), of("python")));
}

#[test]
fn a_filter_in_sql_that_is_wrong_is_named() {
    for (code, path, filter, expected) in [
        (2, "one.jsonl", "language IN (", "pipeline.toml:3:"),
        (2, "one.jsonl", "score > avg(score)", "more than one row"),
        (2, "one.jsonl", "1 = 1", "looks at no column"),
        (1, "one.jsonl", "langauge = 'go'", "no column \"langauge\"; did you mean \"language\"?"),
        (1, "one.jsonl", "length(response)", "expected true or false"),
        (1, "one.csv", "score > 5", "score (text); CAST(column AS DOUBLE) reads text as numbers"),
    ] {
        let error = workspace(&format!("path = \"{path}\"\nfilter = \"{filter}\"")).fails(code, &["run"]);
        assert!(error.contains(expected), "{filter}: {error}");
        assert!(!error.contains("a defect in Strata"), "{error}");
    }
    workspace("path = \"one.csv\"\nfilter = \"CAST(score AS DOUBLE) > 5\"").run(&[]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_sample_takes_no_more_memory_of_a_larger_file() {
    let response = "a word and another ".repeat(10_000);
    let row = |i: usize| json!({"prompt": format!("question {i}"), "response": response, "topic": i % 2}).to_string();
    let peak = |rows: usize| {
        let sample = "sample = { n = 4, by = \"topic\" }";
        let workspace = workspace(&format!("path = \"large.json\"\nlabel_column = \"topic\"\n{sample}"));
        let mut file = BufWriter::new(fs::File::create(workspace.path("large.json")).expect("a file"));
        for i in 0..rows {
            write!(file, "{}{}", if i == 0 { "[" } else { "," }, row(i)).expect("written");
        }
        write!(file, "]").and_then(|()| file.flush()).expect("written");
        let peak = peak(&workspace);
        assert_eq!(counts(&workspace), "label,n\n0,2\n1,2\n");
        peak
    };
    // 38 and 95 MB, of which 16 are read at once.
    let (smaller, larger) = (peak(200), peak(500));
    assert!(larger < smaller + (30 << 20), "{} MB instead of {} MB", larger >> 20, smaller >> 20);
}
