//! How far two datasets' mean hidden states lie apart within one model, per layer.

mod figure;
mod permuted;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{gram, products};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable, States};
use crate::statistics::holm::holm;
use crate::statistics::labels::{Labels, Permutations};
use crate::statistics::max_statistic::{Centre, MaxStatistic};
use crate::statistics::mean_cosine::{Examples, InnerProducts, Matrix, MeanCosine, mean_cosine, without_repeat};
use crate::statistics::moments::mean;
use crate::statistics::permutation::PERMUTATIONS;
use crate::statistics::vector_products::{Centred, are_too_many};
use crate::table::folders::{DATASET_A, DATASET_B, MODEL};
use crate::table::{Kind, Table, column};
use permuted::Pooled;

/// `[stages.distance]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    models: Selection,
    datasets: Selection,
    positions: Vec<String>,
    permutations: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            positions: vec!["last".into()],
            permutations: PERMUTATIONS,
            seed: 0,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Params {
    positions: Vec<String>,
    permutations: usize,
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
        column("n_same", Kind::U32, "pairs of one example that is in both datasets; the estimate leaves them out"),
        column(
            "cosine_distance",
            Kind::F64,
            "estimate of 1 - cosine of the two expected hidden states, from pairs of different examples, so that noise does not \
             lengthen it; by chance a little below 0 or above 2; null where a mean cannot be told from 0",
        ),
        column(
            "ci_low",
            Kind::F64,
            "lower end of its 95 % interval over examples (jackknife; 0 to 2 where the means' lengths are not known well \
             enough); null with fewer than 4 examples. In thousands of dimensions with few examples it is wider than need be",
        ),
        column("ci_high", Kind::F64, "upper end of the interval"),
        column(
            "plain_distance",
            Kind::F64,
            "1 - cosine of the two sample means, which noise makes larger; what the test looks at; null where one is 0",
        ),
        column(
            "p_value",
            Kind::F64,
            "of a plain distance as large when the examples' dataset labels are permuted, uncorrected; null where all states \
             are equal",
        ),
        column("p_holm", Kind::F64, "p_value after Holm's correction over the layers of the position"),
        column(
            "p_max",
            Kind::F64,
            "p-value of the largest distance of the layers of the position (Westfall and Young)",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "distance",
    version: 3,
    about: "Cosine distance between two datasets' mean hidden states within one model, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models whose states are compared."),
        setting("datasets", "The datasets that are compared, each with each."),
        setting(
            "positions",
            "The positions of hidden_states to compare; of several states of an example the mean is taken.",
        ),
        PERMUTATIONS_SETTING,
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
    let params = Params { positions: settings.positions, permutations: settings.permutations, seed: settings.seed };
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
    let mut rows = Vec::new();
    for position in &params.positions {
        rows.extend(position_rows(task, &a, &b, position, &params)?);
    }
    let mut columns = PlaceColumns::default();
    rows.iter().for_each(|row| columns.push(&row.place));
    let [positions, layers, sites] = columns.arrays();
    let number = |value: fn(&Row) -> Option<f64>| -> ArrayRef {
        let finite = rows.iter().map(|row| value(row).filter(|value| value.is_finite()));
        Arc::new(finite.collect::<Float64Array>())
    };
    let count = |value: fn(&Row) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| value(row) as u32)))
    };
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        count(|row| row.found.n_a),
        count(|row| row.found.n_b),
        count(|row| row.found.n_same),
        number(|row| row.found.cosine.estimate.map(|cosine| 1.0 - cosine)),
        number(|row| row.found.cosine.interval.map(|interval| 1.0 - interval.high)),
        number(|row| row.found.cosine.interval.map(|interval| 1.0 - interval.low)),
        number(|row| Some(row.found.plain)),
        number(|row| row.found.p_value),
        number(|row| row.holm),
        number(|row| row.largest),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Row {
    place: Place,
    found: Found,
    holm: Option<f64>,
    largest: Option<f64>,
}

struct Found {
    n_a: usize,
    n_b: usize,
    n_same: usize,
    cosine: MeanCosine,
    plain: f64,
    /// Plain distances under permuted labels; empty where all states are equal.
    null: Vec<f64>,
    p_value: Option<f64>,
}

