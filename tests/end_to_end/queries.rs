//! What a reader does with the tables: `strata query` and `tables` here, DuckDB and Polars where they are installed.

use std::process::Command;

use strata_stages::STAGES;

use crate::workspace::{PIPELINE, Workspace, chats, stdout};

#[test]
fn sql_in_every_format() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let sql = "SELECT model, dataset, COUNT(*) AS n FROM tokens GROUP BY model, dataset ORDER BY model, dataset";
    let csv = workspace.ok(&["query", sql, "--format", "csv"]);
    assert_eq!(csv, "model,dataset,n\nbase,one,24\nbase,two,20\ninstruct,one,24\ninstruct,two,20\n");
    let json: serde_json::Value =
        serde_json::from_str(&workspace.ok(&["query", sql, "--format", "json"])).expect("JSON");
    assert_eq!(json[0], serde_json::json!({ "model": "base", "dataset": "one", "n": 24 }));
    let parquet = workspace.strata(&["query", sql, "--format", "parquet"]);
    assert!(parquet.status.success() && parquet.stdout.starts_with(b"PAR1"));
    assert!(workspace.ok(&["query", sql]).contains("(4 rows)"));
}

#[test]
fn a_bad_query_is_a_usage_error() {
    let workspace = Workspace::new();
    workspace.run(&["tokens"]);
    let text = workspace.fails(2, &["query", "SELECT * FROM token"]);
    assert!(text.contains("unknown table \"token\"") && text.contains("\"tokens\""), "{text}");
    workspace.fails(2, &["query", "SELEC"]);
    let text = workspace.fails(2, &["query", "SELECT nothing FROM tokens"]);
    assert!(text.contains("nothing"), "{text}");
}

#[test]
fn tables_describe_themselves() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let text = workspace.ok(&["tables"]);
    assert!(text.contains("hidden_states") && text.contains("projection_summary"), "{text}");
    let text = workspace.ok(&["tables", "hidden_states"]);
    assert!(text.contains("vector") && text.contains("layer"), "{text}");
    let folders: Vec<&str> = text.lines().filter(|line| line.contains(" folder ")).map(str::trim_start).collect();
    assert!(folders.len() == 2 && folders[0].starts_with("model ") && folders[1].starts_with("dataset "), "{text}");
    let text = workspace.ok(&["tables", "directions", "--json"]);
    let tables: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let folders = tables["directions"]["folders"].as_array().expect("a list");
    let names: Vec<&str> = folders.iter().filter_map(|folder| folder["name"].as_str()).collect();
    assert_eq!(names, ["dataset", "source", "target"]);
    assert!(folders.iter().all(|folder| folder["about"].as_str().is_some_and(|about| !about.is_empty())), "{text}");
    for format in ["mermaid", "dot", "json"] {
        assert!(workspace.ok(&["graph", "--format", format]).contains("hidden_states"));
    }
}

/// A Python that has the module, if there is one: CI installs both.
fn python_with(module: &str) -> Option<Command> {
    let probe = Command::new("python3").args(["-c", &format!("import {module}")]).output().ok()?;
    probe.status.success().then(|| Command::new("python3"))
}

pub fn python(module: &str, workspace: &Workspace, script: &str) -> Option<String> {
    let mut command = python_with(module)?;
    let output = command.args(["-c", script]).current_dir(workspace.path("")).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(stdout(&output))
}

#[test]
fn every_table_opens_in_duckdb() {
    let workspace = Workspace::new();
    workspace.run(&[]);
    let script = r#"
import duckdb, os
for table in sorted(os.listdir('artifacts/tables')):
    rows = duckdb.sql(f"select count(*) from read_parquet('artifacts/tables/{table}/**/*.parquet', hive_partitioning=true)").fetchall()[0][0]
    assert rows > 0, table
print(duckdb.sql("select count(distinct model) from 'artifacts/tables/hidden_states/**/*.parquet'").fetchall()[0][0])
print(duckdb.sql("select typeof(vector) from 'artifacts/tables/hidden_states/**/*.parquet' limit 1").fetchall()[0][0])
"#;
    if let Some(text) = python("duckdb", &workspace, script) {
        assert_eq!(text, "2\nFLOAT[]\n");
    }
}

#[test]
fn every_table_opens_in_polars() {
    let workspace = Workspace::new();
    // Weight matrices of different widths.
    let gradients = "[stages.gradients]\nmodules = [\"layers.0.self_attn.o_proj\", \"layers.0.mlp.down_proj\"]\n";
    let compared = "[stages.similarity]\nof = [\"gradient\"]\n";
    workspace.write("pipeline.toml", format!("{}{gradients}{compared}", workspace.read("pipeline.toml")));
    workspace.run(&[]);
    let script = r#"
import polars, os
for table in sorted(os.listdir('artifacts/tables')):
    assert polars.scan_parquet(f'artifacts/tables/{table}').collect().height > 0, table
states = polars.scan_parquet('artifacts/tables/hidden_states')
print(states.select(polars.col('model').n_unique()).collect().item())
print(type(states.collect_schema()['vector']).__name__)
factors = polars.scan_parquet('artifacts/tables/gradient_factors').collect()
print(factors['vector'].list.len().n_unique() > 1)
"#;
    if let Some(text) = python("polars", &workspace, script) {
        assert_eq!(text, "2\nArray\nTrue\n");
    }
}

