//! Projections of a model and dataset in one line per layer: mean, spread and interval.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{RESAMPLES_SETTING, SEED_SETTING, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{COMPONENT, KIND, name_arrays};
use crate::directions::projected::projected;
use crate::directions::projection_table::{PROJECTION_COLUMNS, read_projections};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::statistics::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::statistics::box_plot::{self, BOX_COLUMNS};
use crate::statistics::moments::{mean, std};
use crate::table::columns::{CI_HIGH, CI_LOW};
use crate::table::folders::{DATASET, DIRECTION, MODEL, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

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

const TABLE: Table = Table {
    name: "projection_summary",
    folders: &[DIRECTION, SOURCE, TARGET, MODEL, DATASET],
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
        BOX_COLUMNS[0],
        BOX_COLUMNS[1],
        BOX_COLUMNS[2],
        BOX_COLUMNS[3],
        BOX_COLUMNS[4],
        BOX_COLUMNS[5],
        BOX_COLUMNS[6],
    ],
};

pub static STAGE: Stage = Stage {
    name: "projection_summary",
    version: 2,
    about: "Mean, spread and bootstrap interval of a model's projections on a direction, per layer.",
    asked_by_default: true,
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
    let mut nodes = Vec::new();
    for projected in projected(&pipeline.section("projections")?, pipeline)? {
        for model in &projected.models {
            let bindings = projected.bindings(model);
            let projections = Input::node("projections", "projections", bindings.clone());
            nodes.push(Node {
                stage: STAGE.name,
                bindings,
                params: json!(settings),
                inputs: vec![projections.columns(PROJECTION_COLUMNS)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
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
    let mut arrays: Vec<ArrayRef> = vec![
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
    ];
    arrays.extend(box_plot::arrays(curves.values().map(|curve| curve.values.as_slice())));
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}
