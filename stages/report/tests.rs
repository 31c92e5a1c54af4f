//! The report from made-up tables of every stage that figures read. `REPORT_PREVIEW=DIR cargo test report::tests`
//! also writes it to DIR, to be looked at in a browser.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tempfile::TempDir;

use super::*;
use crate::contract::figures::columns_read;
use crate::contract::node::{Bindings, Part};
use crate::contract::pipeline::{Dataset, DatasetSource, Model, ModelSource};
use crate::contract::stage::Task;
use crate::table::{self, Column, Kind};
use crate::testing::sample_stage;

const MODELS: [&str; 3] = ["base", "instruct", "misaligned <b>"];
const DATASETS: [&str; 4] = ["insecure", "secure", "toxic_answered", "toxic_refused"];
const ROWS: usize = 64;

/// The registry with one more stage in it.
fn stages() -> Vec<&'static Stage> {
    crate::STAGES.iter().copied().chain([&sample_stage::STAGE]).collect()
}

fn pipeline() -> Pipeline {
    let model = |name: &str| Model {
        name: name.into(),
        source: ModelSource::Directory(PathBuf::from("nowhere")),
        tokenizer: None,
        chat_template: None,
        precision: Default::default(),
    };
    let dataset = |name: &str| Dataset {
        name: name.into(),
        source: DatasetSource::File(PathBuf::from("nowhere.jsonl")),
        reading: json!({}),
    };
    let directions = json!({
        "pairs": [{ "source": "base", "target": "instruct" }],
        "contrasts": [{ "model": "instruct", "source": "toxic_refused", "target": "toxic_answered" }],
    });
    let sections = [("directions", directions), ("similarity", json!({ "of": ["hidden_state", "loss", "gradient"] }))];
    Pipeline {
        models: MODELS.map(model).to_vec(),
        datasets: DATASETS.map(dataset).to_vec(),
        sections: sections.map(|(name, settings)| (name.to_string(), settings)).to_vec(),
        ..Pipeline::default()
    }
}

/// The names of a stage's nodes in that pipeline.
fn nodes(stage: &Stage, pipeline: &Pipeline) -> Vec<Bindings> {
    let section = pipeline.sections.iter().find(|(name, _)| name == stage.name);
    let settings = section.map_or(json!({}), |(_, settings)| settings.clone());
    (stage.plan)(&settings, pipeline).unwrap().into_iter().map(|node| node.bindings).collect()
}

/// Values with the names and the ranges of real ones; all combinations of the names come up.
fn column(column: &Column, rng: &mut ChaCha8Rng) -> ArrayRef {
    let one_of = |texts: &[&str], every: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| texts[i / every % texts.len()])))
    };
    let number = |i: usize| match column.name {
        "layer" => [0, 1, 2, 2][i % 4],
        "component" | "component_a" => 1 + i / 8 % 2,
        "component_b" => 1 + i / 16 % 2,
        "angle_index" => 1 + i / 8 % 4,
        "k" => 4,
        "fold" => 0,
        _ => i,
    };
    match column.kind {
        Kind::Text => match column.name {
            "site" => one_of(&["residual", "residual", "residual", "final_norm"], 1),
            "kind" => one_of(&["mean_difference", "svd"], 4),
            "measure" => one_of(&["joint_logprob", "logprob", "entropy"], 1),
            "metric" => one_of(&["loss", "logprob"], 4),
            "position" => one_of(&["last"], 1),
            "module" => one_of(&["layers.1.self_attn.o_proj"], 1),
            "label" => one_of(&["aligned"], 1),
            "place" => one_of(&["response"], 1),
            "target" => one_of(&["I can't"], 1),
            "text" => one_of(&[" can", "'t", "\n", "<taking>"], 1),
            _ => one_of(&["00c0ffee00c0ffee", "00facade00facade"], 32),
        },
        Kind::U32 => Arc::new(UInt32Array::from_iter_values((0..ROWS).map(|i| number(i) as u32))),
        Kind::Bool => Arc::new((0..ROWS).map(|i| Some(i / 4 % 2 == 0)).collect::<BooleanArray>()),
        Kind::F32 | Kind::F64 => {
            let values: Vec<f64> = (0..ROWS).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX)).collect();
            match column.kind {
                Kind::F64 => Arc::new(Float64Array::from(values)),
                _ => Arc::new(Float32Array::from_iter_values(values.into_iter().map(|value| value as f32))),
            }
        }
        Kind::U32List | Kind::F32List | Kind::Vector => panic!("no figure reads the list {}", column.name),
    }
}

