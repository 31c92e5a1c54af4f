//! How far two models' projections on a direction lie apart: the separation score of Giordani 2025
//! (arXiv:2507.03662), its interval, and a paired test corrected over the layers.

mod exchanges;
mod family;
mod figure;
mod refit;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::exchanges::{Exchanges, Sums};
use self::family::{Tested, test_family, varies};
use crate::contract::node::{Alike, Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{
    COMPONENT, DirectionKind, DirectionName, FITTED_COLUMNS, Fitted, Folds, KIND, name_arrays, read_fitted,
};
use crate::directions::fold::fold;
use crate::directions::projected::{FITTED, FOLDS, projected};
use crate::directions::projection_table::{PROJECTION_COLUMNS, read_projections, row_means};
use crate::directions::resampled::signed_sums;
use crate::directions::settings;
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable, States};
use crate::statistics::bootstrap::Interval;
use crate::statistics::effect_size::{cohens_d, separation_interval, separation_score};
use crate::statistics::moments::mean;
use crate::statistics::permutation::{PERMUTATIONS, PairFlips};
use crate::table::folders::{DATASET, DIRECTION, MODEL_A, MODEL_B, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

/// `[stages.separation]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    permutations: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { permutations: PERMUTATIONS, seed: 0 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Params {
    permutations: usize,
    seed: u64,
    folds: u32,
    fitted: bool,
    /// See [`Projected::moved`](crate::directions::projected::Projected::moved).
    moved: f64,
}

