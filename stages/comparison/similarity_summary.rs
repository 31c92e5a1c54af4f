//! Mean cosine similarity of two groups, with its interval, and a permutation test of the group labels.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::comparison::compared::{Settings as ComparisonSettings, comparisons};
use crate::comparison::groups::{CENTRED, Groups, PairParams, SLICE_COLUMNS, Sizes, pooled, slice_arrays};
use crate::contract::cost::{Cost, Expected};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{PERMUTATIONS_SETTING, RESAMPLES_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{gram, scale_to_unit};
use crate::states::state_table::States;
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::statistics::moments::{mean, std};
use crate::statistics::permutation::{PERMUTATIONS, label_permutations, p_value};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET_A, DATASET_B, MODEL_A, MODEL_B, OF};
use crate::table::{Kind, Table, column};

/// `[stages.similarity_summary]`.
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

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    pair: PairParams,
    resamples: usize,
    permutations: usize,
    seed: u64,
}

const TABLE: Table = Table {
    name: "similarity_summary",
    folders: &[OF, MODEL_A, DATASET_A, MODEL_B, DATASET_B],
    columns: &[
        SLICE_COLUMNS[0],
        SLICE_COLUMNS[1],
        SLICE_COLUMNS[2],
        SLICE_COLUMNS[3],
        CENTRED,
        column("n_a", Kind::U32, "number of examples of group a"),
        column("n_b", Kind::U32, "number of examples of group b"),
        column("n_pairs", Kind::U32, "number of pairs of examples; within one group, of different ones"),
        column("mean", Kind::F64, "mean cosine over the pairs; null where there is none"),
        CI_LOW,
        CI_HIGH,
        column("null_mean", Kind::F64, "mean of the same with the group labels permuted over the comparison"),
        column("null_std", Kind::F64, "standard deviation of the same"),
        column("p_value", Kind::F64, "permutation test of the group labels, two-sided"),
        column("effect_size", Kind::F64, "(mean - null_mean) / null_std; null where that is 0"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "similarity_summary",
    version: 2,
    about: "Mean cosine similarity of pairs of groups, with intervals and a permutation test of the group labels.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[RESAMPLES_SETTING, PERMUTATIONS_SETTING, SEED_SETTING],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: figure::FIGURES,
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let compared: ComparisonSettings = pipeline.section("similarity")?;
    let mut nodes = Vec::new();
    for comparison in comparisons(&compared, pipeline)? {
        for (a, b) in comparison.pairs() {
            let mut params = comparison.params(&compared);
            for (key, value) in [
                ("a", a.into()),
                ("b", b.into()),
                ("resamples", settings.resamples.into()),
                ("permutations", settings.permutations.into()),
                ("seed", Value::from(settings.seed)),
            ] {
                params[key] = value;
            }
            nodes.push(Node {
                stage: STAGE.name,
                bindings: comparison.pair(a, b),
                params,
                inputs: comparison.inputs(),
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

/// The cosines of all vectors of the comparison, raw and centred, and their means over every resample and
/// permutation.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let sizes = Sizes::expected(&params.pair.reading, expected)?;
    let (n, pairs) = (sizes.examples(), sizes.pairs(params.pair.a, params.pair.b)?);
    let means = 2.0 * pairs * (params.resamples + params.permutations) as f64;
    let flops = 2.0 * sizes.slices * (n * n * sizes.width + means);
    // Permutations are lists of all members.
    let memory = sizes.memory() + 8.0 * n * n + 8.0 * n * params.permutations as f64;
    Some(Cost { flops, memory, ..Cost::default() })
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let groups = Groups::open(task, &params.pair.reading)?;
    let (mut slices, mut rows) = (Vec::new(), Vec::new());
    for slice in groups.slices() {
        let loaded = groups.load(&slice)?;
        for centred in [false, true] {
            rows.push((centred, summarise(&loaded, centred, &params)));
        }
        slices.push((slice, 2));
    }
    let [positions, layers, sites, modules] = slice_arrays(&slices);
    let number = |value: fn(&Summary) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, row)| value(row)).collect::<Float64Array>())
    };
    let count = |value: fn(&Summary) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, row)| value(row) as u32)))
    };
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        modules,
        Arc::new(BooleanArray::from_iter(rows.iter().map(|(centred, _)| Some(*centred)))),
        count(|row| row.n_a),
        count(|row| row.n_b),
        count(|row| row.n_pairs),
        number(|row| row.mean),
        number(|row| row.interval.map(|interval| interval.low)),
        number(|row| row.interval.map(|interval| interval.high)),
        number(|row| row.null.map(|null| null.mean)),
        number(|row| row.null.map(|null| null.std)),
        number(|row| row.null.map(|null| null.p_value)),
        number(|row| row.null.and_then(|null| null.effect_size)),
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Summary {
    n_a: usize,
    n_b: usize,
    n_pairs: usize,
    mean: Option<f64>,
    interval: Option<Interval>,
    null: Option<NullTest>,
}

#[derive(Clone, Copy)]
struct NullTest {
    mean: f64,
    std: f64,
    p_value: f64,
    effect_size: Option<f64>,
}

