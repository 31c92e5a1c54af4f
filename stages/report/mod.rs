//! The report: one self-contained HTML file with every analysis of the pipeline, and its figures as SVG files.
//!
//! It computes nothing that a table does not hold, and holds neither a time nor a host: the same tables give
//! the same bytes.

mod inputs;
mod page;
mod sections;
mod shelf;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::inputs::Shelved;
use self::page::Page;
use self::shelf::Shelf;
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, Selection, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
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
    title: String,
    models: Vec<String>,
    datasets: Vec<String>,
    conversations: usize,
    tables: Vec<Shelved>,
}

pub static STAGE: Stage = Stage {
    name: "report",
    version: 4,
    about: "One HTML page with every figure, its question, its n, its interval and its null.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Files { open: "report.html" },
    settings: &[
        setting("title", "The page's title."),
        setting("stages", "The tables to show; \"*\" is every table that the pipeline's stages make."),
        setting("conversations", "How many examples of each dataset, from its first, are shown token by token."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let nodes = inputs::find(crate::STAGES, &settings.stages, pipeline)?;
    if nodes.is_empty() && pipeline.models.is_empty() {
        let error = PlanError::new("models", "there is no model to report on");
        return Err(error.help("name one: base = { path = \"models/Qwen2.5-0.5B\" }"));
    }
    if nodes.is_empty() {
        let error = PlanError::new("stages.report", "the report has nothing to show");
        return Err(error.help("add the section of an analysis, for example [stages.projection_summary]"));
    }
    let (inputs, tables) = inputs::shelve(&nodes);
    let params = Params {
        title: settings.title,
        models: pipeline.models.iter().map(|model| model.name.clone()).collect(),
        datasets: pipeline.datasets.iter().map(|dataset| dataset.name.clone()).collect(),
        conversations: settings.conversations,
        tables,
    };
    Ok(vec![Node { stage: "report", bindings: Vec::new(), params: json!(params), inputs, per_part: None }])
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let shelf = Shelf::open(&params, task)?;
    let sections = sections::all(&shelf, task)?;
    let page = Page { title: &params.title, models: &shelf.models, datasets: &shelf.datasets, sections: &sections };
    let mut outputs = vec![Output::File { name: "report.html".into(), bytes: page.html().into_bytes() }];
    for figure in sections.iter().flat_map(|section| &section.figures) {
        let name = format!("figures/{}.svg", figure.name);
        outputs.push(Output::File { name, bytes: figure.svg().into_bytes() });
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests;
