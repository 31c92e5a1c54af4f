//! The cosine of two groups' mean vectors: whether what they have in common points the same way, another way, or is opposed.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::comparison::compared::{Fill, Group, nodes};
use crate::comparison::group_columns::{GROUP_COLUMNS, group_arrays};
use crate::comparison::groups::{SLICE_COLUMNS, Sizes, Slice, slice_arrays};
use crate::comparison::inner_products::inner_products;
use crate::comparison::task::Comparing;
use crate::contract::cost::{Cost, Expected};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::states::state_table::States;
use crate::statistics::holm::holm;
use crate::statistics::max_statistic::{Centre, MaxStatistic};
use crate::statistics::mean_cosine::{Examples, InnerProducts, Matrix, MeanCosine, mean_cosine, null_of};
use crate::statistics::permutation::PERMUTATIONS;
use crate::statistics::vector_products::{Centred, VectorProducts, are_too_many};
use crate::table::folders::{COMPARISON, OF, SHARED};
use crate::table::{Kind, Table, column};

/// `[stages.mean_similarity]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    draws: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { draws: PERMUTATIONS, seed: 0 }
    }
}

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    comparing: Comparing,
    groups: Vec<Group>,
    draws: usize,
    seed: u64,
}

const TABLE: Table = Table {
    name: "mean_similarity",
    folders: &[OF, COMPARISON, SHARED],
    columns: &[
        SLICE_COLUMNS[0],
        SLICE_COLUMNS[1],
        SLICE_COLUMNS[2],
        SLICE_COLUMNS[3],
        GROUP_COLUMNS[0],
        GROUP_COLUMNS[1],
        GROUP_COLUMNS[2],
        GROUP_COLUMNS[3],
        column("n_a", Kind::U32, "number of examples of group a"),
        column("n_b", Kind::U32, "number of examples of group b"),
        column("n_same", Kind::U32, "pairs between the groups that are one example, which are left out"),
        column(
            "left_out",
            Kind::U32,
            "examples of the two groups that have fewer than `least` losses and are left out",
        ),
        column("width", Kind::U32, "numbers of each vector that are compared"),
        column(
            "mean_share_a",
            Kind::F64,
            "share of the squared length of group a's vectors that their mean has, without the part that noise adds",
        ),
        column("mean_share_b", Kind::F64, "the same of group b"),
        column("plain", Kind::F64, "cosine of the two mean vectors, which noise draws towards 0"),
        column(
            "cosine",
            Kind::F64,
            "the same from pairs of different examples, without that bias; null where a mean cannot be told from 0",
        ),
        column(
            "ci_low",
            Kind::F64,
            "lower end of the 95 % interval of `cosine` over examples (Fieller, jackknife); in thousands of dimensions with few examples wider than need be, and p_value larger",
        ),
        column("ci_high", Kind::F64, "upper end of the same interval"),
        column(
            "p_value",
            Kind::F64,
            "two-sided test that the two expected vectors have no common direction (inner product 0), uncorrected; null with fewer than 4 examples in a group",
        ),
        column("p_holm", Kind::F64, "the same with Holm's correction over the comparison's pairs at this place"),
        column(
            "p_max",
            Kind::F64,
            "the same corrected over the layers or modules of the table by the largest statistic under random signs of examples; null where there is one",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "mean_similarity",
    version: 2,
    about: "The cosine of every two groups' mean vectors, with an interval and a test that they have no common direction.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[setting("draws", "The random signs of the examples behind `p_max`."), SEED_SETTING],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: figure::FIGURES,
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    nodes(STAGE.name, &settings, pipeline)
}

/// The inner products of all vectors, or of many the products of their columns.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let sizes = Sizes::expected(&params.comparing.reading, expected)?;
    let n = sizes.examples();
    let largest = sizes.groups.iter().copied().fold(0.0, f64::max);
    let held = sizes.held(largest);
    let (inner, kept) = match held > 0.0 {
        true => (n, 8.0 * (sizes.groups.iter().map(|n| n * n).sum::<f64>() + held)),
        false => (sizes.width, 8.0 * (n * sizes.width + 2.0 * sizes.width * sizes.width)),
    };
    Some(Cost { flops: 2.0 * sizes.slices * n * inner * sizes.width, memory: sizes.memory() + kept, ..Cost::default() })
}

/// A pair at one place.
struct Row {
    slice: usize,
    pair: (usize, usize),
    sizes: [usize; 2],
    same: usize,
    left_out: usize,
    width: usize,
    shares: [Option<f64>; 2],
    found: MeanCosine,
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let mut params: Params = task.params()?;
    // Means are of whole vectors.
    if params.comparing.fill == Fill::Pairwise {
        params.comparing.fill = Fill::Common;
    }
    let groups = params.comparing.open(task, &params.groups)?;
    let slices = groups.slices();
    let mut rows = Vec::new();
    for (slice, place) in slices.iter().enumerate() {
        let filled = params.comparing.load(&groups, place)?;
        let width = filled.groups[0].width.max(1);
        let most = filled.groups.iter().map(|group| group.examples.len()).max().unwrap_or_default();
        // Of many examples the inner products are too many to be held, and their sums come from the vectors.
        let products = match are_too_many(most, width) {
            true => OfGroups::Vectors(filled.groups.iter().map(|group| Centred::new(&group.values, width)).collect()),
            false => OfGroups::Held(filled.groups.iter().map(|group| inner_products(group, group)).collect()),
        };
        let shares: Vec<Option<f64>> = (0..filled.groups.len()).map(|group| products.mean_share(group)).collect();
        for a in 0..filled.groups.len() {
            for b in a + 1..filled.groups.len() {
                let [of_a, of_b] = [a, b].map(|group| filled.groups[group].examples.iter().map(String::as_str));
                let examples = Examples::by_identity(of_a, of_b);
                rows.push(Row {
                    slice,
                    pair: (a, b),
                    sizes: [a, b].map(|group| filled.groups[group].examples.len()),
                    same: examples.same_pairs(),
                    left_out: filled.left_out[a] + filled.left_out[b],
                    width: filled.groups[a].width,
                    shares: [shares[a], shares[b]],
                    found: products.mean_cosine(&filled.groups, [a, b], &examples),
                });
            }
        }
        (task.progress)(slice as u64 + 1, slices.len() as u64);
        anyhow::ensure!(!(task.cancelled)(), "stopped");
    }
    table(&params, &slices, rows)
}

/// The inner products of the vectors of each group with one another, or the vectors.
enum OfGroups<'a> {
    Held(Vec<Vec<f64>>),
    Vectors(Vec<Centred<'a>>),
}

impl OfGroups<'_> {
    /// The squared length of the mean by the mean squared length, the former from pairs of different examples.
    fn mean_share(&self, group: usize) -> Option<f64> {
        let (n, trace, total) = match self {
            OfGroups::Held(own) => {
                let (own, n) = (&own[group], own[group].len().isqrt());
                (n, (0..n).map(|i| own[i * n + i]).sum::<f64>(), own.iter().sum::<f64>())
            }
            OfGroups::Vectors(groups) => {
                let squares = groups[group].squares();
                let all = VectorProducts::new(&groups[group], &groups[group]);
                (squares.len(), squares.iter().sum(), all.total())
            }
        };
        let apart = (total - trace) / (n * n.saturating_sub(1)) as f64;
        Some(apart * n as f64 / trace).filter(|share| share.is_finite())
    }

    fn mean_cosine(&self, groups: &[States], [a, b]: [usize; 2], examples: &Examples) -> MeanCosine {
        match self {
            OfGroups::Held(own) => {
                let between = inner_products(&groups[a], &groups[b]);
                let [a, b, between] = [&own[a], &own[b], &between].map(|matrix| Matrix::Held(matrix));
                mean_cosine(InnerProducts { a, b, between }, examples)
            }
            OfGroups::Vectors(own) => mean_cosine(InnerProducts::of_vectors(&own[a], &own[b]), examples),
        }
    }
}

