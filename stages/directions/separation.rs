//! How far two models' projections on a direction lie apart: the separation score of Giordani 2025
//! (arXiv:2507.03662), its interval, and a paired test corrected over the layers.

mod figure;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, RESAMPLES_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{COMPONENT, DirectionName, KIND, name_arrays};
use crate::directions::projected::projected;
use crate::directions::projection_table::{PROJECTION_COLUMNS, read_projections};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::Place;
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::statistics::effect_size::{cohens_d, separation_score};
use crate::statistics::holm::holm;
use crate::statistics::moments::mean;
use crate::statistics::permutation::{PERMUTATIONS, PairFlips};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET, DIRECTION, MODEL_A, MODEL_B, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

/// `[stages.separation]`, and the parameters of its tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    resamples: usize,
    permutations: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { resamples: RESAMPLES, permutations: PERMUTATIONS, seed: 0 }
    }
}

const TABLE: Table = Table {
    name: "separation",
    folders: &[DIRECTION, SOURCE, TARGET, DATASET, MODEL_A, MODEL_B],
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        LAYER,
        SITE,
        column("n", Kind::U32, "number of examples, the same under both models"),
        column("difference", Kind::F64, "mean projection under model_b minus that under model_a"),
        column("score", Kind::F64, "(mean_b - mean_a) / (std_a + std_b); null where both spreads are rounding"),
        CI_LOW,
        CI_HIGH,
        column("cohens_d", Kind::F64, "difference over the pooled standard deviation; null where that is 0"),
        column("p_value", Kind::F64, "paired permutation test of the difference, two-sided"),
        column("p_holm", Kind::F64, "p_value corrected over the layers of this direction and position (Holm)"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "separation",
    version: 1,
    about: "Separation score of two models' projections on a direction, per layer, with interval and paired test.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[RESAMPLES_SETTING, PERMUTATIONS_SETTING, SEED_SETTING],
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
        for (a, b) in projected.model_pairs() {
            let input = |role: &str, model: &str| {
                Input::node(role, "projections", projected.bindings(model)).columns(PROJECTION_COLUMNS)
            };
            nodes.push(Node {
                stage: STAGE.name,
                bindings: projected.comparison(a, b),
                params: json!(settings),
                inputs: vec![input("a", a), input("b", b)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let settings: Settings = task.params()?;
    let a = read_projections(task.parts("a")?).context("projections of model a")?;
    let mut b = read_projections(task.parts("b")?).context("projections of model b")?;
    let mut curves = Vec::new();
    for ((name, place), a) in a {
        let Some(b) = b.remove(&(name, place.clone())) else {
            bail!("model b has no projections on {} {} at {place}", name.kind.name(), name.component)
        };
        let b = a.aligned(&b).with_context(|| format!("projections of models a and b at {place}"))?;
        curves.push(Curve { name, place, a: a.values, b });
    }
    if let Some((name, place)) = b.keys().next() {
        bail!("model a has no projections on {} {} at {place}", name.kind.name(), name.component)
    }
    let resamples = Resamples::by_size(curves.iter().map(|curve| curve.a.len()), settings.resamples, settings.seed);
    let flips: BTreeMap<usize, PairFlips> =
        resamples.keys().map(|&n| (n, PairFlips::new(n, settings.permutations, settings.seed, 1))).collect();
    let separation = |curve: &Curve| curve.separation(&resamples[&curve.a.len()], &flips[&curve.a.len()]);
    let found: Vec<Found> = curves.par_iter().map(separation).collect();
    let corrected = corrected(&curves, &found);

    let mut places = PlaceColumns::default();
    curves.iter().for_each(|curve| places.push(&curve.place));
    let [kinds, components] = name_arrays(&curves.iter().map(|curve| curve.name).collect::<Vec<_>>());
    let [positions, layers, sites] = places.arrays();
    let each =
        |value: fn(&Found) -> Option<f64>| -> ArrayRef { Arc::new(found.iter().map(value).collect::<Float64Array>()) };
    let batch = TABLE.batch(vec![
        kinds,
        components,
        positions,
        layers,
        sites,
        Arc::new(UInt32Array::from_iter_values(curves.iter().map(|curve| curve.a.len() as u32))),
        each(|found| Some(found.difference)),
        each(|found| found.score),
        each(|found| found.interval.map(|interval| interval.low)),
        each(|found| found.interval.map(|interval| interval.high)),
        each(|found| found.cohens_d),
        each(|found| Some(found.p_value)),
        Arc::new(Float64Array::from(corrected)),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// Two models' projections of the same examples at one place.
struct Curve {
    name: DirectionName,
    place: Place,
    a: Vec<f64>,
    b: Vec<f64>,
}

struct Found {
    difference: f64,
    score: Option<f64>,
    interval: Option<Interval>,
    cohens_d: Option<f64>,
    p_value: f64,
}

impl Curve {
    fn separation(&self, resamples: &Resamples, flips: &PairFlips) -> Found {
        let differences: Vec<f64> = self.a.iter().zip(&self.b).map(|(a, b)| b - a).collect();
        let score = separation_score(&self.a, &self.b);
        // Both models saw the same examples, so an example is drawn for both at once.
        let resampled = |draw: &[u32]| {
            let drawn = |values: &[f64]| draw.iter().map(|&index| values[index as usize]).collect::<Vec<_>>();
            separation_score(&drawn(&self.a), &drawn(&self.b)).unwrap_or(f64::NAN)
        };
        Found {
            difference: mean(&differences),
            score,
            interval: score.and_then(|_| resamples.interval(resampled)),
            cohens_d: cohens_d(&self.a, &self.b),
            p_value: flips.p_value(&differences),
        }
    }
}

/// The p-values corrected over the places of each direction and position.
fn corrected(curves: &[Curve], found: &[Found]) -> Vec<f64> {
    let mut corrected = vec![1.0; curves.len()];
    let family = |row: usize| (curves[row].name, &curves[row].place.position);
    let mut start = 0;
    while start < curves.len() {
        let end = (start..curves.len()).find(|&row| family(row) != family(start)).unwrap_or(curves.len());
        let p_values: Vec<f64> = found[start..end].iter().map(|found| found.p_value).collect();
        corrected[start..end].copy_from_slice(&holm(&p_values));
        start = end;
    }
    corrected
}
