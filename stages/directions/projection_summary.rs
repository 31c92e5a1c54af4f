//! Projections of a model and dataset in one line per layer: mean, spread and interval.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{COMPONENT, KIND, name_arrays};
use crate::directions::projected::{FITTED, FOLDS, projected};
use crate::directions::projection_table::{PROJECTION_COLUMNS, Values, read_projections};
use crate::directions::resampled::{at_once, weighted_sums};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::statistics::box_plot::{self, BOX_COLUMNS};
use crate::statistics::moments::{mean, std};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET, DIRECTION, MODEL, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

/// `[stages.projection_summary]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    resamples: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { resamples: RESAMPLES, seed: 0 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Params {
    resamples: usize,
    seed: u64,
    folds: u32,
    fitted: bool,
}

impl Default for Params {
    fn default() -> Params {
        let Settings { resamples, seed } = Settings::default();
        Params { resamples, seed, folds: 0, fitted: false }
    }
}

const TABLE: Table = Table {
    name: "projection_summary",
    folders: &[DIRECTION, SOURCE, TARGET, MODEL, DATASET],
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        LAYER,
        SITE,
        FOLDS,
        FITTED,
        column("n", Kind::U32, "number of examples with a projection"),
        column("mean", Kind::F64, "mean projection, over all tokens where the position has several of an example"),
        column(
            "std",
            Kind::F64,
            "standard deviation of the projections of examples, or of all their tokens (divisor their number)",
        ),
        CI_LOW,
        CI_HIGH,
        BOX_COLUMNS[0],
        BOX_COLUMNS[1],
        BOX_COLUMNS[2],
        BOX_COLUMNS[3],
        BOX_COLUMNS[4],
        BOX_COLUMNS[5],
        BOX_COLUMNS[6],
    ],
};

pub static STAGE: Stage = Stage {
    name: "projection_summary",
    version: 3,
    about: "Mean, spread and bootstrap interval of a model's projections on a direction, per layer.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[RESAMPLES_SETTING, SEED_SETTING],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let mut nodes = Vec::new();
    for projected in projected(&pipeline.section("projections")?, pipeline)? {
        for model in &projected.models {
            let bindings = projected.bindings(model);
            let projections = Input::node("projections", "projections", bindings.clone());
            nodes.push(Node {
                stage: STAGE.name,
                bindings,
                params: json!(Params {
                    resamples: settings.resamples,
                    seed: settings.seed,
                    folds: projected.folds,
                    fitted: projected.fitted(),
                }),
                inputs: vec![projections.columns(PROJECTION_COLUMNS)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let Params { resamples, seed, folds, fitted } = task.params()?;
    let curves: Vec<_> = read_projections(task.parts("projections")?)?.into_iter().collect();
    let values: Vec<&Values> = curves.iter().map(|(_, curve)| curve).collect();
    let intervals = intervals(&values, resamples, seed);
    let there: Vec<Vec<f64>> = values.iter().map(|values| there(values)).collect();

    let mut places = PlaceColumns::default();
    let mut names = Vec::new();
    for ((name, place), _) in &curves {
        names.push(*name);
        places.push(place);
    }
    let [kinds, components] = name_arrays(&names);
    let [positions, layers, sites] = places.arrays();
    let each = |statistic: fn(&[f64]) -> f64| -> ArrayRef {
        Arc::new(there.iter().map(|values| Some(statistic(values)).filter(|x| x.is_finite())).collect::<Float64Array>())
    };
    let mut arrays: Vec<ArrayRef> = vec![
        kinds,
        components,
        positions,
        layers,
        sites,
        Arc::new(UInt32Array::from(vec![folds; curves.len()])),
        Arc::new(BooleanArray::from(vec![fitted; curves.len()])),
        Arc::new(UInt32Array::from_iter_values(values.iter().map(|values| examples_there(values) as u32))),
        each(mean),
        each(std),
        Arc::new(intervals.iter().map(|found| found.map(|found| found.low)).collect::<Float64Array>()),
        Arc::new(intervals.iter().map(|found| found.map(|found| found.high)).collect::<Float64Array>()),
    ];
    arrays.extend(box_plot::arrays(there.iter().map(Vec::as_slice)));
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}

fn there(values: &Values) -> Vec<f64> {
    values.values.iter().copied().filter(|value| value.is_finite()).collect()
}

fn examples_there(values: &Values) -> usize {
    values.rows().filter(|row| row.iter().any(|value| value.is_finite())).count()
}

/// The interval of each mean over all of an example's tokens; examples are drawn again, and all sets of as many examples
/// together. NaN is a value that is not there.
fn intervals(values: &[&Values], count: usize, seed: u64) -> Vec<Option<Interval>> {
    let resamples = Resamples::by_size(values.iter().map(|values| values.examples.len()), count, seed);
    let mut found = vec![None; values.len()];
    for (size, resamples) in resamples {
        let here: Vec<usize> = (0..values.len()).filter(|&row| values[row].examples.len() == size).collect();
        // Two columns for each set of values: how many of an example are there, and the sum of their distances from the
        // first that is.
        let centre = |row: usize| values[row].values.iter().copied().find(|value| value.is_finite()).unwrap_or(0.0);
        let column = |row: usize| {
            let centre = centre(row);
            let finite = |row: &'_ [f64]| row.iter().copied().filter(|value| value.is_finite()).collect::<Vec<f64>>();
            let there = values[row].rows().map(move |row| finite(row).len() as f64);
            let sum = move |row: &[f64]| finite(row).iter().map(|value| value - centre).sum::<f64>();
            there.chain(values[row].rows().map(sum))
        };
        let columns: Vec<f64> = here.iter().flat_map(|&row| column(row)).collect();
        let mut sums = Vec::new();
        resamples.counts(at_once(size), |weights| sums.extend(weighted_sums(weights, &columns, size)));
        let of_column =
            |place: usize| sums.chunks_exact(2 * here.len()).map(move |row| row[2 * place + 1] / row[2 * place]);
        for (place, &row) in here.iter().enumerate() {
            let centre = centre(row);
            let interval = Interval::of(of_column(place).map(|mean| centre + mean).collect());
            found[row] =
                interval.map(|interval| interval.widened(mean(&there(values[row])), examples_there(values[row])));
        }
    }
    found
}
