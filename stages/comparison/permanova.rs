//! Whether the groups of a comparison differ at all: permutational analysis of variance (Anderson 2001) of the examples' cosines.

mod figure;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::comparison::compared::{Centring, Fill, Group, nodes};
use crate::comparison::cosines::{Cosines, Vectors};
use crate::comparison::fill::Filled;
use crate::comparison::groups::{CENTRED, SLICE_COLUMNS, Sizes, Slice, slice_arrays};
use crate::comparison::task::Comparing;
use crate::contract::cost::{Cost, Expected};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{combinations, dot};
use crate::statistics::label_sums::{squared_sums, sums, within};
use crate::statistics::labels::{LABELS_KEPT, Labels, Permutations};
use crate::statistics::max_statistic::{Centre, MaxStatistic};
use crate::statistics::moments::mean;
use crate::statistics::permutation::PERMUTATIONS;
use crate::statistics::row_sums::Panels;
use crate::table::folders::{COMPARISON, OF, SHARED};
use crate::table::{Kind, Table, column};

/// `[stages.permanova]`.
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
    name: "permanova",
    folders: &[OF, COMPARISON, SHARED],
    columns: &[
        SLICE_COLUMNS[0],
        SLICE_COLUMNS[1],
        SLICE_COLUMNS[2],
        SLICE_COLUMNS[3],
        CENTRED,
        column("n_groups", Kind::U32, "number of groups that have examples"),
        column("n", Kind::U32, "number of examples of all groups"),
        column("left_out", Kind::U32, "examples that have fewer than `least` losses and are left out"),
        column(
            "f",
            Kind::F64,
            "pseudo-F: squared distances (2 - 2 cosine) between groups by those within, each by its degrees of freedom; null with \
             one group",
        ),
        column("null_f", Kind::F64, "mean of the same with the group labels permuted"),
        column("r_squared", Kind::F64, "share of the squared distances that lies between groups"),
        column("null_r_squared", Kind::F64, "mean of the same with the group labels permuted"),
        column(
            "p_value",
            Kind::F64,
            "one-sided permutation test of all groups' labels: whether any group differs, in its mean or in its spread",
        ),
        column(
            "p_max",
            Kind::F64,
            "the same corrected over the layers or modules of the table by the largest statistic under the same permutations; null where there is one",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "permanova",
    version: 1,
    about: "Whether the groups of a comparison differ at all: one permutation test of their cosines for all groups.",
    asked_by_default: false,
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

/// The sums of every group's vectors, or of their cosines where these are fewer numbers, under all permutations.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let sizes = Sizes::expected(&params.comparing.reading, expected)?;
    let (n, permutations) = (sizes.examples(), params.permutations as f64);
    let summed = if params.comparing.fill == Fill::Pairwise { n } else { n.min(sizes.width) };
    let memory = sizes.memory() + 2.0 * 8.0 * n * summed + (4.0 * n * permutations).min(LABELS_KEPT);
    Some(Cost { flops: 2.0 * sizes.slices * 2.0 * n * summed * (summed + permutations), memory, ..Cost::default() })
}

/// The test at one place.
struct Row {
    slice: usize,
    centred: bool,
    groups: usize,
    n: usize,
    left_out: usize,
    found: Option<Analysis>,
}

struct Analysis {
    observed: Ratio,
    null: Vec<Ratio>,
}

#[derive(Clone, Copy)]
struct Ratio {
    f: f64,
    r_squared: f64,
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let groups = params.comparing.open(task, &params.groups)?;
    let slices = groups.slices();
    let mut rows: Vec<Row> = Vec::new();
    let mut known: Option<(Vec<String>, Permutations)> = None;
    let centring = params.comparing.centring;
    for (slice, place) in slices.iter().enumerate() {
        let filled = params.comparing.load(&groups, place)?;
        // Centring by pairs makes no one matrix for more groups than two.
        let centred = centring == Centring::Comparison || centring == Centring::Pair && filled.groups.len() == 2;
        for centred in [false, true].into_iter().take(1 + usize::from(centred)) {
            let chosen: Vec<usize> = (0..filled.groups.len()).collect();
            let vectors = Vectors::of(&filled, &chosen, centred, params.comparing.least);
            rows.push(Row {
                slice,
                centred,
                groups: filled.groups.iter().filter(|group| !group.examples.is_empty()).count(),
                n: filled.groups.iter().map(|group| group.examples.len()).sum(),
                left_out: filled.left_out.iter().sum(),
                found: analysis(&params, &filled, &vectors, &mut known),
            });
        }
        (task.progress)(slice as u64 + 1, slices.len() as u64);
        anyhow::ensure!(!(task.cancelled)(), "stopped");
    }
    table(&slices, &rows)
}

/// `None` where there are not two groups, or no more examples than groups.
fn analysis(
    params: &Params,
    filled: &Filled,
    vectors: &Vectors,
    known: &mut Option<(Vec<String>, Permutations)>,
) -> Option<Analysis> {
    let (mut labels, mut examples) = (Vec::new(), Vec::new());
    let groups: Vec<_> = filled.groups.iter().filter(|group| !group.examples.is_empty()).collect();
    for (label, group) in groups.iter().enumerate() {
        labels.extend(std::iter::repeat_n(label as u16, group.examples.len()));
        examples.extend(group.examples.iter().cloned());
    }
    if groups.len() < 2 || examples.len() <= groups.len() {
        return None;
    }
    if known.as_ref().is_none_or(|(of, _)| *of != examples) {
        let names: Vec<&str> = examples.iter().map(String::as_str).collect();
        let permuted = Permutations::new(labels.clone(), &names, params.permutations, params.seed, 0);
        *known = Some((examples.clone(), permuted));
    }
    let sizes: Vec<usize> = groups.iter().map(|group| group.examples.len()).collect();
    let null = &known.as_ref()?.1;
    let as_they_are = Labels::observed(&labels);
    let pairs = PairSums::of(vectors);
    let every_pair = sizes.iter().map(|n| (n * (n - 1)) as f64).collect::<Vec<f64>>();
    let ratios = |labels: &Labels| -> Vec<Ratio> {
        let (sums, counts) = pairs.within(labels, sizes.len());
        let counts = counts.as_deref().unwrap_or(&every_pair).chunks_exact(sizes.len()).cycle();
        let ratio = |(sums, counts)| ratio(sums, counts, (pairs.total, pairs.counted), &sizes);
        sums.chunks_exact(sizes.len()).zip(counts).map(ratio).collect()
    };
    let observed = ratios(&as_they_are)[0];
    let all = null.each(ratios);
    let finite = all.iter().chain([&observed]).all(|ratio| ratio.f.is_finite());
    (finite && !all.is_empty()).then_some(Analysis { observed, null: all })
}

/// The cosines of all ordered pairs of different examples, of which sums within groups are taken.
struct PairSums {
    form: Form,
    total: f64,
    /// The number of pairs that have a cosine, where not all do.
    counted: Option<f64>,
}

enum Form {
    /// Unit vectors, where these are fewer numbers than their cosines, and their squared lengths, which are 0 or 1.
    Vectors {
        vectors: Panels,
        squares: Vec<f64>,
    },
    Cosines {
        cosines: Panels,
        known: Option<Panels>,
    },
}

impl PairSums {
    fn of(vectors: &Vectors) -> PairSums {
        if let Some((units, width)) = vectors.units().filter(|(units, width)| *width < units.len() / width) {
            let squares: Vec<f64> = units.chunks_exact(width).map(|vector| dot(vector, vector)).collect();
            let sum = combinations(&vec![1.0; squares.len()], units, width);
            let total = dot(&sum, &sum) - squares.iter().sum::<f64>();
            return PairSums {
                form: Form::Vectors { vectors: Panels::new(units, width), squares },
                total,
                counted: None,
            };
        }
        let Cosines { rows, values, known } = vectors.cosines();
        PairSums {
            total: values.iter().sum(),
            counted: known.as_ref().map(|known| known.iter().sum()),
            form: Form::Cosines {
                cosines: Panels::new(&values, rows),
                known: known.map(|known| Panels::new(&known, rows)),
            },
        }
    }

    /// Sums over the pairs within each group, and the numbers of pairs where not all have a cosine; row-major
    /// [permutations, groups].
    fn within(&self, labels: &Labels, groups: usize) -> (Vec<f64>, Option<Vec<f64>>) {
        let (all, groups) = (0..labels.len(), 0..groups as u16);
        match &self.form {
            Form::Vectors { vectors, squares } => {
                let mut found = squared_sums(vectors, labels, all.clone(), groups.clone());
                let own = sums(squares, labels, all, groups);
                found.iter_mut().zip(own).for_each(|(found, own)| *found -= own);
                (found, None)
            }
            Form::Cosines { cosines, known } => {
                let of = |matrix| within(matrix, labels, all.clone(), groups.clone());
                (of(cosines), known.as_ref().map(of))
            }
        }
    }
}

/// Sums of squared distances from the sums of cosines over ordered pairs, and the numbers of these pairs. Of n vectors it is
/// (n - 1) (1 - mean cosine).
fn ratio(sums: &[f64], counts: &[f64], total: (f64, Option<f64>), sizes: &[usize]) -> Ratio {
    let squares = |n: usize, sum: f64, count: f64| match n {
        0 | 1 => 0.0,
        _ => (n as f64 - 1.0) * (1.0 - sum / count),
    };
    let n: usize = sizes.iter().sum();
    let all = squares(n, total.0, total.1.unwrap_or((n * (n - 1)) as f64));
    let within: f64 = sizes.iter().zip(sums).zip(counts).map(|((&n, &sum), &count)| squares(n, sum, count)).sum();
    let between = (all - within) / (sizes.len() - 1) as f64;
    Ratio { f: between / (within / (n - sizes.len()) as f64), r_squared: 1.0 - within / all }
}

fn table(slices: &[Slice], rows: &[Row]) -> Result<Vec<Output>> {
    let number = |value: &dyn Fn(usize) -> Option<f64>| -> ArrayRef {
        let finite = |row: usize| value(row).filter(|value| value.is_finite());
        Arc::new((0..rows.len()).map(finite).collect::<Float64Array>())
    };
    let count = |value: &dyn Fn(&Row) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| value(row) as u32)))
    };
    let found = |row: usize| rows[row].found.as_ref();
    let null = |row: usize, of: fn(&Ratio) -> f64| Some(mean(&found(row)?.null.iter().map(of).collect::<Vec<f64>>()));
    let largest = largest(slices, rows);
    let mut arrays = slice_arrays(rows.iter().map(|row| (&slices[row.slice], 1)))?.to_vec();
    arrays.extend([
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.centred)))) as ArrayRef,
        count(&|row| row.groups),
        count(&|row| row.n),
        count(&|row| row.left_out),
        number(&|row| Some(found(row)?.observed.f)),
        number(&|row| null(row, |ratio| ratio.f)),
        number(&|row| Some(found(row)?.observed.r_squared)),
        number(&|row| null(row, |ratio| ratio.r_squared)),
        number(&|row| found(row).map(Analysis::p_value)),
        number(&|row| largest[row]),
    ]);
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}

