//! Cosines between the directions of two datasets, and tests of whether they are larger than without anything in common.

mod figure;

use std::collections::BTreeMap;
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
use crate::directions::null_table::{AgainstNull, Null, NullTable, paired};
use crate::linear_algebra::{dot, products};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::Place;
use crate::statistics::max_statistic::{Centre, MaxStatistic};
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
            "mean |cosine| where there is nothing in common: with the pairs shuffled before the SVD (svd), or of the one dataset's \
             centred differences under random signs with the other's direction, the larger of the two (mean_difference)",
        ),
        column("null_high", Kind::F64, "95 % quantile of the same |cosine|, of mean_difference the larger of the two"),
        column(
            "random_cosine",
            Kind::F64,
            "mean |cosine| of random directions with the covariance of the differences: of both datasets' centred differences \
             under random signs",
        ),
        column("random_high", Kind::F64, "95 % quantile of the same |cosine|"),
        column(
            "p_value",
            Kind::F64,
            "share of the null with a |cosine| at least as large, this one counted, of mean_difference the larger of the two; not \
             corrected. Of mean_difference it rejects less often than it says once a dataset has a shift; of svd also where \
             the differences only vary along the same axes",
        ),
        column("p_max", Kind::F64, "p_value corrected over the layers of this position by the largest statistic"),
        column(
            "largest",
            Kind::F64,
            "largest |cosine| of any component of dataset_a with any of dataset_b at this place, of this kind",
        ),
        column("largest_null", Kind::F64, "mean of the largest |cosine| under the null"),
        column("largest_high", Kind::F64, "95 % quantile of the largest |cosine| under the null"),
        column(
            "p_largest",
            Kind::F64,
            "share of the null whose largest |cosine| is at least as large, this one counted",
        ),
        column(
            "p_largest_max",
            Kind::F64,
            "p_largest corrected over the layers of this position by the largest statistic",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "direction_similarity",
    version: 2,
    about: "Cosines between the directions of two datasets, per layer, with their nulls and tests.",
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
    let null_a = NullTable::open(task.parts("null_a")?).context("null directions of dataset a")?;
    let null_b = NullTable::open(task.parts("null_b")?).context("null directions of dataset b")?;
    let shared: Vec<&Place> = a.keys().filter(|place| b.contains_key(place)).collect();
    let compared: Vec<Vec<Compared>> = shared
        .par_iter()
        .map(|place| -> Result<Vec<Compared>> {
            let draws = |null| -> Result<Draws> { Ok([null_a.draws(place, null)?, null_b.draws(place, null)?]) };
            let (shuffled, signs) = (draws(Null::ShuffledPairs)?, draws(Null::CentredSigns)?);
            let random = random(&signs);
            let kinds = [DirectionKind::MeanDifference, DirectionKind::Svd];
            let kinds = kinds.into_iter().map(|kind| {
                let of = |directions: &[(DirectionName, Vec<f64>)]| -> Vec<(DirectionName, Vec<f64>)> {
                    directions.iter().filter(|(name, _)| name.kind == kind).cloned().collect()
                };
                let (a, b) = (of(&a[*place]), of(&b[*place]));
                let nulls = match kind {
                    DirectionKind::MeanDifference => against_signs(&a, &b, &signs),
                    DirectionKind::Svd => vec![shuffled_cosines(&a, &b, &shuffled)],
                };
                Compared { place: (*place).clone(), kind, cells: cells(&a, &b), nulls, random }
            });
            Ok(kinds.filter(|compared| !compared.cells.is_empty()).collect())
        })
        .collect::<Result<_>>()?;
    let compared: Vec<Compared> = compared.into_iter().flatten().collect();
    let corrected = corrected(&compared);

    let mut columns = PlaceColumns::default();
    let mut rows: Vec<Row> = Vec::new();
    for (compared, corrected) in compared.iter().zip(&corrected) {
        let (largest, against_largest) = (compared.largest(), compared.against(Compared::largest_of));
        for (index, (a, b, cosine)) in compared.cells.iter().enumerate() {
            columns.push(&compared.place);
            rows.push(Row {
                kind: compared.kind,
                components: (*a, *b),
                cosine: *cosine,
                null: compared.against(|drawn| drawn[index]),
                random: compared.random,
                p_max: corrected.cells[index],
                largest,
                against_largest,
                p_largest_max: corrected.largest,
            });
        }
    }
    let [positions, layers, sites] = columns.arrays();
    let optional =
        |value: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(value).collect::<Float64Array>()) };
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
        optional(|row| row.null.map(|null| null.p_value)),
        optional(|row| row.p_max),
        optional(|row| Some(row.largest)),
        optional(|row| row.against_largest.map(|null| null.mean)),
        optional(|row| row.against_largest.map(|null| null.high)),
        optional(|row| row.against_largest.map(|null| null.p_value)),
        optional(|row| row.p_largest_max),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Row {
    kind: DirectionKind,
    components: (u32, u32),
    cosine: f64,
    null: Option<AgainstNull>,
    random: Option<AgainstNull>,
    p_max: Option<f64>,
    largest: f64,
    against_largest: Option<AgainstNull>,
    p_largest_max: Option<f64>,
}

