//! What patching does on average over a dataset's examples, per layer and metric.

mod figure;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::patched::{self, Positions};
use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::statistics::band::half_widths;
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::statistics::moments::{mean, quantile};
use crate::table::folders::{DATASET, PATCH_SOURCE, PATCH_TARGET};
use crate::table::{self, Kind, Table, column, values};

/// `[stages.patching_summary]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    resamples: usize,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { resamples: RESAMPLES, seed: 0 }
    }
}

/// The parameters of a task.
#[derive(Debug, Serialize, Deserialize)]
struct Params {
    positions: Positions,
    resamples: usize,
    seed: u64,
}

const COLUMNS: &[&str] = &["layer", "last_layer", "metric", "value", "clean_source", "clean_target", "change"];

const TABLE: Table = Table {
    name: "patching_summary",
    folders: &[PATCH_SOURCE, PATCH_TARGET, DATASET],
    columns: &[
        column("metric", Kind::Text, "loss, logprob or entropy, as in patching"),
        column("layer", Kind::U32, "the patched layer"),
        column(
            "last_layer",
            Kind::Bool,
            "whether it is the model's last layer, where the stream is the source's own: what comes out is the source's but for \
             the final norm and the head",
        ),
        column(
            "positions",
            Kind::Text,
            "which tokens' states were put in: all (then all that is above the patch computes from the source's states, so the \
             curve's way to the source is a check, not a finding), response or last",
        ),
        column("n", Kind::U32, "number of examples"),
        column(
            "mean",
            Kind::F64,
            "mean over examples of the patched target's value, in nats; null where there is none",
        ),
        column(
            "ci_low",
            Kind::F64,
            "lower end of the 95 % bootstrap interval of the mean over examples, widened for few examples",
        ),
        column("ci_high", Kind::F64, "upper end of the interval"),
        column("clean_source", Kind::F64, "mean over examples of the source model's value"),
        column("clean_target", Kind::F64, "mean over examples of the target model's value without a patch"),
        column(
            "closed",
            Kind::F64,
            "share of the way from the clean target to the clean source, (mean - clean_target) / (clean_source - \
             clean_target); null where the two differ by less than 1 % of the larger",
        ),
        column("effect", Kind::F64, "mean over examples of the patched target's value less the clean target's"),
        column(
            "effect_low",
            Kind::F64,
            "lower end of the effect's 95 % bootstrap interval over examples, widened for few examples",
        ),
        column("effect_high", Kind::F64, "upper end of the interval"),
        column(
            "effect_per_change",
            Kind::F64,
            "effect / mean over examples of the patch's size beside what it replaced: the effect of a patch as long as the stream; \
             null where no patch changed anything",
        ),
        column(
            "per_change_low",
            Kind::F64,
            "lower end of its 95 % interval over examples, which holds for all layers of the metric at once, so that the layer \
             with the largest may be read off; null with fewer than 4 examples. Too narrow where few examples have most of the \
             effect",
        ),
        column("per_change_high", Kind::F64, "upper end of the interval"),
        column("change", Kind::F64, "median over examples of the patch's size beside what it replaced"),
        column("without_change", Kind::U32, "number of examples whose patch changed nothing"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "patching_summary",
    version: 2,
    about: "Mean effect of a patch over a dataset's examples, per layer and metric, with intervals and the clean models beside \
     it.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[RESAMPLES_SETTING, SEED_SETTING],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let positions = patched::positions(pipeline)?;
    let params = json!(Params { positions, resamples: settings.resamples, seed: settings.seed });
    let node = |bindings: Vec<(&'static str, String)>| Node {
        stage: STAGE.name,
        inputs: vec![Input::node("patching", "patching", bindings.clone()).columns(COLUMNS)],
        bindings,
        params: params.clone(),
        per_part: None,
    };
    Ok(patched::all_bindings(pipeline)?.into_iter().map(node).collect())
}

/// Of one metric at one layer, a value for each example that has one.
#[derive(Default)]
struct Effects {
    last_layer: bool,
    values: Vec<f64>,
    source: Vec<f64>,
    target: Vec<f64>,
    changes: Vec<f64>,
    /// The changes of the examples that have a value.
    valued: Vec<f64>,
}

impl Effects {
    fn effects(&self) -> Vec<f64> {
        self.values.iter().zip(&self.target).map(|(value, target)| value - target).collect()
    }

    /// NaN where no patch changed anything.
    fn per_change(&self) -> f64 {
        match mean(&self.valued) {
            change if change > 0.0 => mean(&self.effects()) / change,
            _ => f64::NAN,
        }
    }

    /// What each example adds to the effect per change, a ratio of means; zeros where there is none.
    fn influences(&self) -> Vec<f64> {
        let (ratio, change) = (self.per_change(), mean(&self.valued));
        let influence =
            |(effect, own): (f64, &f64)| if ratio.is_finite() { (effect - ratio * own) / change } else { 0.0 };
        self.effects().into_iter().zip(&self.valued).map(influence).collect()
    }
}

/// Random signs behind the simultaneous intervals.
const DRAWS: usize = 2000;

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let batch = table::read(task.parts("patching")?, COLUMNS)?;
    let (layers, metrics): (&UInt32Array, &StringArray) = (values(&batch, "layer")?, values(&batch, "metric")?);
    let numbers = |name: &str| -> Result<&Float32Array> { values(&batch, name) };
    let (found, source, target) = (numbers("value")?, numbers("clean_source")?, numbers("clean_target")?);
    let changes = numbers("change")?;
    let last_layers: &BooleanArray = values(&batch, "last_layer")?;
    let mut groups: BTreeMap<(&str, u32), Effects> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let effects = groups.entry((metrics.value(row), layers.value(row))).or_default();
        effects.last_layer = last_layers.value(row);
        effects.changes.push(f64::from(changes.value(row)));
        if [found, source, target].iter().all(|column| column.is_valid(row) && column.value(row).is_finite()) {
            effects.values.push(f64::from(found.value(row)));
            effects.source.push(f64::from(source.value(row)));
            effects.target.push(f64::from(target.value(row)));
            effects.valued.push(f64::from(changes.value(row)));
        }
    }
    let sizes = groups.values().map(|effects| effects.values.len());
    let resamples = Resamples::by_size(sizes, params.resamples, params.seed);
    let interval = |values: &[f64]| resamples[&values.len()].widened_mean_interval(values);
    let intervals: Vec<_> = groups.values().map(|effects| interval(&effects.values)).collect();
    let effect_intervals: Vec<_> = groups.values().map(|effects| interval(&effects.effects())).collect();
    let mut widths = Vec::new();
    let metric_names: BTreeSet<&str> = groups.keys().map(|(metric, _)| *metric).collect();
    for metric in metric_names {
        let of_metric = groups.iter().filter(|((name, _), _)| *name == metric);
        let influences: Vec<Vec<f64>> = of_metric.map(|(_, effects)| effects.influences()).collect();
        widths.extend(half_widths(&influences, DRAWS, params.seed, 1));
    }
    let ends = |found: &[Option<Interval>], end: fn(&Interval) -> f64| -> ArrayRef {
        Arc::new(found.iter().map(|found| found.as_ref().map(end)).collect::<Float64Array>())
    };
    let per_change = |side: f64| -> ArrayRef {
        let ends = groups.values().zip(&widths).map(|(effects, width)| Some(effects.per_change() + side * (*width)?));
        Arc::new(ends.map(|end| end.filter(|end| end.is_finite())).collect::<Float64Array>())
    };
    let number = |of: &dyn Fn(&Effects) -> f64| -> ArrayRef {
        let column: Float64Array = groups.values().map(|effects| Some(of(effects)).filter(|x| x.is_finite())).collect();
        Arc::new(column)
    };
    let count = |of: &dyn Fn(&Effects) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(groups.values().map(|effects| of(effects) as u32)))
    };
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values(groups.keys().map(|(metric, _)| metric))),
        Arc::new(UInt32Array::from_iter_values(groups.keys().map(|(_, layer)| *layer))),
        Arc::new(groups.values().map(|effects| Some(effects.last_layer)).collect::<BooleanArray>()),
        Arc::new(StringArray::from_iter_values(groups.values().map(|_| params.positions.name()))),
        count(&|effects| effects.values.len()),
        number(&|effects| mean(&effects.values)),
        ends(&intervals, |found| found.low),
        ends(&intervals, |found| found.high),
        number(&|effects| mean(&effects.source)),
        number(&|effects| mean(&effects.target)),
        number(&|effects| closed(mean(&effects.values), mean(&effects.source), mean(&effects.target))),
        number(&|effects| mean(&effects.effects())),
        ends(&effect_intervals, |found| found.low),
        ends(&effect_intervals, |found| found.high),
        number(&Effects::per_change),
        per_change(-1.0),
        per_change(1.0),
        number(&|effects| {
            let mut changes = effects.changes.clone();
            changes.sort_by(f64::total_cmp);
            quantile(&changes, 0.5)
        }),
        count(&|effects| effects.changes.iter().filter(|change| **change == 0.0).count()),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// NaN where the clean models do not differ by their means' second digit.