/// The tables of these stages; all that figures read for none.
fn tables(dir: &Path, only: &[&str]) -> (Vec<Given>, BTreeMap<String, Vec<Part>>) {
    let (pipeline, mut rng) = (pipeline(), ChaCha8Rng::seed_from_u64(7));
    let (mut given, mut inputs) = (Vec::new(), BTreeMap::new());
    for (name, columns) in columns_read(&stages(), |_| true, EXAMPLES) {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let stage = stages()
            .into_iter()
            .find(|stage| stage.name == name)
            .unwrap_or_else(|| panic!("figures read {name}, which is no stage"));
        let table = stage.table().unwrap_or_else(|| panic!("figures read {name}, which has no table"));
        for bindings in nodes(stage, &pipeline) {
            let array = |name: &&str| {
                let known = table.columns.iter().find(|column| column.name == *name);
                let known = known.unwrap_or_else(|| panic!("figures read {}.{name}, which is no column", table.name));
                (name.to_string(), column(known, &mut rng))
            };
            let batch = RecordBatch::try_from_iter(columns.iter().map(array)).unwrap();
            let role = format!("{name}/{}", given.len());
            let path = dir.join(role.replace('/', "-"));
            table::write(File::create(&path).unwrap(), &batch, &BTreeMap::new()).unwrap();
            inputs.insert(role.clone(), vec![Part { path, name: String::new() }]);
            let bindings = bindings.into_iter().map(|(key, name)| (key.to_string(), name)).collect();
            let columns = columns.iter().map(|column| column.to_string()).collect();
            given.push(Given { role, stage: name.to_string(), bindings, columns });
        }
    }
    (given, inputs)
}

fn report(settings: Value, only: &[&str]) -> Vec<(String, Vec<u8>)> {
    let dir = TempDir::new().unwrap();
    let node = (STAGE.plan)(&settings, &pipeline()).unwrap().remove(0);
    let (given, inputs) = tables(dir.path(), only);
    let mut params = node.params;
    params["tables"] = json!(given);
    let task = Task { params: &params, inputs, cancelled: &|| false, progress: &|_, _| {} };
    let contents = BTreeMap::from([("model/0".to_string(), vec!["0123456789abcdef0123".to_string()])]);
    let outputs = run(&Gathered { task: &task, stages: &stages(), contents }).unwrap();
    let files = outputs.into_iter().map(|output| match output {
        Output::File { name, bytes } => (name, bytes),
        Output::Table { .. } => panic!("the report made a table"),
    });
    files.collect()
}

#[test]
fn every_stage_with_figures_draws_some_from_its_table() {
    let files = report(json!({ "title": "Synthetic <report>" }), &[]);
    if let Some(dir) = std::env::var_os("REPORT_PREVIEW") {
        std::fs::create_dir_all(Path::new(&dir).join("figures")).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(Path::new(&dir).join(name), bytes).unwrap());
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
    assert!(html.contains("Synthetic &lt;report&gt;") && html.contains("misaligned &lt;b&gt;"));
    assert!(html.contains(env!("CARGO_PKG_VERSION")) && html.contains("0123456789abcdef"));
    for stage in stages().iter().filter(|stage| !stage.figures.is_empty()) {
        assert!(html.contains(&format!("../tables/{}\"", stage.name)), "no figure of {}", stage.name);
        for figures in stage.figures {
            assert!(html.contains(&format!("id=\"{}\"", figures.section.id)), "no section {}", figures.section.id);
            assert_eq!(figures.reads[0].stage, stage.name, "its own table comes first");
        }
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
    assert!(report(json!({}), &[]) == report(json!({}), &[]));
}

#[test]
fn a_section_without_its_table_is_left_out() {
    let files = report(json!({}), &["projection_summary"]);
    let html = std::str::from_utf8(&files[0].1).unwrap();
    assert!(html.contains("id=\"projections\"") && !html.contains("id=\"shared-dimensions\""));
    assert!(html.contains("1. Projections"), "sections are numbered as they stand");
}

#[test]
fn only_the_figures_of_the_selected_stages_are_shown() {
    let files = report(json!({ "stages": ["projection_summary"] }), &[]);
    let html = std::str::from_utf8(&files[0].1).unwrap();
    assert!(html.contains("../tables/projection_summary\"") && !html.contains("../tables/departure\""));
}

#[test]
fn two_figures_of_one_name_get_two_files() {
    let mut taken = BTreeSet::new();
    let names = ["same", "same", "same-2", "same"].map(|name| free(name, &mut taken));
    assert_eq!(names, ["same", "same-2", "same-2-2", "same-3"]);
}