/// All directions of one kind of two datasets, at one place.
struct Compared {
    place: Place,
    kind: DirectionKind,
    /// The two components and their cosine.
    cells: Vec<(u32, u32, f64)>,
    /// The |cosines| of every cell under each null, [draws][cells]. Where there are two, both must be exceeded.
    nulls: Vec<Vec<Vec<f64>>>,
    random: Option<AgainstNull>,
}

impl Compared {
    fn observed(&self) -> Vec<f64> {
        self.cells.iter().map(|(_, _, cosine)| cosine.abs()).collect()
    }

    fn largest_of(cosines: &[f64]) -> f64 {
        cosines.iter().copied().fold(0.0, f64::max)
    }

    fn largest(&self) -> f64 {
        Compared::largest_of(&self.observed())
    }

    /// A statistic of the cells against all nulls.
    fn against(&self, statistic: impl Fn(&[f64]) -> f64) -> Option<AgainstNull> {
        let observed = statistic(&self.observed());
        let nulls = self.nulls.iter().map(|null| {
            let drawn = null.iter().map(|drawn| statistic(drawn));
            AgainstNull::new(observed, drawn.filter(|value| value.is_finite()).collect())
        });
        nulls.reduce(|one, other| Some(one?.larger(other?))).flatten()
    }
}

/// The cosine of each direction of the one with each of the other.
fn cells(a: &[(DirectionName, Vec<f64>)], b: &[(DirectionName, Vec<f64>)]) -> Vec<(u32, u32, f64)> {
    let row = |(a, one): &(DirectionName, Vec<f64>)| -> Vec<(u32, u32, f64)> {
        b.iter().map(|(b, other)| (a.component, b.component, dot(one, other))).collect()
    };
    a.iter().flat_map(row).collect()
}

/// Draws of two datasets.
type Draws = [Vec<Vec<f64>>; 2];

/// No common direction, of mean differences: at least one of the two datasets has no mean difference along the other's
/// direction. So each dataset's centred differences, under random signs, are held against the other's direction.
fn against_signs(
    a: &[(DirectionName, Vec<f64>)],
    b: &[(DirectionName, Vec<f64>)],
    signs: &Draws,
) -> Vec<Vec<Vec<f64>>> {
    let held = |drawn: &[Vec<f64>], direction: &[(DirectionName, Vec<f64>)]| {
        let direction = direction.first();
        direction
            .map_or(Vec::new(), |(_, direction)| drawn.iter().map(|drawn| vec![dot(drawn, direction).abs()]).collect())
    };
    vec![held(&signs[0], b), held(&signs[1], a)]
}

