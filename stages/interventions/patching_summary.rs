//! What patching does on average over a dataset's examples, per layer and metric.

mod figure;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::patched;
use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};

use crate::statistics::bootstrap::{RESAMPLES, Resamples};
use crate::statistics::moments::{mean, quantile};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET, PATCH_SOURCE, PATCH_TARGET};
use crate::table::{self, Kind, Table, column, values};

/// `[stages.patching_summary]`, and the parameters of its tasks.
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

const COLUMNS: &[&str] = &["layer", "metric", "value", "clean_source", "clean_target", "change"];

const TABLE: Table = Table {
    name: "patching_summary",
    folders: &[PATCH_SOURCE, PATCH_TARGET, DATASET],
    columns: &[
        column("metric", Kind::Text, "loss, logprob or entropy, as in patching"),
        column("layer", Kind::U32, "the patched layer"),
        column("n", Kind::U32, "number of examples"),
        column(
            "mean",
            Kind::F64,
            "mean over examples of the patched target's value, in nats; null where there is none",
        ),
        CI_LOW,
        CI_HIGH,
        column("clean_source", Kind::F64, "mean over examples of the source model's value"),
        column("clean_target", Kind::F64, "mean over examples of the target model's value without a patch"),
        column(
            "closed",
            Kind::F64,
            "share of the way from the clean target to the clean source, (mean - clean_target) / (clean_source - \
             clean_target); null where the two differ by less than 1 % of the larger",
        ),
        column("change", Kind::F64, "median over examples of the patch's size beside what it replaced"),
        column("without_change", Kind::U32, "number of examples whose patch changed nothing"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "patching_summary",
    version: 1,
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
    let node = |bindings: Vec<(&'static str, String)>| Node {
        stage: STAGE.name,
        inputs: vec![Input::node("patching", "patching", bindings.clone()).columns(COLUMNS)],
        bindings,
        params: json!(settings),
        per_part: None,
    };
    Ok(patched::all_bindings(pipeline)?.into_iter().map(node).collect())
}

/// Of one metric at one layer, a value for each example that has one.
#[derive(Default)]
struct Effects {
    values: Vec<f64>,
    source: Vec<f64>,
    target: Vec<f64>,
    changes: Vec<f64>,
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let settings: Settings = task.params()?;
    let batch = table::read(task.parts("patching")?, COLUMNS)?;
    let (layers, metrics): (&UInt32Array, &StringArray) = (values(&batch, "layer")?, values(&batch, "metric")?);
    let numbers = |name: &str| -> Result<&Float32Array> { values(&batch, name) };
    let (found, source, target) = (numbers("value")?, numbers("clean_source")?, numbers("clean_target")?);
    let changes = numbers("change")?;
    let mut groups: BTreeMap<(&str, u32), Effects> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let effects = groups.entry((metrics.value(row), layers.value(row))).or_default();
        effects.changes.push(f64::from(changes.value(row)));
        if [found, source, target].iter().all(|column| column.is_valid(row) && column.value(row).is_finite()) {
            effects.values.push(f64::from(found.value(row)));
            effects.source.push(f64::from(source.value(row)));
            effects.target.push(f64::from(target.value(row)));
        }
    }
    let sizes = groups.values().map(|effects| effects.values.len());
    let resamples = Resamples::by_size(sizes, settings.resamples, settings.seed);
    let intervals: Vec<_> =
        groups.values().map(|effects| resamples[&effects.values.len()].mean_interval(&effects.values)).collect();
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
        count(&|effects| effects.values.len()),
        number(&|effects| mean(&effects.values)),
        Arc::new(intervals.iter().map(|found| found.as_ref().map(|found| found.low)).collect::<Float64Array>()),
        Arc::new(intervals.iter().map(|found| found.as_ref().map(|found| found.high)).collect::<Float64Array>()),
        number(&|effects| mean(&effects.source)),
        number(&|effects| mean(&effects.target)),
        number(&|effects| closed(mean(&effects.values), mean(&effects.source), mean(&effects.target))),
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
    use crate::testing::tables::{TestTables, assert_near, f32s, numbers, run, text, u32s};

    #[test]
    fn the_share_of_the_way_that_a_patch_closes() {
        let tables = TestTables::new();
        // Two examples, clean means 2 and 4; patched at layer 0 they stay, at layer 1 their mean is 2.5.
        let patching = tables.part(vec![
            ("layer", u32s([0, 1, 0, 1])),
            ("metric", text(["loss"; 4])),
            ("value", f32s([3.0, 1.5, 5.0, 3.5])),
            ("clean_source", f32s([1.0, 1.0, 3.0, 3.0])),
            ("clean_target", f32s([3.0, 3.0, 5.0, 5.0])),
            ("change", f32s([0.0, 0.5, 0.0, 0.7])),
        ]);
        let found = run(&STAGE, json!({ "resamples": 200, "seed": 0 }), &[("patching", &[patching])]).unwrap();
        assert_eq!((numbers(&found, "layer"), numbers(&found, "n")), (vec![0.0, 1.0], vec![2.0, 2.0]));
        assert_eq!((numbers(&found, "mean"), numbers(&found, "closed")), (vec![4.0, 2.5], vec![0.0, 0.75]));
        assert_eq!((numbers(&found, "ci_low")[1], numbers(&found, "ci_high")[1]), (1.5, 3.5));
        assert_near(numbers(&found, "change")[1], 0.6, 1e-6);
        assert_eq!(numbers(&found, "without_change"), [2.0, 0.0]);
        assert!(closed(1.0, 1.0, 1.001).is_nan());
    }
}
