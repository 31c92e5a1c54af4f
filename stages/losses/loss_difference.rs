//! Whether two models find a dataset's responses equally likely: the differences of their losses, example by example.

mod figure;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, RESAMPLES_SETTING, SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::losses::response_losses::{self, COLUMNS, ExampleLosses, MEASURE_ABOUT, Measure, OF_RESPONSE};
use crate::statistics::bootstrap::{RESAMPLES, Resamples};
use crate::statistics::holm::holm;
use crate::statistics::moments::{mean, std};
use crate::statistics::permutation::{PERMUTATIONS, PairFlips};
use crate::table::folders::{DATASET, MODEL_A, MODEL_B};
use crate::table::{Kind, Table, column};

/// `[stages.loss_difference]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    models: Selection,
    datasets: Selection,
    permutations: usize,
    resamples: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            permutations: PERMUTATIONS,
            resamples: RESAMPLES,
            seed: 0,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Params {
    /// The models that the row is about, by their number among the inputs.
    a: usize,
    b: usize,
    permutations: usize,
    resamples: usize,
    seed: u64,
}

const TABLE: Table = Table {
    name: "loss_difference",
    folders: &[DATASET, MODEL_A, MODEL_B],
    columns: &[
        column("measure", Kind::Text, MEASURE_ABOUT),
        column("n", Kind::U32, "number of examples with response tokens under both models"),
        column("mean_a", Kind::F64, "mean over these examples under model_a; null where there is none"),
        column("mean_b", Kind::F64, "the same under model_b"),
        column("difference", Kind::F64, "mean over the examples of model_b's value less model_a's"),
        column("std", Kind::F64, "standard deviation of the examples' differences (divisor n)"),
        column(
            "ci_low",
            Kind::F64,
            "lower end of the difference's 95 % bootstrap interval over examples, widened for few examples",
        ),
        column("ci_high", Kind::F64, "upper end of the interval"),
        column(
            "p_value",
            Kind::F64,
            "two-sided, of a mean difference as large when the two models' labels are exchanged within examples, uncorrected; 1 \
             where the models do not differ",
        ),
        column(
            "p_holm",
            Kind::F64,
            "p_value after Holm's correction over the pairs of models on the dataset, for each measure",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "loss_difference",
    version: 1,
    about: "Differences between two models' losses on the same responses, with intervals and sign-flip tests.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models that are compared, each with each."),
        setting("datasets", "The datasets whose responses are compared."),
        PERMUTATIONS_SETTING,
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
    let models = pipeline.models(&settings.models, "stages.loss_difference.models")?;
    let mut nodes = Vec::new();
    for dataset in pipeline.datasets(&settings.datasets, "stages.loss_difference.datasets")? {
        let input = |(i, name): (usize, &str)| {
            Input::node(role(i), "token_losses", model_dataset(name, &dataset.name)).columns(COLUMNS)
        };
        let inputs: Vec<Input> = models.iter().map(|model| model.name.as_str()).enumerate().map(input).collect();
        for (a, b) in pairs(models.len()) {
            nodes.push(Node {
                stage: STAGE.name,
                bindings: vec![
                    ("dataset", dataset.name.clone()),
                    ("model_a", models[a].name.clone()),
                    ("model_b", models[b].name.clone()),
                ],
                params: json!(Params {
                    a,
                    b,
                    permutations: settings.permutations,
                    resamples: settings.resamples,
                    seed: settings.seed,
                }),
                // All of them: a pair's p-value is corrected for the others.
                inputs: inputs.clone(),
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn role(model: usize) -> String {
    format!("losses/{model}")
}

fn pairs(models: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..models).flat_map(move |a| (a + 1..models).map(move |b| (a, b)))
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let read = |i: usize| response_losses::read(task.parts(&role(i))?);
    let losses: Vec<Vec<ExampleLosses>> = (0..task.inputs.len()).map(read).collect::<Result<_>>()?;
    let all: Vec<(usize, usize)> = pairs(losses.len()).collect();
    let own = all
        .iter()
        .position(|pair| *pair == (params.a, params.b))
        .context("the pair of models is not among the inputs")?;
    // For each pair of models the p-values of the measures.
    let tested: Vec<[Option<f64>; 3]> = all.iter().map(|&(a, b)| p_values(&losses[a], &losses[b], &params)).collect();
    let holm: Vec<Option<f64>> = (0..OF_RESPONSE.len())
        .map(|measure| {
            let family: Vec<f64> = tested.iter().filter_map(|pair| pair[measure]).collect();
            let place = tested[..own].iter().filter(|pair| pair[measure].is_some()).count();
            tested[own][measure].map(|_| holm(&family)[place])
        })
        .collect();
    let [a, b] = joined(&losses[params.a], &losses[params.b]);
    let n = a[0].len();
    let differences: Vec<Vec<f64>> = a.iter().zip(&b).map(|(a, b)| difference(a, b)).collect();
    let resamples = Resamples::new(n, params.resamples, params.seed, 0);
    let intervals: Vec<_> = differences.iter().map(|values| resamples.widened_mean_interval(values)).collect();
    let number = |values: Vec<Option<f64>>| -> ArrayRef {
        Arc::new(values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect::<Float64Array>())
    };
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values(OF_RESPONSE.map(Measure::name))),
        Arc::new(UInt32Array::from(vec![n as u32; OF_RESPONSE.len()])),
        number(a.iter().map(|values| Some(mean(values))).collect()),
        number(b.iter().map(|values| Some(mean(values))).collect()),
        number(differences.iter().map(|values| Some(mean(values))).collect()),
        number(differences.iter().map(|values| Some(std(values))).collect()),
        number(intervals.iter().map(|interval| interval.map(|interval| interval.low)).collect()),
        number(intervals.iter().map(|interval| interval.map(|interval| interval.high)).collect()),
        number(tested[own].to_vec()),
        number(holm),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// The measures of the examples with response tokens that both models have, in the order of the first.
fn joined(a: &[ExampleLosses], b: &[ExampleLosses]) -> [[Vec<f64>; 3]; 2] {
    let having = |losses: &'_ &ExampleLosses| losses.response.tokens > 0;
    let of_b: HashMap<&str, &ExampleLosses> =
        b.iter().filter(having).map(|example| (example.name.as_str(), example)).collect();
    let both: Vec<[&ExampleLosses; 2]> =
        a.iter().filter(having).filter_map(|a| Some([a, *of_b.get(a.name.as_str())?])).collect();
    [0, 1].map(|model| OF_RESPONSE.map(|measure| both.iter().map(|pair| measure.of(pair[model])).collect()))
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| b - a).collect()
}

/// Of each measure; `None` where no example has it under both models.
fn p_values(a: &[ExampleLosses], b: &[ExampleLosses], params: &Params) -> [Option<f64>; 3] {
    let [a, b] = joined(a, b);
    let n = a[0].len();
    let flips = PairFlips::new(n, params.permutations, params.seed, 1);
    std::array::from_fn(|measure| (n > 0).then(|| flips.p_value(&difference(&a[measure], &b[measure]))))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, RecordBatch};

    use super::*;
    use crate::contract::node::Part;
    use crate::statistics::random::Random;
    use crate::testing::tables::{TestTables, assert_near, f32s, numbers, run, text, texts};

    /// One response token for each example.
    fn losses(tables: &TestTables, names: &[String], logprobs: &[f32]) -> Part {
        tables.part(vec![
            ("example", text(names.iter().cloned())),
            ("in_response", Arc::new(names.iter().map(|_| Some(true)).collect::<BooleanArray>())),
            ("logprob", f32s(logprobs.iter().copied())),
            ("entropy", f32s(logprobs.iter().map(|_| 1.0))),
        ])
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("x{i}")).collect()
    }

    fn compared(parts: &[Part], a: usize, b: usize) -> RecordBatch {
        let params = json!({ "a": a, "b": b, "permutations": 399, "resamples": 400, "seed": 0 });
        let roles: Vec<String> = (0..parts.len()).map(role).collect();
        let inputs: Vec<(&str, &[Part])> =
            roles.iter().zip(parts).map(|(role, part)| (role.as_str(), std::slice::from_ref(part))).collect();
        run(&STAGE, params, &inputs).unwrap()
    }

    #[test]
    fn differences_are_between_the_same_examples() {
        let tables = TestTables::new();
        let order = ["b", "c", "a"].map(String::from);
        let parts = [
            losses(&tables, &["a", "b"].map(String::from), &[-1.0, -5.0]),
            losses(&tables, &order, &[-4.0, -9.0, -2.0]),
        ];
        let found = compared(&parts, 0, 1);
        assert_eq!(texts(&found, "measure"), OF_RESPONSE.map(Measure::name));
        let of = |name: &str| numbers(&found, name)[0];
        assert_eq!((of("n"), of("mean_a"), of("mean_b"), of("difference")), (2.0, -3.0, -3.0, 0.0));
        assert_eq!(of("std"), 1.0);
        assert_eq!(numbers(&found, "p_value")[2], 1.0, "equal entropies");
        let apart = compared(&[losses(&tables, &names(2), &[0.0; 2]), losses(&tables, &order, &[0.0; 3])], 0, 1);
        assert_eq!(numbers(&apart, "n")[0], 0.0);
        assert!(["mean_a", "difference", "ci_low", "p_value", "p_holm"].iter().all(|c| numbers(&apart, c)[0].is_nan()));
    }

    #[test]
    fn a_pair_is_corrected_for_the_other_pairs_of_models() {
        let tables = TestTables::new();
        let mut random = Random::new(1, 0);
        let mut model = |shift: f32| {
            let values: Vec<f32> = (0..20).map(|i| shift - i as f32 + 0.1 * random.normal() as f32).collect();
            losses(&tables, &names(20), &values)
        };
        let parts = [model(0.0), model(0.0), model(1.0)];
        let [near, far] = [compared(&parts, 0, 1), compared(&parts, 1, 2)];
        let of = |batch: &RecordBatch, name: &str| numbers(batch, name)[1];
        assert_near(of(&far, "p_value"), 1.0 / 400.0, 1e-12);
        assert_near(of(&far, "p_holm"), 3.0 / 400.0, 1e-12);
        assert!(of(&near, "p_holm") > 0.05 && of(&near, "p_holm") >= of(&near, "p_value"));
        assert_near(of(&far, "difference"), 1.0, 0.15);
        assert!(of(&far, "ci_low") < of(&far, "difference") && of(&far, "difference") < of(&far, "ci_high"));
    }

    #[test]
    fn the_test_and_the_interval_hold_over_simulated_datasets() {
        let tables = TestTables::new();
        let (count, n) = (300, 16);
        let (mut rejected, mut covered) = (0, 0);
        for stream in 0..count {
            let mut random = Random::new(3, stream);
            let text: Vec<f64> = (0..n).map(|_| -5.0 + 3.0 * random.normal()).collect();
            let mut model = |shift: f64| -> Vec<f32> {
                text.iter().map(|value| (value + shift + 0.5 * random.normal()) as f32).collect()
            };
            let parts = [model(0.0), model(0.0), model(0.4)].map(|values| losses(&tables, &names(n), &values));
            rejected += usize::from(numbers(&compared(&parts[..2], 0, 1), "p_value")[1] <= 0.05);
            let shifted = compared(&parts[1..], 0, 1);
            covered += usize::from(numbers(&shifted, "ci_low")[1] <= 0.4 && 0.4 <= numbers(&shifted, "ci_high")[1]);
        }
        let share = |found: usize| found as f64 / count as f64;
        assert!((0.025..=0.08).contains(&share(rejected)), "rejections {}", share(rejected));
        assert!((0.92..=0.98).contains(&share(covered)), "coverage {}", share(covered));
    }
}