impl Default for Params {
    fn default() -> Params {
        let Settings { permutations, seed } = Settings::default();
        Params { permutations, seed, folds: 0, fitted: false, moved: 0.0 }
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
        FOLDS,
        FITTED,
        column("n", Kind::U32, "number of examples, the same under both models"),
        column("difference", Kind::F64, "mean projection under model_b minus that under model_a"),
        column(
            "difference_low",
            Kind::F64,
            "lower end of the 95 % band of the difference, for all layers of this direction and position at once: it leaves out 0 \
             where p_max is at most 0.05. Null where the differences have no spread or the examples are too few",
        ),
        column(
            "difference_high",
            Kind::F64,
            "upper end of that band. Between the direction's own source and target it is wider than it need be, since it allows \
             for there being no direction",
        ),
        column(
            "score",
            Kind::F64,
            "(mean_b - mean_a) / (std_a + std_b), the standard deviations over the examples, or over all their tokens where the \
             position has several of an example, with their number as divisor; null where both are rounding",
        ),
        column(
            "ci_low",
            Kind::F64,
            "lower end of the 95 % jackknife interval of the score over examples, the directions as they are; null below three. It \
             covers 0.82 to 0.93 where source and target do not differ, since the direction is noise then: see p_value first",
        ),
        column("ci_high", Kind::F64, "upper end of that interval"),
        column(
            "cohens_d",
            Kind::F64,
            "difference over the pooled standard deviation of the same values (divisor their number - 2); null where that is 0",
        ),
        column(
            "p_value",
            Kind::F64,
            "paired permutation test of the difference, two-sided, not corrected; where model_a or model_b is the direction's \
             source or target, the direction is found again for every permutation. Null where the differences have no spread",
        ),
        column("p_holm", Kind::F64, "p_value corrected over the layers of this direction and position (Holm)"),
        column(
            "p_max",
            Kind::F64,
            "p-value corrected over the same layers by the largest statistic (Westfall and Young), which loses less where layers \
             are alike",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "separation",
    version: 2,
    about: "Separation score of two models' projections on a direction, per layer, with interval and paired test.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[PERMUTATIONS_SETTING, SEED_SETTING],
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
            let states = |role: &str, model: &str| {
                let states = Input::node(role, "hidden_states", model_dataset(model, &projected.dataset));
                states.columns(STATE_COLUMNS).alike(Alike::States)
            };
            let mut inputs = vec![input("a", a), input("b", b)];
            let moved = projected.moved(a, b);
            if moved != 0.0 {
                let directions = settings::bindings(&projected.direction, &projected.pair);
                inputs.push(Input::node("direction", "directions", directions).columns(FITTED_COLUMNS));
                inputs.extend([states("states_a", a), states("states_b", b)]);
            }
            nodes.push(Node {
                stage: STAGE.name,
                bindings: projected.comparison(a, b),
                params: json!(Params {
                    permutations: settings.permutations,
                    seed: settings.seed,
                    folds: projected.folds,
                    fitted: projected.fitted(),
                    moved,
                }),
                inputs,
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let curves = curves(task, params.folds)?;
    let scores: Vec<Option<Interval>> = curves.iter().map(Curve::interval).collect();
    let tested = tested(task, &curves, &params)?;

    let mut places = PlaceColumns::default();
    curves.iter().for_each(|curve| places.push(&curve.place));
    let [kinds, components] = name_arrays(&curves.iter().map(|curve| curve.name).collect::<Vec<_>>());
    let [positions, layers, sites] = places.arrays();
    let numbers = |values: Vec<Option<f64>>| -> ArrayRef {
        Arc::new(values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect::<Float64Array>())
    };
    let of_curve = |value: fn(&Curve) -> Option<f64>| numbers(curves.iter().map(value).collect());
    let of_score =
        |value: fn(&Interval) -> f64| numbers(scores.iter().map(|found| found.as_ref().map(value)).collect());
    let of_test = |value: fn(&Tested) -> Option<f64>| numbers(tested.iter().map(value).collect());
    let band = |sign: f64| {
        let end = |(curve, tested): (&Curve, &Tested)| Some(curve.difference() + sign * tested.half_width?);
        numbers(curves.iter().zip(&tested).map(end).collect())
    };
    let batch = TABLE.batch(vec![
        kinds,
        components,
        positions,
        layers,
        sites,
        Arc::new(UInt32Array::from(vec![params.folds; curves.len()])),
        Arc::new(BooleanArray::from(vec![params.fitted; curves.len()])),
        Arc::new(UInt32Array::from_iter_values(curves.iter().map(|curve| curve.there().0.len() as u32))),
        of_curve(|curve| Some(curve.difference())),
        band(-1.0),
        band(1.0),
        of_curve(Curve::score),
        of_score(|interval| interval.low),
        of_score(|interval| interval.high),
        of_curve(Curve::cohens_d),
        of_test(|tested| tested.p_value),
        of_test(|tested| tested.p_holm),
        of_test(|tested| tested.p_max),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// Two models' projections of the same examples at one place, in the order of the examples' folds. NaN where the fold has no
/// such direction.
struct Curve {
    name: DirectionName,
    place: Place,
    examples: Vec<String>,
    /// Of each example, the mean over its tokens: what is exchanged as a whole.
    a: Vec<f64>,
    b: Vec<f64>,
    tokens: usize,
    /// Row-major [examples, tokens].
    tokens_a: Vec<f64>,
    tokens_b: Vec<f64>,
}

impl Curve {
    /// The values that are there.
    fn there(&self) -> (Vec<f64>, Vec<f64>) {
        both_finite(&self.a, &self.b)
    }

    /// Those of every token. Those of an example are all there or none.
    fn tokens_there(&self) -> (Vec<f64>, Vec<f64>) {
        both_finite(&self.tokens_a, &self.tokens_b)
    }

    fn differences(&self) -> Vec<f64> {
        let (a, b) = self.there();
        a.iter().zip(&b).map(|(a, b)| b - a).collect()
    }

    fn difference(&self) -> f64 {
        mean(&self.differences())
    }

    fn score(&self) -> Option<f64> {
        let (a, b) = self.tokens_there();
        separation_score(&a, &b)
    }

    fn interval(&self) -> Option<Interval> {
        let (a, b) = self.tokens_there();
        separation_interval(&a, &b, self.tokens)
    }

    fn cohens_d(&self) -> Option<f64> {
        let (a, b) = self.tokens_there();
        cohens_d(&a, &b)
    }
}

fn both_finite(a: &[f64], b: &[f64]) -> (Vec<f64>, Vec<f64>) {
    a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite()).unzip()
}

/// The curves of both models, ordered by direction and place.
fn curves(task: &Task, folds: u32) -> Result<Vec<Curve>> {
    let a = read_projections(task.parts("a")?).context("projections of model a")?;
    let mut b = read_projections(task.parts("b")?).context("projections of model b")?;
    let mut curves: Vec<Curve> = Vec::new();
    for ((name, place), a) in a {
        let Some(b) = b.remove(&(name, place.clone())) else {
            bail!("model b has no projections on {} {} at {place}", name.kind.name(), name.component)
        };
        let b = a.aligned(&b).with_context(|| format!("projections of models a and b at {place}"))?;
        let mut order: Vec<usize> = (0..a.examples.len()).collect();
        order.sort_by_key(|&row| (fold(&a.examples[row], folds), row));
        let tokens = a.tokens;
        let ordered = |values: &[f64]| -> Vec<f64> {
            order.iter().flat_map(|row| &values[row * tokens..(row + 1) * tokens]).copied().collect()
        };
        let (tokens_a, tokens_b) = (ordered(&a.values), ordered(&b));
        let curve = Curve {
            name,
            examples: order.iter().map(|&row| a.examples[row].clone()).collect(),
            a: row_means(&tokens_a, tokens),
            b: row_means(&tokens_b, tokens),
            tokens,
            tokens_a,
            tokens_b,
            place,
        };
        if let Some(last) = curves.last().filter(|last| last.place.position == curve.place.position) {
            ensure!(last.examples == curve.examples, "{} and {} have different examples", last.place, curve.place);
        }
        curves.push(curve);
    }
    if let Some((name, place)) = b.keys().next() {
        bail!("model a has no projections on {} {} at {place}", name.kind.name(), name.component)
    }
    Ok(curves)
}

/// The tests of every curve, corrected over the places of each direction and position.
fn tested(task: &Task, curves: &[Curve], params: &Params) -> Result<Vec<Tested>> {
    let mut signs: BTreeMap<&[String], Exchanges> = BTreeMap::new();
    for curve in curves {
        let examples = curve.examples.len();
        signs.entry(curve.examples.as_slice()).or_insert_with(|| {
            let flips = PairFlips::new(examples, params.permutations, params.seed, 1);
            // The first row leaves every example as it was observed.
            let signs = std::iter::repeat_n(1, examples).chain(flips.signs().iter().copied()).collect();
            Exchanges { signs, folds: curve.examples.iter().map(|example| fold(example, params.folds)).collect() }
        });
    }
    let refitted = match params.moved == 0.0 {
        true => None,
        false => Some(Refitted::open(task, params.moved)?),
    };
    let mut places: BTreeMap<&Place, Vec<usize>> = BTreeMap::new();
    curves.iter().enumerate().for_each(|(row, curve)| places.entry(&curve.place).or_default().push(row));
    let found = places.par_iter().map(|(_, rows)| -> Result<Vec<(usize, Sums)>> {
        if (task.cancelled)() {
            bail!("cancelled");
        }
        let tested = |row: &usize| {
            let (a, b) = curves[*row].there();
            varies(&a, &b)
        };
        let rows: Vec<usize> = rows.iter().copied().filter(tested).collect();
        let Some(first) = rows.first().map(|row| &curves[*row]) else { return Ok(Vec::new()) };
        let exchanges = &signs[first.examples.as_slice()];
        let Some(refitted) = &refitted else {
            return Ok(rows.into_iter().map(|row| (row, fixed(&curves[row], exchanges))).collect());
        };
        let differences = refitted.differences(first)?;
        let sums = rows.into_iter().map(|row| Ok((row, refitted.sums(&curves[row], exchanges, &differences)?)));
        sums.collect()
    });
    let found: Vec<Vec<(usize, Sums)>> = found.collect::<Result<_>>()?;
    let mut sums: Vec<Option<Sums>> = curves.iter().map(|_| None).collect();
    found.into_iter().flatten().for_each(|(row, found)| sums[row] = Some(found));
    let layers: Vec<(Vec<f64>, Option<Sums>)> =
        curves.iter().zip(sums).map(|(curve, sums)| (curve.differences(), sums)).collect();
    let family = |row: usize| (curves[row].name, &curves[row].place.position);
    let mut found = Vec::new();
    while found.len() < curves.len() {
        let start = found.len();
        let end = (start..curves.len()).find(|&row| family(row) != family(start)).unwrap_or(curves.len());
        found.extend(test_family(&layers[start..end]));
    }
    Ok(found)
}

/// Along directions that stay as they are: a sign for each projected difference.
fn fixed(curve: &Curve, exchanges: &Exchanges) -> Sums {
    let difference = |(a, b): (&f64, &f64)| if (b - a).is_finite() { b - a } else { 0.0 };
    let differences: Vec<f64> = curve.a.iter().zip(&curve.b).map(difference).collect();
    let square = differences.iter().map(|value| value * value).sum();
    let sums = signed_sums(&exchanges.signs, &differences, differences.len());
    Sums { squares: vec![square; sums.len()], sums }
}

/// What a test reads that finds the direction again.
struct Refitted {
    a: StateTable,
    b: StateTable,
    directions: BTreeMap<(DirectionName, Place), Folds<Fitted>>,
    moved: f64,
}

impl Refitted {
    fn open(task: &Task, moved: f64) -> Result<Refitted> {
        Ok(Refitted {
            a: StateTable::open(task.parts("states_a")?).context("states of model a")?,
            b: StateTable::open(task.parts("states_b")?).context("states of model b")?,
            directions: read_fitted(task.parts("direction")?).context("the directions")?,
            moved,
        })
    }

    /// b - a of a curve's examples, in its order, at its place.
    fn differences(&self, curve: &Curve) -> Result<States> {
        let Curve { place, examples, .. } = curve;
        let (a, b) = (self.a.load(place).context("model a")?, self.b.load(place).context("model b")?);
        let width = a.width;
        let known = States { examples: examples.clone(), width, values: Vec::new() };
        let rows = |states: &States, model: &str| {
            known.joined(states).with_context(|| format!("projections and states of model {model} at {place}"))
        };
        let mut values = Vec::with_capacity(examples.len() * width);
        for (row_a, row_b) in rows(&a, "a")?.into_iter().zip(rows(&b, "b")?) {
            values.extend(a.row(row_a).iter().zip(b.row(row_b)).map(|(a, b)| b - a));
        }
        Ok(States { values, ..known })
    }

    fn sums(&self, curve: &Curve, exchanges: &Exchanges, differences: &States) -> Result<Sums> {
        let Curve { name, place, .. } = curve;
        let missing = || format!("there is no direction {} {} at {place}", name.kind.name(), name.component);
        let fitted = self.directions.get(&(*name, place.clone())).with_context(missing)?;
        let refit = match name.kind {
            DirectionKind::MeanDifference => refit::mean_difference,
            DirectionKind::Svd => refit::singular_vector,
        };
        Ok(refit(exchanges, &differences.values, differences.width, fitted, self.moved))
    }
}

#[cfg(test)]
mod tests;
