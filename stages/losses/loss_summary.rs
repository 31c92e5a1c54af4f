//! How likely a model finds a dataset's responses: joint log-probability and entropy, in one line each.

mod figure;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::losses::response_losses::{self, COLUMNS, ExampleLosses, Measure, OF_RESPONSE};
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
    measures: Vec<Measure>,
    resamples: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            measures: usual(),
            resamples: RESAMPLES,
            seed: 0,
        }
    }
}

fn usual() -> Vec<Measure> {
    OF_RESPONSE.to_vec()
}

fn is_usual(measures: &[Measure]) -> bool {
    measures == usual()
}

#[derive(Debug, Serialize, Deserialize)]
struct Params {
    #[serde(default = "usual", skip_serializing_if = "is_usual")]
    measures: Vec<Measure>,
    resamples: usize,
    seed: u64,
}

const TABLE: Table = Table {
    name: "loss_summary",
    folders: &[MODEL, DATASET],
    columns: &[
        column(
            "measure",
            Kind::Text,
            "per example over the response's tokens: joint_logprob (sum of log-probabilities), logprob (their mean) or \
             entropy (mean entropy of the distributions), in nats; with _with_end over the response and the tokens that end \
             its turn, with _all over every token but the first",
        ),
        column("n", Kind::U32, "number of examples that have such tokens"),
        column("tokens", Kind::U32, "number of such tokens of all of them"),
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
        setting(
            "measures",
            "What is summarised: \"joint_logprob\", \"logprob\" and \"entropy\" of the response, \"joint_logprob_with_end\" (the \
             tokens after it too, which end its turn), \"joint_logprob_all\", \"logprob_all\" and \"entropy_all\" (every token \
             of the conversation but the first).",
        ),
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
    if settings.measures.is_empty() {
        return Err(PlanError::new("stages.loss_summary.measures", "measures is empty"));
    }
    if let Some(i) = (1..settings.measures.len()).find(|&i| settings.measures[..i].contains(&settings.measures[i])) {
        let message = format!("the measure \"{}\" is there twice", settings.measures[i].name());
        return Err(PlanError::new(at("stages.loss_summary.measures").index(i), message));
    }
    let mut nodes = Vec::new();
    for model in pipeline.models(&settings.models, "stages.loss_summary.models")? {
        for dataset in pipeline.datasets(&settings.datasets, "stages.loss_summary.datasets")? {
            let bindings = model_dataset(&model.name, &dataset.name);
            nodes.push(Node {
                stage: STAGE.name,
                bindings: bindings.clone(),
                params: json!(Params {
                    measures: settings.measures.clone(),
                    resamples: settings.resamples,
                    seed: settings.seed,
                }),
                inputs: vec![Input::node("losses", "token_losses", bindings).columns(COLUMNS)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let examples = response_losses::read(task.parts("losses")?)?;
    let of_measure = |measure: &Measure| -> Vec<f64> {
        let having = examples.iter().filter(|example| measure.sums(example).tokens > 0);
        having.map(|example| measure.of(example)).collect()
    };
    let values: Vec<Vec<f64>> = params.measures.iter().map(of_measure).collect();
    let resamples = Resamples::by_size(values.iter().map(Vec::len), params.resamples, params.seed);
    let rows = params.measures.iter().zip(values);
    let rows: Vec<Row> = rows.map(|(measure, values)| Row::new(*measure, &examples, values, &resamples)).collect();
    let count = |of: fn(&Row) -> u32| -> ArrayRef { Arc::new(rows.iter().map(of).map(Some).collect::<UInt32Array>()) };
    let number = |of: fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).filter(|value| value.is_finite())).collect::<Float64Array>())
    };
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values(params.measures.iter().map(|measure| measure.name()))),
        count(|row| row.values.len() as u32),
        count(|row| row.tokens),
        number(|row| Some(mean(&row.values))),
        number(|row| Some(std(&row.values))),
        number(|row| row.interval.map(|(low, _)| low)),
        number(|row| row.interval.map(|(_, high)| high)),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// A measure of the examples that have tokens for it.
struct Row {
    values: Vec<f64>,
    tokens: u32,
    interval: Option<(f64, f64)>,
}

impl Row {
    fn new(
        measure: Measure,
        examples: &[ExampleLosses],
        values: Vec<f64>,
        resamples: &BTreeMap<usize, Resamples>,
    ) -> Row {
        let tokens = examples.iter().map(|example| measure.sums(example).tokens).sum();
        let interval = resamples.get(&values.len()).and_then(|resamples| resamples.widened_mean_interval(&values));
        Row { values, tokens, interval: interval.map(|interval| (interval.low, interval.high)) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::BooleanArray;

    use super::*;
    use crate::testing::tables::{TestTables, assert_near, f32s, numbers, run, text, texts};

    fn summary(rows: &[(&str, bool, f32, f32)]) -> arrow::array::RecordBatch {
        summary_of(rows, json!({ "resamples": 500, "seed": 0 }))
    }

    fn summary_of(rows: &[(&str, bool, f32, f32)], params: Value) -> arrow::array::RecordBatch {
        let tables = TestTables::new();
        let losses = tables.part(vec![
            ("example", text(rows.iter().map(|row| row.0))),
            ("in_response", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<BooleanArray>())),
            ("logprob", f32s(rows.iter().map(|row| row.2))),
            ("entropy", f32s(rows.iter().map(|row| row.3))),
        ]);
        run(&crate::losses::loss_summary::STAGE, params, &[("losses", &[losses])]).unwrap()
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
    fn the_end_of_the_turn_and_all_tokens_are_measures_of_their_own() {
        let measures = ["joint_logprob_with_end", "joint_logprob_all", "logprob_all", "entropy_all"];
        let rows = [
            ("a", false, -9.0, 9.0),
            ("a", true, -1.0, 0.5),
            ("a", true, -3.0, 1.5),
            ("a", false, -0.5, 1.0),
            ("a", false, -0.25, 0.0),
            ("b", true, -5.0, 2.0),
            ("c", false, -7.0, 7.0),
        ];
        let found = summary_of(&rows, json!({ "measures": measures, "resamples": 500, "seed": 0 }));
        assert_eq!(texts(&found, "measure"), measures);
        // With the end: a -4.75, b -5. All: a -13.75 of 5 tokens, b -5, c -7; entropies 12 / 5, 2 and 7.
        let expected = [-4.875, -25.75 / 3.0, (-13.75 / 5.0 - 12.0) / 3.0, (12.0 / 5.0 + 9.0) / 3.0];
        expected.iter().zip(numbers(&found, "mean")).for_each(|(expected, found)| assert_near(found, *expected, 1e-12));
        assert_eq!(numbers(&found, "n"), [2.0, 3.0, 3.0, 3.0]);
        assert_eq!(numbers(&found, "tokens"), [5.0, 7.0, 7.0, 7.0]);
    }

    #[test]
    fn without_response_tokens_there_is_no_mean() {
        let found = summary(&[("a", false, -1.0, 1.0)]);
        assert_eq!(numbers(&found, "n"), [0.0; 3]);
        assert!(numbers(&found, "mean").iter().chain(&numbers(&found, "ci_low")).all(|value| value.is_nan()));
    }
}
