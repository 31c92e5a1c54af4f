//! Cosines between the directions of two datasets, beside what random directions would give.

mod figure;

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::Node;
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::dataset_pairs::{bindings, dataset_pairs, inputs};
use crate::directions::direction_table::{DirectionKind, DirectionName, read_directions};
use crate::directions::null_table::{Null, Nulls, read_nulls};
use crate::linear_algebra::dot;
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::Place;
use crate::statistics::moments::{mean, quantile};
use crate::table::folders::{DATASET_A, DATASET_B, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

/// `[stages.direction_similarity]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    datasets: Selection,
}

const TABLE: Table = Table {
    name: "direction_similarity",
    folders: &[SOURCE, TARGET, DATASET_A, DATASET_B],
    columns: &[
        POSITION,
        LAYER,
        SITE,
        column("kind", Kind::Text, "kind of both directions: mean_difference or svd"),
        column("component_a", Kind::U32, "rank of dataset_a's direction, from 1"),
        column("component_b", Kind::U32, "rank of dataset_b's direction, from 1"),
        column("cosine", Kind::F64, "cosine of the two directions"),
        column(
            "null_cosine",
            Kind::F64,
            "mean |cosine| with the pairs shuffled before the SVD (svd) or flipped before the mean (mean_difference)",
        ),
        column("null_high", Kind::F64, "95 % quantile of the same |cosine|"),
        column("random_cosine", Kind::F64, "mean |cosine| of random directions with the covariance of the differences"),
        column("random_high", Kind::F64, "95 % quantile of the same |cosine|"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "direction_similarity",
    version: 1,
    about: "Cosines between the directions of two datasets, per layer, with their shuffled and random nulls.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[setting("datasets", "The datasets whose directions are compared, each with each.")],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let pairs = dataset_pairs(STAGE.name, &settings.datasets, pipeline)?;
    let node = |(pair, a, b): &(Pair, String, String)| Node {
        stage: STAGE.name,
        bindings: bindings(pair, a, b),
        params: json!({}),
        inputs: inputs(pair, a, b),
        per_part: None,
    };
    Ok(pairs.iter().map(node).collect())
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let a = read_directions(task.parts("a")?).context("directions of dataset a")?;
    let b = read_directions(task.parts("b")?).context("directions of dataset b")?;
    let null_a = read_nulls(task.parts("null_a")?).context("null directions of dataset a")?;
    let null_b = read_nulls(task.parts("null_b")?).context("null directions of dataset b")?;
    let shared: Vec<&Place> = a.keys().filter(|place| b.contains_key(place)).collect();
    let found: Vec<Vec<Row>> = shared
        .par_iter()
        .map(|place| {
            let nulls = (null_a.get(place), null_b.get(place));
            compare(&a[*place], &b[*place], nulls)
        })
        .collect();
    let mut columns = PlaceColumns::default();
    let mut rows = Vec::new();
    for (place, found) in shared.iter().zip(&found) {
        for row in found {
            columns.push(place);
            rows.push(row);
        }
    }
    let [positions, layers, sites] = columns.arrays();
    let optional = |value: fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| value(row)).collect::<Float64Array>())
    };
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.kind.name()))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.components.0))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.components.1))),
        optional(|row| Some(row.cosine)),
        optional(|row| row.null.map(|null| null.mean)),
        optional(|row| row.null.map(|null| null.high)),
        optional(|row| row.random.map(|null| null.mean)),
        optional(|row| row.random.map(|null| null.high)),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Row {
    kind: DirectionKind,
    components: (u32, u32),
    cosine: f64,
    null: Option<NullCosine>,
    random: Option<NullCosine>,
}

#[derive(Debug, Clone, Copy)]
struct NullCosine {
    mean: f64,
    high: f64,
}

fn compare(
    a: &[(DirectionName, Vec<f64>)],
    b: &[(DirectionName, Vec<f64>)],
    nulls: (Option<&Nulls>, Option<&Nulls>),
) -> Vec<Row> {
    let null = |null: Null, components: (u32, u32)| {
        let a = nulls.0?.get(&(null, components.0))?;
        let b = nulls.1?.get(&(null, components.1))?;
        null_cosine(a, b)
    };
    let random = null(Null::RandomCovariance, (1, 1));
    let mut rows = Vec::new();
    for (name_a, vector_a) in a {
        for (name_b, vector_b) in b.iter().filter(|(name, _)| name.kind == name_a.kind) {
            let components = (name_a.component, name_b.component);
            let kind = match name_a.kind {
                DirectionKind::MeanDifference => Null::FlippedPairs,
                DirectionKind::Svd => Null::ShuffledPairs,
            };
            let cosine = dot(vector_a, vector_b);
            rows.push(Row { kind: name_a.kind, components, cosine, null: null(kind, components), random });
        }
    }
    rows
}

/// Mean and 95 % quantile of |cosine| over all pairs of different draws. Equal draws come from equal seeds,
/// so they are not independent.
fn null_cosine(a: &[(u32, Vec<f64>)], b: &[(u32, Vec<f64>)]) -> Option<NullCosine> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let mut cosines: Vec<f64> = pairs.filter(|(a, b)| a.0 != b.0).map(|(a, b)| dot(&a.1, &b.1).abs()).collect();
    if cosines.is_empty() {
        return None;
    }
    cosines.sort_unstable_by(f64::total_cmp);
    Some(NullCosine { mean: mean(&cosines), high: quantile(&cosines, 0.95) })
}

#[cfg(test)]
#[path = "direction_similarity_tests.rs"]
mod tests;
