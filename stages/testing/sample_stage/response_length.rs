//! How long a dataset's responses are in a model's tokens.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Float64Array, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::statistics::bootstrap::{RESAMPLES, Resamples};
use crate::statistics::moments::mean;
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET, MODEL};
use crate::table::{self, Kind, Table, column, values};

/// `[stages.response_length]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    models: Selection,
    datasets: Selection,
}

/// A change in any other column of `tokens` does not reach this stage.
const COLUMNS: &[&str] = &["response_start", "response_end"];

const TABLE: Table = Table {
    name: "response_length",
    folders: &[MODEL, DATASET],
    columns: &[
        column("n", Kind::U32, "number of examples"),
        column(
            "mean",
            Kind::F64,
            "mean number of tokens of the last assistant message; null where there is no example",
        ),
        CI_LOW,
        CI_HIGH,
    ],
};

pub static STAGE: Stage = Stage {
    name: "response_length",
    version: 1,
    about: "Mean number of tokens of a dataset's responses under a model's tokenizer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models whose tokens are counted."),
        setting("datasets", "The datasets whose responses are measured."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let mut nodes = Vec::new();
    for model in pipeline.models(&settings.models, "stages.response_length.models")? {
        for dataset in pipeline.datasets(&settings.datasets, "stages.response_length.datasets")? {
            let bindings = model_dataset(&model.name, &dataset.name);
            let inputs = vec![Input::node("tokens", "tokens", bindings.clone()).columns(COLUMNS)];
            nodes.push(Node { stage: STAGE.name, bindings, params: json!({}), inputs, per_part: None });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let batch = table::read(task.parts("tokens")?, COLUMNS)?;
    let (starts, ends): (&UInt32Array, &UInt32Array) =
        (values(&batch, "response_start")?, values(&batch, "response_end")?);
    let lengths: Vec<f64> =
        starts.values().iter().zip(ends.values()).map(|(start, end)| f64::from(end - start)).collect();
    let interval = Resamples::new(lengths.len(), RESAMPLES, 0, 0).mean_interval(&lengths);
    let number = |value: Option<f64>| Arc::new(Float64Array::from(vec![value.filter(|value| value.is_finite())]));
    let batch = TABLE.batch(vec![
        Arc::new(UInt32Array::from(vec![lengths.len() as u32])),
        number(Some(mean(&lengths))),
        number(interval.as_ref().map(|interval| interval.low)),
        number(interval.as_ref().map(|interval| interval.high)),
    ])?;
    Ok(vec![Output::table(batch)])
}