fn closed(patched: f64, source: f64, target: f64) -> f64 {
    match (source - target).abs() < 0.01 * source.abs().max(target.abs()) {
        true => f64::NAN,
        false => (patched - target) / (source - target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;
    use crate::testing::tables::{TestTables, assert_near, f32s, numbers, run, text, u32s};

    fn params() -> Value {
        json!({ "positions": "last", "resamples": 200, "seed": 0 })
    }

    fn flags(values: impl IntoIterator<Item = bool>) -> ArrayRef {
        Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
    }

    /// The effect per unit of change grows by 0.5 a layer; its intervals hold for all layers at once.
    #[test]
    fn the_layers_intervals_hold_together() {
        let (n, layers, count) = (16, 6, 150);
        let (mut all, mut means) = (0, 0);
        for stream in 0..count {
            let tables = TestTables::new();
            let mut random = Random::new(6, stream);
            let mut columns: [Vec<f32>; 2] = Default::default();
            let rows = (0..n).flat_map(|_| 0..layers);
            for _ in 0..n {
                let common = random.normal();
                for layer in 0..layers {
                    let change = 0.5 + 0.1 * random.normal();
                    let effect = 0.5 * f64::from(layer) * change + 0.3 * common + 0.3 * random.normal();
                    columns[0].push(5.0 + effect as f32);
                    columns[1].push(change as f32);
                }
            }
            let [value, change] = columns;
            let patching = tables.part(vec![
                ("layer", u32s(rows.clone())),
                ("last_layer", flags(rows.clone().map(|layer| layer + 1 == layers))),
                ("metric", text(rows.map(|_| "loss"))),
                ("clean_source", f32s(value.iter().map(|_| 1.0))),
                ("clean_target", f32s(value.iter().map(|_| 5.0))),
                ("value", f32s(value)),
                ("change", f32s(change)),
            ]);
            let found = run(&STAGE, params(), &[("patching", &[patching])]).unwrap();
            let of = |name: &str| numbers(&found, name);
            let inside = |layer: usize| {
                let truth = 0.5 * layer as f64;
                of("per_change_low")[layer] <= truth && truth <= of("per_change_high")[layer]
            };
            all += usize::from((0..layers as usize).all(inside));
            means += usize::from(of("effect_low")[2] <= 0.5 && 0.5 <= of("effect_high")[2]);
        }
        let share = |found: usize| found as f64 / count as f64;
        assert!((0.90..=0.99).contains(&share(all)), "all layers {}", share(all));
        assert!((0.90..=0.99).contains(&share(means)), "one effect {}", share(means));
    }

    #[test]
    fn the_share_of_the_way_that_a_patch_closes() {
        let tables = TestTables::new();
        // Two examples, clean means 2 and 4; patched at layer 0 they stay, at layer 1 their mean is 2.5.
        let patching = tables.part(vec![
            ("layer", u32s([0, 1, 0, 1])),
            ("last_layer", flags([false, true, false, true])),
            ("metric", text(["loss"; 4])),
            ("value", f32s([3.0, 1.5, 5.0, 3.5])),
            ("clean_source", f32s([1.0, 1.0, 3.0, 3.0])),
            ("clean_target", f32s([3.0, 3.0, 5.0, 5.0])),
            ("change", f32s([0.0, 0.5, 0.0, 0.7])),
        ]);
        let found = run(&STAGE, params(), &[("patching", &[patching])]).unwrap();
        assert_eq!((numbers(&found, "layer"), numbers(&found, "n")), (vec![0.0, 1.0], vec![2.0, 2.0]));
        assert_eq!((numbers(&found, "mean"), numbers(&found, "closed")), (vec![4.0, 2.5], vec![0.0, 0.75]));
        assert!(numbers(&found, "ci_low")[1] < 1.5 && numbers(&found, "ci_high")[1] > 3.5, "widened");
        assert_eq!(numbers(&found, "effect"), [0.0, -1.5]);
        assert_eq!((numbers(&found, "effect_low")[1], numbers(&found, "effect_high")[1]), (-1.5, -1.5));
        assert!(numbers(&found, "effect_per_change")[0].is_nan(), "nothing changed at layer 0");
        assert_near(numbers(&found, "effect_per_change")[1], -2.5, 1e-6);
        assert!(numbers(&found, "per_change_low")[1].is_nan(), "two examples are too few");
        assert_near(numbers(&found, "change")[1], 0.6, 1e-6);
        assert_eq!(numbers(&found, "without_change"), [2.0, 0.0]);
        assert!(closed(1.0, 1.0, 1.001).is_nan());
    }
}