fn table(params: &Params, slices: &[Slice], rows: Vec<Row>) -> Result<Vec<Output>> {
    let mut adjusted = vec![None; rows.len()];
    let tested = |row: &usize| rows[*row].found.p_value.is_some();
    for slice in 0..slices.len() {
        let at: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].slice == slice).filter(tested).collect();
        let p_values: Vec<f64> = at.iter().filter_map(|&row| rows[row].found.p_value).collect();
        at.iter().zip(holm(&p_values)).for_each(|(&row, p)| adjusted[row] = Some(p));
    }
    let largest = largest(params, slices, &rows);
    let number = |value: &dyn Fn(usize) -> Option<f64>| -> ArrayRef {
        let finite = |row: usize| value(row).filter(|value| value.is_finite());
        Arc::new((0..rows.len()).map(finite).collect::<Float64Array>())
    };
    let count = |value: &dyn Fn(&Row) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| value(row) as u32)))
    };
    let found = |row: usize| &rows[row].found;
    let pairs: Vec<(usize, usize)> = rows.iter().map(|row| row.pair).collect();
    let mut arrays = slice_arrays(rows.iter().map(|row| (&slices[row.slice], 1)))?.to_vec();
    arrays.extend(group_arrays(&params.groups, &pairs));
    arrays.extend([
        count(&|row| row.sizes[0]),
        count(&|row| row.sizes[1]),
        count(&|row| row.same),
        count(&|row| row.left_out),
        count(&|row| row.width),
        number(&|row| rows[row].shares[0]),
        number(&|row| rows[row].shares[1]),
        number(&|row| Some(found(row).plain)),
        number(&|row| found(row).estimate),
        number(&|row| found(row).interval.map(|interval| interval.low)),
        number(&|row| found(row).interval.map(|interval| interval.high)),
        number(&|row| found(row).p_value),
        number(&|row| adjusted[row]),
        number(&|row| largest[row]),
    ]);
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}

/// For each row the p-value corrected over the layers or modules of its pair. Examples take the same signs in all of them.
fn largest(params: &Params, slices: &[Slice], rows: &[Row]) -> Vec<Option<f64>> {
    let position = |row: &Row| slices[row.slice].place().map(|place| place.position.as_str());
    let mut adjusted = vec![None; rows.len()];
    let mut done = vec![false; rows.len()];
    for first in 0..rows.len() {
        if done[first] {
            continue;
        }
        let of_curve = |row: &Row| {
            (position(row), row.pair, row.sizes) == (position(&rows[first]), rows[first].pair, rows[first].sizes)
        };
        let curve: Vec<usize> = (first..rows.len()).filter(|&row| of_curve(&rows[row])).collect();
        curve.iter().for_each(|&row| done[row] = true);
        if curve.len() < 2 {
            continue;
        }
        let tests: Vec<&MeanCosine> = curve.iter().map(|&row| &rows[row].found).collect();
        let observed: Vec<f64> = tests.iter().map(|test| test.z.unwrap_or(f64::NAN)).collect();
        let stream = 1 + ((rows[first].pair.0 as u64) << 32) + rows[first].pair.1 as u64;
        let null = MaxStatistic::new(&observed, &null_of(&tests, params.draws, params.seed, stream), Centre::Zero);
        for (test, &row) in curve.iter().enumerate() {
            adjusted[row] = tests[test].z.and_then(|z| null.p_value(test, z));
        }
    }
    adjusted
}

#[cfg(test)]
#[path = "mean_similarity_tests.rs"]
mod tests;