impl Analysis {
    /// The share of labellings with at least the observed F, that one among them.
    fn p_value(&self) -> f64 {
        let least = self.observed.f - 1e-12 * self.observed.f.abs();
        let as_large = self.null.iter().filter(|ratio| ratio.f >= least).count();
        (1 + as_large) as f64 / (1 + self.null.len()) as f64
    }
}

/// The p-values corrected over layers or modules. F is at least 0, so that its distance from 0 is large where it is.
fn largest(slices: &[Slice], rows: &[Row]) -> Vec<Option<f64>> {
    let mut curves: BTreeMap<(Option<&str>, bool, usize), Vec<usize>> = BTreeMap::new();
    for (row, of) in rows.iter().enumerate().filter(|(_, row)| row.found.is_some()) {
        let position = slices[of.slice].place().map(|place| place.position.as_str());
        curves.entry((position, of.centred, of.n)).or_default().push(row);
    }
    let mut adjusted = vec![None; rows.len()];
    for curve in curves.values().filter(|curve| curve.len() > 1) {
        let tests: Vec<&Analysis> = curve.iter().filter_map(|&row| rows[row].found.as_ref()).collect();
        let observed: Vec<f64> = tests.iter().map(|test| test.observed.f).collect();
        let permutations = 0..tests[0].null.len();
        let null: Vec<f64> = permutations.flat_map(|at| tests.iter().map(move |test| test.null[at].f)).collect();
        let largest = MaxStatistic::new(&observed, &null, Centre::Zero);
        for (test, (&row, observed)) in curve.iter().zip(observed).enumerate() {
            adjusted[row] = largest.p_value(test, observed);
        }
    }
    adjusted
}

#[cfg(test)]
#[path = "permanova_tests.rs"]
mod tests;
