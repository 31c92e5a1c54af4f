//! Projections of a model and dataset in one line per layer: mean, spread and interval.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::direction_table::{COMPONENT, KIND, name_arrays};
use crate::pipeline::{Pipeline, PlanError, parse_settings};
use crate::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::projection_table::{PROJECTION_COLUMNS, read_projections};
use crate::projections::projected;
use crate::stage::{Input, Node, Output, Setting, Stage, Task};
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::statistics::moments::{mean, std};
use crate::table::{Column, Kind, Table, column};

pub struct ProjectionSummary;

/// `[stages.projection_summary]`, and the parameters of its tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// The lower and upper end of a 95 % bootstrap interval.
pub const CI_LOW: Column = column("ci_low", Kind::F64, "lower end of the 95 % bootstrap interval over examples");
pub const CI_HIGH: Column = column("ci_high", Kind::F64, "upper end of the 95 % bootstrap interval over examples");

/// The settings of every stage that gives bootstrap intervals.
pub const RESAMPLES_SETTING: Setting =
    Setting { key: "resamples", default: "2000", about: "The number of bootstrap resamples behind an interval." };
pub const SEED_SETTING: Setting = Setting { key: "seed", default: "0", about: "The seed of every random draw." };

const TABLE: Table = Table {
    name: "projection_summary",
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        LAYER,
        SITE,
        column("n", Kind::U32, "number of examples"),
        column("mean", Kind::F64, "mean projection"),
        column("std", Kind::F64, "standard deviation of the projections (divisor n)"),
        CI_LOW,
        CI_HIGH,
    ],
};

impl Stage for ProjectionSummary {
    fn name(&self) -> &'static str {
        "projection_summary"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "Mean, spread and bootstrap interval of a model's projections on a direction, per layer."
    }

    fn table(&self) -> Option<Table> {
        Some(TABLE)
    }

    fn settings(&self) -> &'static [Setting] {
        &[RESAMPLES_SETTING, SEED_SETTING]
    }

    fn plan(&self, settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
        let settings: Settings = parse_settings(self.name(), settings)?;
        let mut nodes = Vec::new();
        for projected in projected(&pipeline.section("projections")?, pipeline)? {
            for model in &projected.models {
                let bindings = projected.bindings(model);
                let projections = Input::node("projections", "projections", bindings.clone());
                nodes.push(Node {
                    stage: self.name(),
                    bindings,
                    params: json!(settings),
                    inputs: vec![projections.columns(PROJECTION_COLUMNS)],
                    per_block: None,
                });
            }
        }
        Ok(nodes)
    }

    fn run(&self, task: &Task) -> Result<Vec<Output>> {
        let settings: Settings = task.params()?;
        let curves = read_projections(task.parts("projections")?)?;
        let sizes = curves.values().map(|curve| curve.values.len());
        let resamples = Resamples::by_size(sizes, settings.resamples, settings.seed);
        let intervals: Vec<Option<Interval>> =
            curves.par_iter().map(|(_, curve)| resamples[&curve.values.len()].mean_interval(&curve.values)).collect();

        let mut places = PlaceColumns::default();
        let mut names = Vec::new();
        for (name, place) in curves.keys() {
            names.push(*name);
            places.push(place);
        }
        let [kinds, components] = name_arrays(&names);
        let [positions, layers, sites] = places.arrays();
        let each = |statistic: fn(&[f64]) -> f64| {
            Arc::new(Float64Array::from_iter_values(curves.values().map(|curve| statistic(&curve.values))))
        };
        let batch = TABLE.batch(vec![
            kinds,
            components,
            positions,
            layers,
            sites,
            Arc::new(UInt32Array::from_iter_values(curves.values().map(|curve| curve.values.len() as u32))),
            each(mean),
            each(std),
            Arc::new(intervals.iter().map(|found| found.map(|found| found.low)).collect::<Float64Array>()),
            Arc::new(intervals.iter().map(|found| found.map(|found| found.high)).collect::<Float64Array>()),
        ])?;
        Ok(vec![Output::table(batch)])
    }
}
