//! How far two datasets' mean hidden states lie apart within one model, per layer.

mod figure;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{gram, products};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable};
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET_A, DATASET_B, MODEL};
use crate::table::{Kind, Table, column};

/// `[stages.distance]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    models: Selection,
    datasets: Selection,
    positions: Vec<String>,
    resamples: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            positions: vec!["last".into()],
            resamples: RESAMPLES,
            seed: 0,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Params {
    positions: Vec<String>,
    resamples: usize,
    seed: u64,
}

const TABLE: Table = Table {
    name: "distance",
    folders: &[MODEL, DATASET_A, DATASET_B],
    columns: &[
        POSITION,
        LAYER,
        SITE,
        column("n_a", Kind::U32, "number of examples of dataset_a"),
        column("n_b", Kind::U32, "number of examples of dataset_b"),
        column("cosine_distance", Kind::F64, "1 - cosine of the two mean hidden states; null where one is 0"),
        CI_LOW,
        CI_HIGH,
    ],
};

pub static STAGE: Stage = Stage {
    name: "distance",
    version: 1,
    about: "Cosine distance between two datasets' mean hidden states within one model, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models whose states are compared."),
        setting("datasets", "The datasets that are compared, each with each."),
        setting("positions", "The positions of hidden_states to compare."),
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
    if settings.positions.is_empty() {
        return Err(PlanError::new("stages.distance.positions", "positions is empty"));
    }
    let params = Params { positions: settings.positions, resamples: settings.resamples, seed: settings.seed };
    let datasets = pipeline.datasets(&settings.datasets, "stages.distance.datasets")?;
    let mut nodes = Vec::new();
    for model in pipeline.models(&settings.models, "stages.distance.models")? {
        let input = |role: &str, dataset: &str| {
            Input::node(role, "hidden_states", model_dataset(&model.name, dataset)).columns(STATE_COLUMNS)
        };
        for (i, a) in datasets.iter().enumerate() {
            for b in &datasets[i + 1..] {
                nodes.push(Node {
                    stage: STAGE.name,
                    bindings: vec![
                        ("model", model.name.clone()),
                        ("dataset_a", a.name.clone()),
                        ("dataset_b", b.name.clone()),
                    ],
                    params: json!(params),
                    inputs: vec![input("a", &a.name), input("b", &b.name)],
                    per_part: None,
                });
            }
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let a = StateTable::open(task.parts("a")?).context("states of dataset a")?;
    let b = StateTable::open(task.parts("b")?).context("states of dataset b")?;
    let places = a.places_at(&params.positions)?;
    let found: Vec<Found> = places.par_iter().map(|place| distance(&a, &b, place, &params)).collect::<Result<_>>()?;
    let mut columns = PlaceColumns::default();
    places.iter().for_each(|place| columns.push(place));
    let [positions, layers, sites] = columns.arrays();
    let number =
        |value: fn(&Found) -> Option<f64>| -> ArrayRef { Arc::new(found.iter().map(value).collect::<Float64Array>()) };
    let count = |value: fn(&Found) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(found.iter().map(|found| value(found) as u32)))
    };
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        count(|found| found.n_a),
        count(|found| found.n_b),
        number(|found| Some(found.distance).filter(|distance| distance.is_finite())),
        number(|found| found.interval.map(|interval| interval.low)),
        number(|found| found.interval.map(|interval| interval.high)),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Found {
    n_a: usize,
    n_b: usize,
    distance: f64,
    interval: Option<Interval>,
}

/// The squared length of the mean and the mean's inner products need only the Gram matrices, which makes a
/// resample a matter of n^2 products instead of n D.
fn distance(a: &StateTable, b: &StateTable, place: &Place, params: &Params) -> Result<Found> {
    let (a, b) = (a.load(place).context("dataset a")?, b.load(place).context("dataset b")?);
    if a.width != b.width {
        bail!("the states of dataset a have {} numbers, those of dataset b {}", a.width, b.width);
    }
    let (n_a, n_b) = (a.examples.len(), b.examples.len());
    let within_a = gram(&a.values, a.width);
    let within_b = gram(&b.values, b.width);
    let between = products(&a.values, &b.values, a.width);
    let cosine_distance = |weights_a: &[f64], weights_b: &[f64]| {
        let lengths = form(&within_a, weights_a, weights_a) * form(&within_b, weights_b, weights_b);
        1.0 - form(&between, weights_a, weights_b) / lengths.sqrt()
    };
    let drawn_a = Resamples::new(n_a, params.resamples, params.seed, 0);
    let drawn_b = Resamples::new(n_b, params.resamples, params.seed, 1);
    let resampled = drawn_a.counts().zip(drawn_b.counts()).map(|(a, b)| cosine_distance(&a, &b)).collect();
    Ok(Found {
        n_a,
        n_b,
        distance: cosine_distance(&vec![1.0; n_a], &vec![1.0; n_b]),
        interval: Interval::of(resampled),
    })
}

/// The bilinear form u^T M v of a row-major matrix.
fn form(matrix: &[f64], u: &[f64], v: &[f64]) -> f64 {
    let rows = matrix.chunks_exact(v.len()).zip(u).filter(|(_, u)| **u != 0.0);
    rows.map(|(row, u)| u * row.iter().zip(v).map(|(value, v)| value * v).sum::<f64>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::node::Part;
    use crate::testing::tables::{TestTables, assert_near, golden, numbers, run};

    fn distances(a: Part, b: Part) -> arrow::array::RecordBatch {
        let params = json!({ "positions": ["last"], "resamples": 200, "seed": 0 });
        run(&crate::states::distance::STAGE, params, &[("a", &[a]), ("b", &[b])]).unwrap()
    }

    #[test]
    fn agrees_with_numpy() {
        let (tables, golden) = (TestTables::new(), golden());
        let states = |dataset: &str| tables.golden_states(&golden, "instruct", dataset);
        let found = distances(states("x"), states("y"));
        let expected = golden["distance"].as_array().unwrap();
        assert_eq!((found.num_rows(), numbers(&found, "n_b")[0]), (expected.len(), 5.0));
        for (row, expected) in expected.iter().enumerate() {
            let of = |name: &str| numbers(&found, name)[row];
            assert_near(of("cosine_distance"), expected.as_f64().unwrap(), 1e-12);
            assert!(of("ci_low") < of("ci_high"));
        }
        let same = distances(states("x"), states("x"));
        assert!(numbers(&same, "cosine_distance").iter().all(|distance| distance.abs() < 1e-12));
    }

    #[test]
    fn a_mean_of_zero_has_no_direction() {
        let tables = TestTables::new();
        let zero = tables.hidden_states(&["a"], &["last"], 0, false, |_, _, _| vec![0.0, 0.0]);
        let one = tables.hidden_states(&["a"], &["last"], 0, false, |_, _, _| vec![1.0, 0.0]);
        let found = distances(zero, one);
        assert!(numbers(&found, "cosine_distance")[0].is_nan() && numbers(&found, "ci_low")[0].is_nan());
    }
}
