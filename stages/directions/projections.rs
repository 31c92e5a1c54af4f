//! Scalar projections of hidden states on directions: how far along a direction a model's state lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{Float64Array, StringArray, UInt32Array};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::contract::node::{Alike, Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{
    COMPONENT, DIRECTION_COLUMNS, DirectionName, Folds, KIND, name_arrays, read_folds,
};
use crate::directions::fold::fold;
use crate::directions::projected::{Settings, projected};
use crate::directions::settings;
use crate::linear_algebra::dot;
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE, TOKEN};
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable};
use crate::table::folders::{DATASET, DIRECTION, MODEL, SOURCE, TARGET};
use crate::table::{Kind, Table, column};

#[derive(Debug, Deserialize)]
struct Params {
    components: u32,
    #[serde(default)]
    folds: u32,
}

const TABLE: Table = Table {
    name: "projections",
    folders: &[DIRECTION, SOURCE, TARGET, MODEL, DATASET],
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        LAYER,
        SITE,
        column("example", Kind::Text, "identity of the example"),
        TOKEN,
        column(
            "fold",
            Kind::U32,
            "the example's fold, on whose direction the state is projected; 0: on that from all examples",
        ),
        column(
            "projection",
            Kind::F64,
            "inner product of the hidden state and the unit direction; null where the fold has no such direction",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "projections",
    version: 3,
    about: "Scalar projection of every example's hidden states on a direction, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "directions",
            "The datasets on whose directions states are projected: \"same\" (each dataset on its own), \"*\", or names.",
        ),
        setting("pairs", "The pairs of models whose directions are used. Without it: those of stages.directions.")
            .example("[{ source = \"base\", target = \"instruct\" }]"),
        setting("models", "The models whose states are projected."),
        setting("datasets", "The datasets whose states are projected."),
        setting("components", "How many singular vectors are projected on, beside the mean difference."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let mut nodes = Vec::new();
    for projected in projected(&settings, pipeline)? {
        let directions = settings::bindings(&projected.direction, &projected.pair);
        for model in &projected.models {
            let states = model_dataset(model, &projected.dataset);
            nodes.push(Node {
                stage: STAGE.name,
                bindings: projected.bindings(model),
                params: json!({ "components": settings.components, "folds": projected.folds }),
                inputs: vec![
                    Input::node("direction", "directions", directions.clone())
                        .columns(DIRECTION_COLUMNS)
                        .alike(Alike::States),
                    Input::node("states", "hidden_states", states).columns(STATE_COLUMNS).alike(Alike::States),
                ],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let directions = read_folds(task.parts("direction")?).context("the directions")?;
    let states = StateTable::open(task.parts("states")?)?;
    let mut found: Vec<Projection> = directions
        .par_iter()
        .map(|(place, directions)| project(&states, place, directions, &params))
        .collect::<Result<Vec<_>>>()?
        .concat();
    found.sort_by(|a, b| (a.name, &a.place).cmp(&(b.name, &b.place)));

    let mut columns = PlaceColumns::default();
    let (mut names, mut examples, mut folds, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut tokens: Vec<u32> = Vec::new();
    for projection in found {
        tokens.extend(projection.examples.chunk_by(|one, next| one == next).flat_map(|states| 0..states.len() as u32));
        for (example, value) in projection.examples.iter().zip(projection.values) {
            names.push(projection.name);
            columns.push(&projection.place);
            folds.push(fold(example, params.folds));
            examples.push(example.clone());
            values.push(value);
        }
    }
    let [kinds, components] = name_arrays(&names);
    let [positions, layers, sites] = columns.arrays();
    let batch = TABLE.batch(vec![
        kinds,
        components,
        positions,
        layers,
        sites,
        Arc::new(StringArray::from(examples)),
        Arc::new(UInt32Array::from(tokens)),
        Arc::new(UInt32Array::from(folds)),
        Arc::new(Float64Array::from(values)),
    ])?;
    Ok(vec![Output::table(batch)])
}

#[derive(Clone)]
struct Projection {
    name: DirectionName,
    place: Place,
    examples: Vec<String>,
    values: Vec<Option<f64>>,
}

/// Every state on the direction of its example's fold, whatever dataset it is of: no direction has seen an example that is
/// projected on it, nor has one of another dataset that holds the same conversation.
fn project(
    states: &StateTable,
    place: &Place,
    directions: &BTreeMap<DirectionName, Folds<Vec<f64>>>,
    params: &Params,
) -> Result<Vec<Projection>> {
    let states = states.load_tokens(place)?;
    let chosen = directions.iter().filter(|(name, _)| name.component <= params.components);
    chosen
        .map(|(name, folds)| {
            let width = folds.values().map(Vec::len).next().unwrap_or(states.width);
            ensure!(
                width == states.width,
                "the direction has {width} numbers and the states {} at {place}",
                states.width
            );
            let value = |(example, state): (&String, &[f64])| {
                folds.get(&fold(example, params.folds)).map(|direction| dot(state, direction))
            };
            let rows = states.examples.iter().zip(states.values.chunks_exact(states.width));
            let values = rows.map(value).collect();
            Ok(Projection { name: *name, place: place.clone(), examples: states.examples.clone(), values })
        })
        .collect()
}

#[cfg(test)]
#[path = "projections_tests.rs"]
mod tests;
