//! One dataset's gradients as vectors, for the stages that compare vectors.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::contract::setting::{NoSettings, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::gradients::settings::Settings;
use crate::gradients::vector_columns::VECTOR_COLUMNS;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{self, Table};

pub const TABLE: Table = Table { name: "gradient_vectors", folders: &[MODEL, DATASET], columns: VECTOR_COLUMNS };

#[derive(Deserialize)]
struct Params {
    /// The dataset's place among those whose gradients are taken.
    index: usize,
}

pub static STAGE: Stage = Stage {
    name: "gradient_vectors",
    version: 2,
    about: "A dataset's rows of its model's gradient_space: vectors with the gradients' exact inner products.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[],
    defaults: defaults::<NoSettings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let NoSettings {} = parse_settings(STAGE.name, settings)?;
    let gradients: Settings = pipeline.section("gradients")?;
    let datasets = pipeline.datasets(&gradients.datasets, "stages.gradients.datasets")?;
    let mut nodes = Vec::new();
    for model in pipeline.models(&gradients.models, "stages.gradients.models")? {
        for (index, dataset) in datasets.iter().enumerate() {
            let space = vec![("model", model.name.clone())];
            nodes.push(Node {
                stage: STAGE.name,
                bindings: model_dataset(&model.name, &dataset.name),
                params: json!({ "index": index }),
                inputs: vec![Input::node("space", "gradient_space", space)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let Params { index } = task.params()?;
    let parts = task.parts("space")?;
    let part = parts.get(index).with_context(|| format!("gradient_space has {} parts, not {index}", parts.len()))?;
    let batch = table::read(std::slice::from_ref(part), &["example", "module", "vector"])?;
    Ok(vec![Output::table(TABLE.batch(batch.columns().iter().map(Arc::clone).collect())?)])
}