/// The rows of one position, whose layers are one family of tests.
fn position_rows(task: &Task, a: &StateTable, b: &StateTable, position: &str, params: &Params) -> Result<Vec<Row>> {
    let places = a.places_at(&[position.to_string()])?;
    let labels = match places.first() {
        Some(place) => PermutedLabels::new(a, b, place, params)?,
        None => return Ok(Vec::new()),
    };
    let one = |place: &Place| {
        if (task.cancelled)() {
            bail!("stopped");
        }
        let loaded = [(a, "a"), (b, "b")].map(|(table, name)| table.load(place).context(format!("dataset {name}")));
        let [a_states, b_states] = loaded;
        // The layers of a position have the same examples, and then the same permutations.
        if labels.of == [a.examples(place)?, b.examples(place)?] {
            distance(&a_states?, &b_states?, &labels)
        } else {
            distance(&a_states?, &b_states?, &PermutedLabels::new(a, b, place, params)?)
        }
    };
    let found: Vec<Found> = places.par_iter().map(one).collect::<Result<_>>()?;
    let corrected = holm(&found.iter().filter_map(|found| found.p_value).collect::<Vec<_>>());
    let mut corrected = corrected.into_iter();
    let holm: Vec<Option<f64>> = found.iter().map(|found| found.p_value.and_then(|_| corrected.next())).collect();
    let largest = largest(&found, params.permutations);
    let rows = places.into_iter().zip(found).zip(holm.into_iter().zip(largest));
    Ok(rows.map(|((place, found), (holm, largest))| Row { place, found, holm, largest }).collect())
}

/// Which examples are in the first group under each permutation.
struct PermutedLabels<'a> {
    /// The examples of the two datasets, for which the labels are.
    of: [Vec<&'a str>; 2],
    labels: Permutations,
}

impl<'a> PermutedLabels<'a> {
    fn new(a: &'a StateTable, b: &'a StateTable, place: &Place, params: &Params) -> Result<PermutedLabels<'a>> {
        let of = [a.examples(place)?, b.examples(place).context("dataset b")?];
        let groups: Vec<u16> = (0..2).flat_map(|group| vec![group; of[usize::from(group)].len()]).collect();
        let examples: Vec<&str> = of.iter().flatten().map(|example| without_repeat(example)).collect();
        let labels = Permutations::new(groups, &examples, params.permutations, params.seed, 0);
        Ok(PermutedLabels { of, labels })
    }
}

fn distance(a: &States, b: &States, labels: &PermutedLabels) -> Result<Found> {
    if a.width != b.width {
        bail!("the states of dataset a have {} numbers, those of dataset b {}", a.width, b.width);
    }
    let (n_a, n_b) = (a.examples.len(), b.examples.len());
    let examples = Examples::by_identity(a.examples.iter().map(String::as_str), b.examples.iter().map(String::as_str));
    let (pooled, cosine) = match are_too_many(n_a + n_b, a.width) {
        false => {
            let within_a = gram(&a.values, a.width);
            let within_b = gram(&b.values, b.width);
            let between = products(&a.values, &b.values, a.width);
            let pooled = Pooled::new(&a.values, &b.values, a.width, [&within_a, &within_b, &between]);
            let [within_a, within_b, between] = [&within_a, &within_b, &between].map(|matrix| Matrix::Held(matrix));
            (pooled, mean_cosine(InnerProducts { a: within_a, b: within_b, between }, &examples))
        }
        true => {
            let [of_a, of_b] = [a, b].map(|states| Centred::new(&states.values, states.width));
            (
                Pooled::of_many(&a.values, &b.values, a.width),
                mean_cosine(InnerProducts::of_vectors(&of_a, &of_b), &examples),
            )
        }
    };
    let own: Vec<u16> = (0..n_a + n_b).map(|row| u16::from(row >= n_a)).collect();
    let plain = pooled.distances(&Labels::observed(&own))[0];
    let mut null = Vec::new();
    if pooled.varies && plain.is_finite() {
        null = labels.labels.each(|labels| pooled.distances(labels));
    }
    // A permutation that restores the labels gives the same distance up to rounding, and must count; so must one without
    // a distance.
    let least = plain * (1.0 - 1e-9) - 1e-12;
    let as_far = null.iter().filter(|distance| distance.is_nan() || **distance >= least).count();
    let p_value = (!null.is_empty()).then(|| (1 + as_far) as f64 / (1 + null.len()) as f64);
    let n_same = examples.same_pairs();
    Ok(Found { n_a, n_b, n_same, cosine, plain, null, p_value })
}

/// The p-value of each layer's distance against the largest of all layers. Only distances above what chance gives are
/// evidence, so a smaller one counts as none.
fn largest(found: &[Found], permutations: usize) -> Vec<Option<f64>> {
    let tested: Vec<&Found> = found.iter().filter(|found| !found.null.is_empty()).collect();
    let centres: Vec<f64> = tested.iter().map(|found| mean(&found.null)).collect();
    let excess = |value: f64, centre: f64| (value - centre).max(0.0);
    let observed: Vec<f64> = tested.iter().zip(&centres).map(|(found, centre)| excess(found.plain, *centre)).collect();
    let row = |i: usize| tested.iter().zip(&centres).map(move |(found, centre)| excess(found.null[i], *centre));
    let null: Vec<f64> = (0..permutations).flat_map(row).collect();
    let family = MaxStatistic::new(&observed, &null, Centre::Zero);
    let mut corrected = observed.iter().enumerate().map(|(test, value)| family.p_value(test, *value));
    found.iter().map(|found| if found.null.is_empty() { None } else { corrected.next().flatten() }).collect()
}
