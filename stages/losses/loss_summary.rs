//! How likely a model finds a dataset's responses: joint log-probability and entropy, in one line each.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::statistics::bootstrap::{RESAMPLES, Resamples};
use crate::statistics::moments::{mean, std};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET, MODEL};
use crate::table::{self, Kind, Table, column, values};

/// `[stages.loss_summary]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    models: Selection,
    datasets: Selection,
    resamples: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { models: Selection::default(), datasets: Selection::default(), resamples: RESAMPLES, seed: 0 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Params {
    resamples: usize,
    seed: u64,
}

const COLUMNS: &[&str] = &["example", "in_response", "logprob", "entropy"];
const TABLE: Table = Table {
    name: "loss_summary",
    folders: &[MODEL, DATASET],
    columns: &[
        column(
            "measure",
            Kind::Text,
            "per example over the response's tokens: joint_logprob (sum of log-probabilities), logprob (their mean) or \
             entropy (mean entropy of the distributions), in nats",
        ),
        column("n", Kind::U32, "number of examples that have response tokens"),
        column("tokens", Kind::U32, "number of response tokens of all of them"),
        column("mean", Kind::F64, "mean over the examples; null where there is none"),
        column("std", Kind::F64, "standard deviation over the examples (divisor n)"),
        CI_LOW,
        CI_HIGH,
    ],
};

pub static STAGE: Stage = Stage {
    name: "loss_summary",
    version: 1,
    about: "Mean log-probability of a dataset's responses under a model, and mean entropy, with intervals.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models whose losses are summarised."),
        setting("datasets", "The datasets whose responses are summarised."),
        RESAMPLES_SETTING,
        SEED_SETTING,
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
    for model in pipeline.models(&settings.models, "stages.loss_summary.models")? {
        for dataset in pipeline.datasets(&settings.datasets, "stages.loss_summary.datasets")? {
            let bindings = model_dataset(&model.name, &dataset.name);
            nodes.push(Node {
                stage: STAGE.name,
                bindings: bindings.clone(),
                params: json!(Params { resamples: settings.resamples, seed: settings.seed }),
                inputs: vec![Input::node("losses", "token_losses", bindings).columns(COLUMNS)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let batch = table::read(task.parts("losses")?, COLUMNS)?;
    let examples: &StringArray = values(&batch, "example")?;
    let in_response: &BooleanArray = values(&batch, "in_response")?;
    let logprobs: &Float32Array = values(&batch, "logprob")?;
    let entropies: &Float32Array = values(&batch, "entropy")?;
    let mut sums: Vec<Sums> = Vec::new();
    let mut last = "";
    // The tokens of one example are adjacent.
    for row in (0..batch.num_rows()).filter(|&row| in_response.value(row)) {
        if sums.is_empty() || examples.value(row) != last {
            last = examples.value(row);
            sums.push(Sums::default());
        }
        if let Some(sums) = sums.last_mut() {
            sums.logprob += f64::from(logprobs.value(row));
            sums.entropy += f64::from(entropies.value(row));
            sums.tokens += 1;
        }
    }
    let measures: [(&str, Vec<f64>); 3] = [
        ("joint_logprob", sums.iter().map(|sums| sums.logprob).collect()),
        ("logprob", sums.iter().map(|sums| sums.logprob / f64::from(sums.tokens)).collect()),
        ("entropy", sums.iter().map(|sums| sums.entropy / f64::from(sums.tokens)).collect()),
    ];
    let tokens: u32 = sums.iter().map(|sums| sums.tokens).sum();
    let resamples = Resamples::new(sums.len(), params.resamples, params.seed, 0);
    let number = |value: &dyn Fn(&[f64]) -> Option<f64>| -> ArrayRef {
        Arc::new(measures.iter().map(|(_, found)| value(found)).collect::<Float64Array>())
    };
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values(measures.iter().map(|(name, _)| *name))),
        Arc::new(UInt32Array::from(vec![sums.len() as u32; 3])),
        Arc::new(UInt32Array::from(vec![tokens; 3])),
        number(&|found| finite(mean(found))),
        number(&|found| finite(std(found))),
        number(&|found| resamples.mean_interval(found).map(|interval| interval.low)),
        number(&|found| resamples.mean_interval(found).map(|interval| interval.high)),
    ])?;
    Ok(vec![Output::table(batch)])
}

#[derive(Default)]
struct Sums {
    logprob: f64,
    entropy: f64,
    tokens: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tables::{TestTables, assert_near, f32s, numbers, run, text, texts};

    fn summary(rows: &[(&str, bool, f32, f32)]) -> arrow::array::RecordBatch {
        let tables = TestTables::new();
        let losses = tables.part(vec![
            ("example", text(rows.iter().map(|row| row.0))),
            ("in_response", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<BooleanArray>())),
            ("logprob", f32s(rows.iter().map(|row| row.2))),
            ("entropy", f32s(rows.iter().map(|row| row.3))),
        ]);
        run(&crate::losses::loss_summary::STAGE, json!({ "resamples": 500, "seed": 0 }), &[("losses", &[losses])])
            .unwrap()
    }

    #[test]
    fn means_are_over_examples_of_response_tokens() {
        let found = summary(&[
            ("a", false, -9.0, 9.0),
            ("a", true, -1.0, 0.5),
            ("a", true, -3.0, 1.5),
            ("b", true, -5.0, 2.0),
            ("c", false, -7.0, 7.0),
        ]);
        assert_eq!(texts(&found, "measure"), ["joint_logprob", "logprob", "entropy"]);
        let means = numbers(&found, "mean");
        [-4.5, -3.5, 1.5].iter().zip(means).for_each(|(expected, found)| assert_near(found, *expected, 1e-12));
        assert_eq!((numbers(&found, "n")[0], numbers(&found, "tokens")[0]), (2.0, 3.0));
        assert_eq!((numbers(&found, "ci_low")[0], numbers(&found, "ci_high")[0]), (-5.0, -4.0));
    }

    #[test]
    fn without_response_tokens_there_is_no_mean() {
        let found = summary(&[("a", false, -1.0, 1.0)]);
        assert_eq!(numbers(&found, "n"), [0.0; 3]);
        assert!(numbers(&found, "mean").iter().chain(&numbers(&found, "ci_low")).all(|value| value.is_nan()));
    }
}