/// Cosines of every vector of the comparison with every other.
struct Cosines {
    /// Row-major [members, members].
    matrix: Vec<f64>,
    members: usize,
}

impl Cosines {
    /// The sum of a row's entries at `columns`, weighted. Eight running sums keep the additions from waiting for
    /// each other, and are added up in a fixed order.
    fn row(&self, i: usize, columns: &[usize], weights: &[f64]) -> f64 {
        let row = &self.matrix[i * self.members..][..self.members];
        let mut sums = [0.0; 8];
        let (whole, rest) = columns.as_chunks::<8>();
        let (whole_weights, rest_weights) = weights.as_chunks::<8>();
        for (columns, weights) in whole.iter().zip(whole_weights) {
            for lane in 0..8 {
                sums[lane] += weights[lane] * row[columns[lane]];
            }
        }
        let rest: f64 = rest.iter().zip(rest_weights).map(|(&j, &weight)| weight * row[j]).sum();
        sums.iter().sum::<f64>() + rest
    }

    /// The mean over pairs of a member of `a` and one of `b`, weighted by the product of their weights.
    fn between(&self, a: &[usize], b: &[usize], weights: (&[f64], &[f64])) -> f64 {
        let of_b: f64 = weights.1.iter().sum();
        let (mut sum, mut weight) = (0.0, 0.0);
        for (&i, &w) in a.iter().zip(weights.0).filter(|(_, w)| **w > 0.0) {
            sum += w * self.row(i, b, weights.1);
            weight += w * of_b;
        }
        sum / weight
    }

    /// The mean over pairs of different members of `a`, weighted by the product of their weights.
    fn within(&self, a: &[usize], weights: &[f64]) -> f64 {
        let (mut sum, mut weight) = (0.0, 0.0);
        let mut after: f64 = weights.iter().sum();
        for (first, (&i, &w)) in a.iter().zip(weights).enumerate() {
            after -= w;
            if w > 0.0 {
                sum += w * self.row(i, &a[first + 1..], &weights[first + 1..]);
                weight += w * after;
            }
        }
        sum / weight
    }
}

fn summarise(groups: &[States], centred: bool, params: &Params) -> Summary {
    let mut pool = pooled(groups, centred);
    let width = groups[0].width;
    pool.chunks_exact_mut(width).for_each(|vector| {
        scale_to_unit(vector);
    });
    let members = pool.len() / width;
    let cosines = Cosines { matrix: gram(&pool, width), members };
    let (a, b) = (params.pair.a, params.pair.b);
    let range = |group: usize| -> Vec<usize> {
        let start: usize = groups[..group].iter().map(|group| group.examples.len()).sum();
        (start..start + groups[group].examples.len()).collect()
    };
    let (in_a, in_b) = (range(a), range(b));
    let (n_a, n_b) = (in_a.len(), in_b.len());
    let n_pairs = if a == b { n_a * n_a.saturating_sub(1) / 2 } else { n_a * n_b };
    if n_pairs == 0 {
        return Summary { n_a, n_b, n_pairs, mean: None, interval: None, null: None };
    }
    let ones = vec![1.0; n_a.max(n_b)];
    let statistic = |in_a: &[usize], in_b: &[usize]| match a == b {
        true => cosines.within(in_a, &ones[..n_a]),
        false => cosines.between(in_a, in_b, (&ones[..n_a], &ones[..n_b])),
    };
    let observed = statistic(&in_a, &in_b);

    let drawn_a: Vec<Vec<f64>> = Resamples::new(n_a, params.resamples, params.seed, 0).counts().collect();
    // Two groups of the same examples (one dataset under two models) are resampled together.
    let stream = if groups[a].examples == groups[b].examples { 0 } else { 1 };
    let drawn_b: Vec<Vec<f64>> = Resamples::new(n_b, params.resamples, params.seed, stream).counts().collect();
    let resampled: Vec<f64> = drawn_a
        .par_iter()
        .zip(&drawn_b)
        .map(|(a_weights, b_weights)| match a == b {
            true => cosines.within(&in_a, a_weights),
            false => cosines.between(&in_a, &in_b, (a_weights, b_weights)),
        })
        .collect();

    let permuted: Vec<f64> = label_permutations(members, params.permutations, params.seed, 2)
        .par_iter()
        .map(|order| match a == b {
            true => statistic(&order[..n_a], &[]),
            false => statistic(&order[..n_a], &order[n_a..n_a + n_b]),
        })
        .collect();
    let (null_mean, null_std) = (mean(&permuted), std(&permuted));
    // In a comparison of one group every permutation is the group itself.
    let varies = null_std > 1e-12;
    let null = (!permuted.is_empty()).then(|| NullTest {
        mean: null_mean,
        std: null_std,
        p_value: if varies { p_value(observed, &permuted, null_mean) } else { 1.0 },
        effect_size: varies.then(|| (observed - null_mean) / null_std),
    });
    Summary { n_a, n_b, n_pairs, mean: Some(observed), interval: Interval::of(resampled), null }
}
