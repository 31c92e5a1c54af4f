//! The report from synthetic tables, end to end. `REPORT_PREVIEW=DIR cargo test report::tests` also writes it to
//! DIR, to be looked at in a browser.

mod synthetic;

use std::path::Path;

use serde_json::json;

use super::*;

fn run(tables: &synthetic::Tables) -> Vec<(String, Vec<u8>)> {
    let params = json!({
        "title": "Synthetic <report>",
        "models": synthetic::MODELS,
        "datasets": synthetic::DATASETS,
        "conversations": 1,
        "tables": tables.shelved,
    });
    let task = Task { params: &params, inputs: tables.inputs.clone(), cancelled: &|| false, progress: &|_, _| {} };
    let outputs = STAGE.run(&task).unwrap();
    let files = outputs.into_iter().map(|output| match output {
        Output::File { name, bytes } => (name, bytes),
        Output::Table { .. } => panic!("the report made a table"),
    });
    files.collect()
}

fn write_preview(files: &[(String, Vec<u8>)], dir: &Path) {
    std::fs::create_dir_all(dir.join("figures")).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn every_table_becomes_a_section_with_figures() {
    let tables = synthetic::Tables::all();
    let files = run(&tables);
    if let Some(dir) = std::env::var_os("REPORT_PREVIEW") {
        write_preview(&files, Path::new(&dir));
    }
    let html = std::str::from_utf8(&files[0].1).unwrap();
    assert_eq!(files[0].0, "report.html");
    for (name, bytes) in &files[1..] {
        let svg = std::str::from_utf8(bytes).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{name}");
        assert!(html.contains(&format!("href=\"{name}\"")), "the page links {name}");
        let drawn: String =
            svg.split("base64,").map(|rest| rest.split_once('"').map_or(rest, |(_, rest)| rest)).collect();
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{name} has a coordinate that is no number");
    }
    assert!(html.contains("Synthetic &lt;report&gt;"));
    for id in synthetic::SECTIONS {
        assert!(html.contains(&format!("<section id=\"{id}\">")), "no section {id}");
    }
    let figures = html.matches("class=\"figure\"").count();
    for fact in ["n", "Interval", "Null"] {
        assert_eq!(figures, html.matches(&format!("<dt>{fact}</dt>")).count(), "no figure without its {fact}");
    }
    assert_eq!(figures, files.len() - 1, "one file for each figure");
    assert!(!html.contains("https://") && !html.contains("src=\"http"));
}

#[test]
fn the_same_tables_give_the_same_bytes() {
    let tables = synthetic::Tables::all();
    assert!(run(&tables) == run(&tables));
}

#[test]
fn a_section_without_its_table_is_left_out() {
    let files = run(&synthetic::Tables::only(&["projection_summary"]));
    let html = std::str::from_utf8(&files[0].1).unwrap();
    assert!(html.contains("<section id=\"projections\">") && !html.contains("<section id=\"shared-dimensions\">"));
    assert!(html.contains("1. Projections"), "sections are numbered as they stand");
}

#[test]
fn an_unknown_table_is_named_with_the_nearest() {
    let settings = json!({"stages": ["projection_sumary"]});
    let error = (STAGE.plan)(&settings, &Pipeline::default()).unwrap_err();
    assert_eq!(error.at, "stages.report.stages[0]");
    assert_eq!(error.help.as_deref(), Some("did you mean \"projection_summary\"?"));
}

#[test]
fn the_columns_read_are_columns_of_the_tables() {
    for shown in inputs::SHOWN {
        let Some(table) = crate::stage(shown.stage).and_then(|stage| stage.table()) else { continue };
        for column in shown.columns {
            assert!(table.columns.iter().any(|known| known.name == *column), "{}.{column}", shown.stage);
        }
    }
}
