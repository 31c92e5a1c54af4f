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
use crate::directions::null_table::{AgainstNull, Null, NullTable, paired};
use crate::directions::settings::Settings as DirectionSettings;
use crate::linear_algebra::principal_cosines;
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::Place;
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
        column(
            "p_value",
            Kind::F64,
            "share of shuffles with a cosine at least as large, this one counted; not corrected. Small also where the differences only \
             vary along the same axes",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "subspace_similarity",
    version: 2,
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
    let null_a = NullTable::open(task.parts("null_a")?).context("null directions of dataset a")?;
    let null_b = NullTable::open(task.parts("null_b")?).context("null directions of dataset b")?;
    let shared: Vec<&Place> = a.keys().filter(|place| b.contains_key(place)).collect();
    let found: Vec<Vec<Row>> = shared
        .par_iter()
        .map(|place| -> Result<Vec<Row>> {
            let draws = |nulls: &NullTable| nulls.draws(place, Null::ShuffledPairs);
            angles(&a[*place], &b[*place], [&draws(&null_a)?, &draws(&null_b)?], &params.k)
        })
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
        optional(|row| row.null.map(|null| null.mean)),
        optional(|row| row.null.map(|null| null.high)),
        optional(|row| row.null.map(|null| null.p_value)),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Row {
    k: u32,
    angle_index: u32,
    cosine: f64,
    null: Option<AgainstNull>,
}

fn angles(
    a: &[(DirectionName, Vec<f64>)],
    b: &[(DirectionName, Vec<f64>)],
    nulls: [&[Vec<f64>]; 2],
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
            let null = AgainstNull::new(cosine, null.iter().map(|cosines| cosines[index]).collect());
            rows.push(Row { k: k as u32, angle_index: index as u32 + 1, cosine, null });
        }
    }
    Ok(rows)
}

/// The principal cosines of each draw of the one with the next of the other, of those draws that have k directions.
fn null_cosines(nulls: [&[Vec<f64>]; 2], k: usize, width: usize) -> Result<Vec<Vec<f64>>> {
    let enough = |(a, b): &(&[f64], &[f64])| a.len() >= k * width && b.len() >= k * width;
    let pairs = paired(nulls[0], nulls[1]).filter(enough);
    pairs.map(|(a, b)| principal_cosines(&a[..k * width], &b[..k * width], width)).collect()
}