#[test]
fn parts_beyond_a_thousand_are_read_from_their_folders() {
    let workspace = Workspace::new();
    let pipeline = workspace.read("pipeline.toml").replace("least = 2, greatest = 8", "least = 1, greatest = 2");
    workspace.write("pipeline.toml", pipeline);
    workspace.write("one.jsonl", chats("one", 1200));
    workspace.run(&["examples"]);
    let below = workspace.path("artifacts/tables/examples/dataset=one/parts-00001");
    assert!(below.is_dir(), "1,200 examples in parts of one or two");
    let sql =
        "SELECT dataset, COUNT(*) AS n, COUNT(DISTINCT example) AS e FROM examples GROUP BY dataset ORDER BY dataset";
    assert_eq!(workspace.ok(&["query", sql, "--format", "csv"]), "dataset,n,e\none,1200,1200\ntwo,20,20\n");
    let duckdb = r#"
import duckdb
print(duckdb.sql("select dataset, count(*) from read_parquet('artifacts/tables/examples/**/*.parquet', hive_partitioning=true) group by dataset order by dataset").fetchall())
rows = duckdb.sql("select row from read_parquet('artifacts/tables/examples/dataset=one/**/*.parquet')").fetchall()
print([row for row, in rows] == list(range(1200)))
"#;
    let polars = r#"
import polars
examples = polars.scan_parquet("artifacts/tables/examples", hive_partitioning=True).collect()
print(sorted(examples.group_by("dataset").len().rows()))
print(examples.filter(polars.col("dataset") == "one")["row"].to_list() == list(range(1200)))
"#;
    for (module, script) in [("duckdb", duckdb), ("polars", polars)] {
        if let Some(text) = python(module, &workspace, script) {
            assert_eq!(text, "[('one', 1200), ('two', 20)]\nTrue\n", "{module}");
        }
    }
    workspace.write("one.jsonl", chats("one", 30));
    workspace.run(&["examples"]);
    assert!(!below.exists());
}

/// Every stage that has figures, with directions between models and within one.
const EVERY_FIGURE: &str = r#"
[stages.loss_summary]
[stages.loss_difference]
[stages.next_tokens]
[stages.loss_vectors]
[stages.projections]
[stages.departure]
[stages.direction_similarity]
[stages.subspace_similarity]
[stages.distance]
[stages.similarity]
of = ["hidden_state", "loss", "gradient"]
[stages.similarity_summary]
[stages.permanova]
[stages.mean_similarity]
[stages.pca]
[stages.gradients]
[stages.gradient_summary]
[stages.patching_summary]
[stages.patching]
pairs = [{ source = "base", target = "instruct" }]
limit = 4
[stages.attribution]
limit = 1
[stages.report]
"#;

#[test]
fn every_query_in_the_report_gives_its_figures_numbers() {
    let workspace = Workspace::new();
    let contrast = r#"contrasts = [{ model = "instruct", source = "one", target = "two" }]"#;
    let pipeline = PIPELINE.replace("[stages.directions]\n", &format!("[stages.directions]\n{contrast}\n"));
    workspace.write("pipeline.toml", pipeline + EVERY_FIGURE);
    workspace.run(&[]);
    let page = workspace.read("artifacts/report/report.html");
    let figures: Vec<&str> = page.split("class=\"figure\"").skip(1).collect();
    let mut tables = Vec::new();
    for figure in &figures {
        let sql = query(figure);
        tables.extend(sql.split(" FROM ").nth(1).and_then(|rest| rest.split(' ').next()).map(String::from));
        let csv = workspace.ok(&["query", &sql, "--format", "csv"]);
        assert!(csv.lines().count() > 1, "no rows: {sql}");
    }
    tables.sort();
    tables.dedup();
    let shown = STAGES.iter().filter(|stage| !stage.figures.is_empty());
    let mut shown: Vec<&str> = shown.map(|stage| stage.name).collect();
    shown.sort();
    assert_eq!(tables, shown, "every stage that has figures");
    assert!(page.contains("two − one within instruct") && !page.contains("instruct − instruct"));

    let projections =
        figures.iter().find(|figure| query(figure).contains("FROM projection_summary")).expect("a figure");
    let csv = workspace.ok(&["query", &query(projections), "--format", "csv"]);
    let mut told = 0;
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [model, dataset, layer, site, _, mean, ..] = fields[..] else { panic!("{line}") };
        let layer = if site == "final_norm" { "norm" } else { layer };
        let panel = projections.split(&format!("<figcaption>{dataset}<")).nth(1).expect("a panel");
        let tip =
            panel.split(&format!("<title>layer {layer}&#10;")).nth(1).and_then(|tip| tip.split("</title>").next());
        let shown = tip.and_then(|tip| tip.split("&#10;").find_map(|line| line.strip_prefix(&format!("{model}  "))));
        let shown = shown.and_then(|shown| shown.split(' ').next()).expect("a value").replace('−', "-");
        let (shown, mean): (f64, f64) = (shown.parse().expect("a number"), mean.parse().expect("a number"));
        assert!((shown - mean).abs() <= 6e-3 * mean.abs() + 1e-9, "{line}: the figure says {shown}");
        told += 1;
    }
    assert!(told >= 8, "{csv}");
}

/// The SQL that a figure prints: out of HTML, and out of a shell's double quotes.
fn query(figure: &str) -> String {
    let code = figure.split("<code>").nth(1).and_then(|rest| rest.split("</code>").next()).expect("a query");
    let entities = [("&#10;", "\n"), ("&quot;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    let command = entities.iter().fold(code.to_string(), |text, (entity, plain)| text.replace(entity, plain));
    let quoted = command.strip_prefix("strata query \"").and_then(|rest| rest.strip_suffix('"')).expect("a command");
    let mut sql = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        sql.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    sql
}
