//! Principal angles between the subspaces that two datasets' leading singular vectors span.

mod figure;

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::Node;
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::directions::dataset_pairs::{bindings, dataset_pairs, inputs};
use crate::directions::direction_table::{DirectionKind, DirectionName, read_directions};
use crate::directions::null_table::{Null, Nulls, read_nulls};
use crate::directions::settings::Settings as DirectionSettings;
use crate::linear_algebra::principal_cosines;
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::Place;
use crate::statistics::moments::{mean, quantile};
use crate::table::folders::{DATASET_A, DATASET_B, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

/// `[stages.subspace_similarity]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    datasets: Selection,
    k: Option<Vec<u32>>,
}

#[derive(Debug, Deserialize)]
struct Params {
    k: Vec<usize>,
}

const TABLE: Table = Table {
    name: "subspace_similarity",
    folders: &[SOURCE, TARGET, DATASET_A, DATASET_B],
    columns: &[
        POSITION,
        LAYER,
        SITE,
        column("k", Kind::U32, "dimension of both subspaces, spanned by the first k singular vectors"),
        column("angle_index", Kind::U32, "number of the principal angle, from 1, the smallest angle first"),
        column("cosine", Kind::F64, "cosine of the principal angle"),
        column("null_cosine", Kind::F64, "mean cosine with the pairs shuffled before the SVD"),
        column("null_high", Kind::F64, "95 % quantile of the same cosine"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "subspace_similarity",
    version: 1,
    about: "Principal angles between two datasets' subspaces of leading singular vectors, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("datasets", "The datasets whose subspaces are compared, each with each."),
        setting(
            "k",
            "The dimensions of the subspaces; fewer where a dataset has fewer directions. Without it: the \
             components of stages.directions.",
        )
        .example("[2, 8]"),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let directions: DirectionSettings = pipeline.section("directions")?;
    let mut k = settings.k.unwrap_or_else(|| vec![directions.components]);
    for (i, &found) in k.iter().enumerate() {
        if found == 0 || found > directions.components {
            let message = format!("k = {found} is not within 1 to {}", directions.components);
            return Err(PlanError::new(at("stages.subspace_similarity.k").index(i), message)
                .help("stages.directions.components says how many singular vectors there are"));
        }
    }
    k.sort_unstable();
    k.dedup();
    let pairs = dataset_pairs(STAGE.name, &settings.datasets, pipeline)?;
    let node = |(pair, a, b): &(Pair, String, String)| Node {
        stage: STAGE.name,
        bindings: bindings(pair, a, b),
        params: json!({ "k": k }),
        inputs: inputs(pair, a, b),
        per_part: None,
    };
    Ok(pairs.iter().map(node).collect())
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let a = read_directions(task.parts("a")?).context("directions of dataset a")?;
    let b = read_directions(task.parts("b")?).context("directions of dataset b")?;
    let null_a = read_nulls(task.parts("null_a")?).context("null directions of dataset a")?;
    let null_b = read_nulls(task.parts("null_b")?).context("null directions of dataset b")?;
    let shared: Vec<&Place> = a.keys().filter(|place| b.contains_key(place)).collect();
    let found: Vec<Vec<Row>> = shared
        .par_iter()
        .map(|place| angles(&a[*place], &b[*place], (null_a.get(place), null_b.get(place)), &params.k))
        .collect::<Result<_>>()?;
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
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.k))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.angle_index))),
        optional(|row| Some(row.cosine)),
        optional(|row| row.null.map(|null| null.0)),
        optional(|row| row.null.map(|null| null.1)),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Row {
    k: u32,
    angle_index: u32,
    cosine: f64,
    /// Mean and 95 % quantile.
    null: Option<(f64, f64)>,
}

fn angles(
    a: &[(DirectionName, Vec<f64>)],
    b: &[(DirectionName, Vec<f64>)],
    nulls: (Option<&Nulls>, Option<&Nulls>),
    dimensions: &[usize],
) -> Result<Vec<Row>> {
    let singular = |directions: &[(DirectionName, Vec<f64>)]| -> Vec<Vec<f64>> {
        let svd = directions.iter().filter(|(name, _)| name.kind == DirectionKind::Svd);
        svd.map(|(_, vector)| vector.clone()).collect()
    };
    let (a, b) = (singular(a), singular(b));
    let mut available: Vec<usize> = dimensions.iter().map(|&k| k.min(a.len()).min(b.len())).collect();
    available.dedup();
    let mut rows = Vec::new();
    for k in available.into_iter().filter(|&k| k > 0) {
        let width = a[0].len();
        let found = principal_cosines(&a[..k].concat(), &b[..k].concat(), width)?;
        let null = null_cosines(nulls, k, width)?;
        for (index, cosine) in found.into_iter().enumerate() {
            let null = null.as_ref().map(|null| {
                let mut drawn: Vec<f64> = null.iter().map(|cosines| cosines[index]).collect();
                drawn.sort_unstable_by(f64::total_cmp);
                (mean(&drawn), quantile(&drawn, 0.95))
            });
            rows.push(Row { k: k as u32, angle_index: index as u32 + 1, cosine, null });
        }
    }
    Ok(rows)
}

/// The principal cosines of every pair of different draws; `None` where no shuffle left k directions.
fn null_cosines(nulls: (Option<&Nulls>, Option<&Nulls>), k: usize, width: usize) -> Result<Option<Vec<Vec<f64>>>> {
    let (Some(a), Some(b)) = nulls else { return Ok(None) };
    let (a, b) = (subspaces(a, k), subspaces(b, k));
    let mut found = Vec::new();
    for (draw_a, a) in &a {
        for (_, b) in b.iter().filter(|(draw, _)| draw != draw_a) {
            found.push(principal_cosines(a, b, width)?);
        }
    }
    Ok((!found.is_empty()).then_some(found))
}

/// The first k shuffled directions of each draw that has as many, as rows.
fn subspaces(nulls: &Nulls, k: usize) -> Vec<(u32, Vec<f64>)> {
    let Some(first) = nulls.get(&(Null::ShuffledPairs, 1)) else { return Vec::new() };
    let span = |draw: u32| -> Option<Vec<f64>> {
        let component = |component: u32| {
            let drawn = nulls.get(&(Null::ShuffledPairs, component))?;
            Some(drawn.iter().find(|(found, _)| *found == draw)?.1.as_slice())
        };
        Some((1..=k as u32).map(component).collect::<Option<Vec<_>>>()?.concat())
    };
    first.iter().filter_map(|(draw, _)| Some((*draw, span(*draw)?))).collect()
}
