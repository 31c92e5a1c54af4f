//! How likely a model finds a dataset's responses: joint log-probability and entropy, in one line each.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::losses::response_losses::{self, COLUMNS, MEASURE_ABOUT, MEASURES};
use crate::statistics::bootstrap::{RESAMPLES, Resamples};
use crate::statistics::moments::{mean, std};
use crate::table::folders::{DATASET, MODEL};
use crate::table::{Kind, Table, column};

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

const TABLE: Table = Table {
    name: "loss_summary",
    folders: &[MODEL, DATASET],
    columns: &[
        column("measure", Kind::Text, MEASURE_ABOUT),
        column("n", Kind::U32, "number of examples that have response tokens"),
        column("tokens", Kind::U32, "number of response tokens of all of them"),
        column("mean", Kind::F64, "mean over the examples; null where there is none"),
        column("std", Kind::F64, "standard deviation over the examples (divisor n)"),
        column("ci_low", Kind::F64, "lower end of the 95 % bootstrap interval over examples, widened for few examples"),
        column("ci_high", Kind::F64, "upper end of the interval"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "loss_summary",
    version: 2,
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
    let losses = response_losses::read(task.parts("losses")?)?;
    let n = losses.examples.len();
    let resamples = Resamples::new(n, params.resamples, params.seed, 0);
    let number = |value: &dyn Fn(&[f64]) -> Option<f64>| -> ArrayRef {
        Arc::new(losses.measures.iter().map(|found| value(found)).collect::<Float64Array>())
    };
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values(MEASURES)),
        Arc::new(UInt32Array::from(vec![n as u32; 3])),
        Arc::new(UInt32Array::from(vec![losses.tokens; 3])),
        number(&|found| finite(mean(found))),
        number(&|found| finite(std(found))),
        number(&|found| resamples.widened_mean_interval(found).map(|interval| interval.low)),
        number(&|found| resamples.widened_mean_interval(found).map(|interval| interval.high)),
    ])?;
    Ok(vec![Output::table(batch)])
}

#[cfg(test)]
mod tests {
    use arrow::array::BooleanArray;

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
        // The percentile interval of two examples is from one to the other; widened by 12.7 / 1.96 * sqrt(2).
        assert_near(numbers(&found, "ci_low")[0], -4.5 - 0.5 * 9.1684, 1e-3);
        assert_near(numbers(&found, "ci_high")[0], -4.5 + 0.5 * 9.1684, 1e-3);
    }

    #[test]
    fn without_response_tokens_there_is_no_mean() {
        let found = summary(&[("a", false, -1.0, 1.0)]);
        assert_eq!(numbers(&found, "n"), [0.0; 3]);
        assert!(numbers(&found, "mean").iter().chain(&numbers(&found, "ci_low")).all(|value| value.is_nan()));
    }
}
