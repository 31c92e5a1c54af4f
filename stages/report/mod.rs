//! The report: one self-contained HTML file with the figures of every stage, and each figure as an SVG file.
//!
//! It computes nothing: a stage says what its figures read and draws them. It holds neither a time nor a host: the same
//! tables give the same bytes.

mod page;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::page::{Content, Page, Section};
use crate::contract::figures::section::SECTIONS;
use crate::contract::figures::tables::Given;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Tables};
use crate::contract::node::{Input, Node, Source};
use crate::contract::pipeline::{DatasetSource, Pipeline, PlanError, Selection, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Gathered, Output, Outputs, Stage, Work};

/// `[stages.report]`.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    title: String,
    stages: Selection,
    conversations: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        let title = "Alignment directions, layer by layer".into();
        Settings { title, stages: Selection::default(), conversations: 1 }
    }
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(flatten)]
    settings: Settings,
    models: Vec<String>,
    datasets: Vec<String>,
    /// The version of the program, which the page names.
    version: String,
    /// Written by the engine.
    #[serde(default)]
    tables: Vec<Given>,
}

pub static STAGE: Stage = Stage {
    name: "report",
    version: 12,
    about: "One HTML page with every figure, its question, its n, its interval and its null.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Files { open: "report.html" },
    settings: &[
        setting("title", "The page's title."),
        setting("stages", "The stages whose figures are shown; \"*\" is every stage of the pipeline that has some."),
        setting("conversations", "How many examples of each dataset, from its first, are shown token by token."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Gather(run),
};

/// The datasets' sizes and labels are part of any report.
const EXAMPLES: &[Reads] = &[Reads { stage: "examples", columns: &["label"] }];

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    if pipeline.models.is_empty() {
        let error = PlanError::new("models", "there is no model to report on");
        return Err(error.help("name one: base = { path = \"models/Qwen2.5-0.5B\" }"));
    }
    let models: Vec<String> = pipeline.models.iter().map(|model| model.name.clone()).collect();
    let datasets: Vec<String> = pipeline.datasets.iter().map(|dataset| dataset.name.clone()).collect();
    let input = |role: String, source| Input { role, source, columns: None, alike: None };
    let figures = Source::Figures { stages: settings.stages.clone(), also: EXAMPLES };
    let mut inputs = vec![input("tables".into(), figures)];
    let weights = |(i, model): (usize, &String)| input(model_role(i), Source::Weights { model: model.clone() });
    inputs.extend(models.iter().enumerate().map(weights));
    let texts = |(i, name): (usize, &String)| input(dataset_role(i), Source::Dataset { dataset: name.clone() });
    // A conversation that stands in pipeline.toml is no file whose content could be named.
    let files = datasets.iter().enumerate();
    inputs.extend(files.filter(|(i, _)| !matches!(pipeline.datasets[*i].source, DatasetSource::Written(_))).map(texts));
    let version = env!("CARGO_PKG_VERSION").to_string();
    let params = json!(Params { settings, models, datasets, version, tables: Vec::new() });
    Ok(vec![Node { stage: STAGE.name, bindings: Vec::new(), params, inputs, per_part: None }])
}

fn model_role(place: usize) -> String {
    format!("model/{place}")
}

fn dataset_role(place: usize) -> String {
    format!("dataset/{place}")
}

fn run(gathered: &Gathered) -> Result<Vec<Output>> {
    let params: Params = gathered.task.params()?;
    let Settings { title, stages, conversations } = &params.settings;
    let tables = Tables::open(&params.models, &params.datasets, *conversations, &params.tables, gathered.task)?;
    let shown = |stage: &Stage| stages.names().is_none_or(|names| names.iter().any(|name| name == stage.name));
    let figures = gathered.stages.iter().filter(|stage| shown(stage)).flat_map(|stage| stage.figures);
    let sections = sections(figures.collect(), &tables, gathered)?;
    let content = |role: String| Content::of(gathered.contents.get(&role).map_or(&[][..], Vec::as_slice));
    let page = Page {
        title,
        version: &params.version,
        models: params.models.iter().enumerate().map(|(i, name)| (name.as_str(), content(model_role(i)))).collect(),
        datasets: tables.datasets.iter().enumerate().map(|(i, dataset)| (dataset, content(dataset_role(i)))).collect(),
        sections: &sections,
    };
    let mut outputs = vec![Output::File { name: "report.html".into(), bytes: page.html().into_bytes() }];
    for figure in sections.iter().flat_map(|section| &section.figures) {
        let name = format!("figures/{}.svg", figure.name);
        outputs.push(Output::File { name, bytes: figure.svg().into_bytes() });
    }
    Ok(outputs)
}

/// The sections in order: those of the paper, then those that stages bring. One without a figure is left out.
fn sections(mut all: Vec<&'static Figures>, tables: &Tables, gathered: &Gathered) -> Result<Vec<Section>> {
    let place = |figures: &Figures| SECTIONS.iter().position(|known| known.id == figures.section.id);
    all.sort_by_key(|figures| (place(figures).unwrap_or(SECTIONS.len()), figures.level == Level::Detail));
    let done = AtomicU64::new(0);
    // Figures take no sum over several: who draws them does not show.
    let drawn = all.par_iter().map(|figures| {
        if (gathered.task.cancelled)() {
            bail!("stopped");
        }
        let drawn = (figures.draw)(tables)?;
        (gathered.task.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, all.len() as u64);
        Ok(drawn)
    });
    let drawn: Vec<Result<Drawn>> = drawn.collect();
    let mut sections: Vec<Section> = Vec::new();
    let mut taken = BTreeSet::new();
    for (figures, drawn) in all.iter().zip(drawn) {
        let mut drawn = drawn?;
        for figure in &mut drawn.figures {
            figure.name = free(&figure.name, &mut taken);
        }
        match sections.iter_mut().find(|known| known.section.id == figures.section.id) {
            Some(section) => section.add(drawn),
            None if drawn.figures.is_empty() => {}
            None => sections.push(Section::new(figures.section, drawn)),
        }
    }
    Ok(sections)
}

/// A figure's name that no other has: two can have one slug, and still need files of their own.
fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let copies = (2..).map(|copy| format!("{name}-{copy}"));
    let free = std::iter::once(name.to_string()).chain(copies).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests;