/// The |cosines| of the cells from each shuffle of the one dataset and the next of the other; NaN where a shuffle has fewer
/// components.
fn shuffled_cosines(
    a: &[(DirectionName, Vec<f64>)],
    b: &[(DirectionName, Vec<f64>)],
    shuffled: &Draws,
) -> Vec<Vec<f64>> {
    let Some(width) = a.first().or(b.first()).map(|(_, vector)| vector.len()) else { return Vec::new() };
    let cosines = |(one, other): (&[f64], &[f64])| -> Vec<f64> {
        let (all, columns) = (products(one, other, width), other.len() / width);
        let cell = |a: &DirectionName, b: &DirectionName| {
            let (row, column) = (a.component as usize - 1, b.component as usize - 1);
            let known = row < one.len() / width && column < columns;
            if known { all[row * columns + column].abs() } else { f64::NAN }
        };
        a.iter().flat_map(|(a, _)| b.iter().map(move |(b, _)| cell(a, b))).collect()
    };
    paired(&shuffled[0], &shuffled[1]).map(cosines).collect()
}

/// |Cosines| of the datasets' centred differences under random signs.
fn random(signs: &Draws) -> Option<AgainstNull> {
    AgainstNull::new(1.0, paired(&signs[0], &signs[1]).map(|(a, b)| dot(a, b).abs()).collect())
}

/// The p-values of one place, corrected over the layers.
#[derive(Clone)]
struct Corrected {
    cells: Vec<Option<f64>>,
    largest: Option<f64>,
}

/// The same draws are used at all layers of a position, so that the largest statistic of a family of layers has a null. A
/// family is a kind, a position and the two components, or the largest of all components.
fn corrected(compared: &[Compared]) -> Vec<Corrected> {
    let empty = |compared: &Compared| Corrected { cells: vec![None; compared.cells.len()], largest: None };
    let mut found: Vec<Corrected> = compared.iter().map(empty).collect();
    let mut families: BTreeMap<(DirectionKind, &str, Option<(u32, u32)>), Vec<(usize, usize)>> = BTreeMap::new();
    for (place, of) in compared.iter().enumerate() {
        for (cell, (a, b, _)) in of.cells.iter().enumerate() {
            families.entry((of.kind, of.place.position.as_str(), Some((*a, *b)))).or_default().push((place, cell));
        }
        families.entry((of.kind, of.place.position.as_str(), None)).or_default().push((place, 0));
    }
    for ((.., components), members) in families {
        let statistic = |cell: usize, cosines: &[f64]| match components {
            Some(_) => cosines[cell],
            None => Compared::largest_of(cosines),
        };
        let observed: Vec<f64> =
            members.iter().map(|(place, cell)| statistic(*cell, &compared[*place].observed())).collect();
        let nulls = members.iter().map(|(place, _)| compared[*place].nulls.len()).min().unwrap_or(0);
        let mut p_values: Vec<Option<f64>> = vec![None; members.len()];
        for null in 0..nulls {
            let drawn = |(place, _): &(usize, usize)| compared[*place].nulls[null].len();
            let draws = members.iter().map(drawn).max().unwrap_or(0);
            let of_draw = |draw: usize| {
                let drawn = move |(place, cell): &(usize, usize)| {
                    compared[*place].nulls[null].get(draw).map_or(f64::NAN, |cosines| statistic(*cell, cosines))
                };
                members.iter().map(drawn)
            };
            let values: Vec<f64> = (0..draws).flat_map(of_draw).collect();
            let largest = MaxStatistic::new(&observed, &values, Centre::Zero);
            for (member, p_value) in p_values.iter_mut().enumerate() {
                let here = largest.p_value(member, observed[member]).filter(|_| draws > 0);
                *p_value = match null {
                    0 => here,
                    _ => p_value.zip(here).map(|(one, other)| one.max(other)),
                };
            }
        }
        for ((place, cell), p_value) in members.iter().zip(p_values) {
            match components {
                Some(_) => found[*place].cells[*cell] = p_value,
                None => found[*place].largest = p_value,
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "direction_similarity_tests.rs"]
mod tests;
