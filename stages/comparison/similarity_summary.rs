//! Mean cosine similarities of the groups of a comparison, with intervals, and permutation tests of every two groups.

mod figure;
mod pair_test;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::pair_test::{Pair, PairTest};
use crate::comparison::compared::{Centring, Fill, Group, nodes};
use crate::comparison::cosines::Vectors;
use crate::comparison::family::Family;
use crate::comparison::fill::Filled;
use crate::comparison::group_columns::{GROUP_COLUMNS, group_arrays};
use crate::comparison::groups::{CENTRED, SLICE_COLUMNS, Sizes, Slice, slice_arrays};
use crate::comparison::task::Comparing;
use crate::contract::cost::{Cost, Expected};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::statistics::labels::LABELS_KEPT;
use crate::statistics::permutation::PERMUTATIONS;
use crate::table::folders::{COMPARISON, OF, SHARED};
use crate::table::{Kind, Table, column};

/// `[stages.similarity_summary]`.
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

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    comparing: Comparing,
    groups: Vec<Group>,
    permutations: usize,
    seed: u64,
}

const TABLE: Table = Table {
    name: "similarity_summary",
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
        CENTRED,
        column("n_a", Kind::U32, "number of examples of group a that are compared"),
        column("n_b", Kind::U32, "number of examples of group b that are compared"),
        column("n_pairs", Kind::U32, "number of pairs of examples; within one group, of different ones"),
        column(
            "n_same",
            Kind::U32,
            "pairs between the groups that are one example, which `same_example` leaves out or keeps",
        ),
        column(
            "left_out",
            Kind::U32,
            "examples of the two groups that have fewer than `least` losses and are left out",
        ),
        column(
            "missing",
            Kind::F64,
            "share of the two groups' losses that are missing, for which stands what `fill` says",
        ),
        column("width", Kind::U32, "numbers of each vector that are compared"),
        column(
            "mean_share",
            Kind::F64,
            "share of the vectors' squared length that their mean vector has, which centring takes (the mean of the \
             comparison, or of the pair's two groups)",
        ),
        column("mean", Kind::F64, "mean cosine over the pairs; null where there is none"),
        column(
            "ci_low",
            Kind::F64,
            "lower end of the 95 % interval of the mean over examples, from the variance of a U-statistic; wider than need be where \
             the groups have no common mean. Null for \
             centred cosines: a centre taken from the same examples shifts their mean by about -1/n, so that no interval \
             of it holds, while the test does",
        ),
        column("ci_high", Kind::F64, "upper end of the same interval"),
        column(
            "null_mean",
            Kind::F64,
            "mean of `mean` with the labels of the two groups permuted; null for a group with itself",
        ),
        column(
            "null_std",
            Kind::F64,
            "standard deviation of the same (divisor: the permutations and the observed value)",
        ),
        column("effect_size", Kind::F64, "(mean - null_mean) / null_std; null where that is 0"),
        column(
            "p_value",
            Kind::F64,
            "two-sided permutation test of `mean` between the two groups, uncorrected; null for a group with itself",
        ),
        column("p_holm", Kind::F64, "the same with Holm's correction over the comparison's pairs at this place"),
        column(
            "p_max",
            Kind::F64,
            "the same corrected over the layers or modules of the table by the largest statistic under the same permutations; null where there is one",
        ),
        column("within_a", Kind::F64, "mean cosine of pairs within group a, centred as this row is"),
        column("within_b", Kind::F64, "the same within group b"),
        column(
            "within_p_value",
            Kind::F64,
            "two-sided permutation test of within_a - within_b, uncorrected: whether one group is more alike than the other",
        ),
        column("within_p_holm", Kind::F64, "the same with Holm's correction over the comparison's pairs at this place"),
        column("within_p_max", Kind::F64, "the same corrected over layers or modules, as p_max"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "similarity_summary",
    version: 4,
    about: "Mean cosine similarity within groups and between them, with intervals and permutation tests of every two groups.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[PERMUTATIONS_SETTING, SEED_SETTING],
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

/// For every two groups their cosines, raw and centred, and the sums under permuted labels: of the cosines, or of the vectors where they are
/// fewer numbers.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let sizes = Sizes::expected(&params.comparing.reading, expected)?;
    let pairs = (0..sizes.groups.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let of_pairs = pairs.map(|(a, b)| sizes.groups[a] + sizes.groups[b]);
    let flops = |rows: f64| 2.0 * rows * rows.min(sizes.width) * (rows.min(sizes.width) + params.permutations as f64);
    let flops = 2.0 * sizes.slices * of_pairs.clone().map(flops).sum::<f64>();
    let largest = of_pairs.clone().fold(0.0, f64::max);
    // What of the cosines counts, and in panels.
    let labels = of_pairs.map(|rows| (4.0 * rows * params.permutations as f64).min(LABELS_KEPT)).sum::<f64>();
    let held = if params.comparing.fill == Fill::Pairwise { largest * largest } else { sizes.held(largest) };
    let memory = sizes.memory() + 8.0 * (4.0 * held + 3.0 * largest * sizes.width) + labels;
    Some(Cost { flops, memory, ..Cost::default() })
}

/// A row of the table.
struct Row {
    slice: usize,
    centred: bool,
    pair: Pair,
    left_out: usize,
    missing: f64,
    width: usize,
    mean_share: f64,
    test: PairTest,
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let groups = params.comparing.open(task, &params.groups)?;
    let slices = groups.slices();
    let mut rows: Vec<Row> = Vec::new();
    let mut labels = BTreeMap::new();
    for (slice, place) in slices.iter().enumerate() {
        let filled = params.comparing.load(&groups, place)?;
        for centred in [false, true] {
            if centred && params.comparing.centring == Centring::None {
                continue;
            }
            of_slice(&params, &filled, centred, &mut labels, |pair, vectors, test| {
                let both = || [pair.a, pair.b].into_iter().take(if pair.a == pair.b { 1 } else { 2 });
                let examples = |group: usize| filled.groups[group].examples.len() + filled.left_out[group];
                let total: usize = both().map(examples).sum();
                rows.push(Row {
                    slice,
                    centred,
                    pair,
                    left_out: both().map(|group| filled.left_out[group]).sum(),
                    missing: both().map(|group| filled.missing[group] * examples(group) as f64).sum::<f64>()
                        / total.max(1) as f64,
                    width: filled.groups[pair.a].width,
                    mean_share: vectors.mean_share,
                    test,
                });
            });
            (task.progress)((2 * slice + usize::from(centred)) as u64, 2 * slices.len() as u64);
            anyhow::ensure!(!(task.cancelled)(), "stopped");
        }
    }
    table(&params.groups, &slices, &rows)
}

/// Calls with each pair of groups, the vectors that it was centred with, and what was found.
fn of_slice(
    params: &Params,
    filled: &Filled,
    centred: bool,
    labels: &mut BTreeMap<Pair, pair_test::Permuted>,
    mut found: impl FnMut(Pair, &Vectors, PairTest),
) {
    let Comparing { centring, same_example, least, .. } = params.comparing;
    let all: Vec<usize> = (0..filled.groups.len()).collect();
    let together = (!centred || centring == Centring::Comparison || all.len() <= 2)
        .then(|| Vectors::of(filled, &all, centred, least));
    for pair in Pair::all(all.len()) {
        let both = if pair.a == pair.b { &[pair.a][..] } else { &[pair.a, pair.b] };
        let vectors = match &together {
            Some(vectors) => vectors.of_groups(both),
            // A group alone has no pair to be centred with.
            None if pair.a == pair.b => continue,
            None => Vectors::of(filled, both, centred, least),
        };
        let examples = [pair.a, pair.b].map(|group| filled.groups[group].examples.as_slice());
        let permuted = labels.entry(pair).or_default();
        permuted.of(pair, examples, params.permutations, params.seed);
        let test = pair_test::test(pair, examples, &vectors, permuted, same_example, centred);
        found(pair, &vectors, test);
    }
}

fn table(groups: &[Group], slices: &[Slice], rows: &[Row]) -> Result<Vec<Output>> {
    let position = |row: &Row| slices[row.slice].place().map(|place| place.position.clone());
    // Where layers have other examples, their labels are permuted by other draws.
    let curve = |row: usize| {
        let Row { centred, pair, test, .. } = &rows[row];
        (position(&rows[row]), *centred, *pair, test.n_a, test.n_b)
    };
    let between = Family::new(
        rows.iter().map(|row| row.test.between.as_ref()),
        |row| (rows[row].slice, rows[row].centred),
        curve,
    );
    let within =
        Family::new(rows.iter().map(|row| row.test.within.as_ref()), |row| (rows[row].slice, rows[row].centred), curve);
    let number = |value: &dyn Fn(usize) -> Option<f64>| -> ArrayRef {
        let finite = |row: usize| value(row).filter(|value| value.is_finite());
        Arc::new((0..rows.len()).map(finite).collect::<Float64Array>())
    };
    let count = |value: &dyn Fn(&Row) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| value(row) as u32)))
    };
    let pairs: Vec<(usize, usize)> = rows.iter().map(|row| (row.pair.a, row.pair.b)).collect();
    let test = |row: usize| &rows[row].test;
    let mut arrays = slice_arrays(rows.iter().map(|row| (&slices[row.slice], 1)))?.to_vec();
    arrays.extend(group_arrays(groups, &pairs));
    arrays.extend([
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.centred)))) as ArrayRef,
        count(&|row| row.test.n_a),
        count(&|row| row.test.n_b),
        count(&|row| row.test.mean.map_or(0, |mean| mean.pairs)),
        count(&|row| row.test.same),
        count(&|row| row.left_out),
        number(&|row| Some(rows[row].missing)),
        count(&|row| row.width),
        number(&|row| Some(rows[row].mean_share)),
        number(&|row| test(row).mean.map(|mean| mean.mean)),
        number(&|row| test(row).mean?.interval.map(|interval| interval.low)),
        number(&|row| test(row).mean?.interval.map(|interval| interval.high)),
        number(&|row| Some(between.null(row)?.mean)),
        number(&|row| Some(between.null(row)?.std)),
        number(&|row| between.null(row)?.effect_size),
        number(&|row| between.p_value(row)),
        number(&|row| between.p_holm(row)),
        number(&|row| between.p_max(row)),
        number(&|row| test(row).within_a),
        number(&|row| test(row).within_b),
        number(&|row| within.p_value(row)),
        number(&|row| within.p_holm(row)),
        number(&|row| within.p_max(row)),
    ]);
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}
