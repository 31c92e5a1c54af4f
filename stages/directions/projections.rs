//! Scalar projections of hidden states on directions: how far along a direction a model's state lies.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Float64Array, StringArray};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Bindings, Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::directions::direction_table::{
    COMPONENT, DIRECTION_COLUMNS, DirectionName, KIND, name_arrays, read_directions,
};
use crate::directions::directions::{self, Pair};
use crate::linear_algebra::dot;
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable};
use crate::table::{Kind, Table, column};

/// `[stages.projections]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `"same"` (each dataset on its own directions), or the datasets whose directions are used.
    pub directions: Selection,
    pub pairs: Option<Vec<Pair>>,
    pub models: Selection,
    pub datasets: Selection,
    pub components: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            directions: Selection::One("same".into()),
            pairs: None,
            models: Selection::default(),
            datasets: Selection::default(),
            components: 1,
        }
    }
}

/// A direction's dataset and models, and a dataset that is projected on it under each of `models`.
pub struct Projected {
    pub direction: String,
    pub pair: Pair,
    pub dataset: String,
    pub models: Vec<String>,
}

impl Projected {
    /// The bindings of the projections of one model's states.
    pub fn bindings(&self, model: &str) -> Bindings {
        vec![
            ("direction", self.direction.clone()),
            ("source", self.pair.source.clone()),
            ("target", self.pair.target.clone()),
            ("model", model.to_string()),
            ("dataset", self.dataset.clone()),
        ]
    }

    /// The bindings of a comparison of two models' projections.
    pub fn comparison(&self, model_a: &str, model_b: &str) -> Bindings {
        vec![
            ("direction", self.direction.clone()),
            ("source", self.pair.source.clone()),
            ("target", self.pair.target.clone()),
            ("dataset", self.dataset.clone()),
            ("model_a", model_a.to_string()),
            ("model_b", model_b.to_string()),
        ]
    }

    /// Every unordered pair of models, in the order of the selection.
    pub fn model_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let models = &self.models;
        (0..models.len()).flat_map(move |a| (a + 1..models.len()).map(move |b| (&*models[a], &*models[b])))
    }
}

/// Everything that is projected in a pipeline under these settings.
pub fn projected(settings: &Settings, pipeline: &Pipeline) -> Result<Vec<Projected>, PlanError> {
    let at = |key: &str| at("stages.projections").key(key);
    if settings.components == 0 {
        return Err(PlanError::new(at("components"), "components must be at least 1"));
    }
    let directions: directions::Settings = pipeline.section("directions")?;
    let with_directions = directions.datasets(pipeline)?;
    let mut pairs = directions.pairs(pipeline)?;
    if let Some(wanted) = &settings.pairs {
        if let Some(i) = wanted.iter().position(|pair| !pairs.contains(pair)) {
            let message = format!("no direction leads from \"{}\" to \"{}\"", wanted[i].source, wanted[i].target);
            return Err(PlanError::new(at("pairs").index(i), message).help("add it to stages.directions.pairs"));
        }
        pairs.clone_from(wanted);
    }
    let models = pipeline.models(&settings.models, at("models"))?;
    let models: Vec<String> = models.into_iter().map(|model| model.name.clone()).collect();
    let datasets = pipeline.datasets(&settings.datasets, at("datasets"))?;
    let chosen: Option<Vec<String>> = if matches!(&settings.directions, Selection::One(name) if name == "same") {
        None
    } else {
        let chosen = pipeline.datasets(&settings.directions, at("directions"))?;
        let everything = matches!(&settings.directions, Selection::One(name) if name == "*");
        let mut names = Vec::new();
        for (i, dataset) in chosen.iter().enumerate() {
            if with_directions.contains(&dataset.name) {
                names.push(dataset.name.clone());
            } else if !everything {
                let at = if chosen.len() == 1 { at("directions") } else { at("directions").index(i) };
                return Err(PlanError::new(at, format!("dataset \"{}\" has no directions", dataset.name))
                    .help("add it to stages.directions.datasets"));
            }
        }
        Some(names)
    };
    let mut found = Vec::new();
    for pair in &pairs {
        for dataset in &datasets {
            let own = || with_directions.iter().filter(|name| **name == dataset.name).cloned().collect();
            for direction in chosen.clone().unwrap_or_else(own) {
                found.push(Projected {
                    direction,
                    pair: pair.clone(),
                    dataset: dataset.name.clone(),
                    models: models.clone(),
                });
            }
        }
    }
    // A contrast is between two datasets, and it is their states that are projected on it.
    for contrast in directions.contrasts(pipeline)? {
        for dataset in datasets.iter().filter(|dataset| [&contrast.source, &contrast.target].contains(&&dataset.name)) {
            found.push(Projected {
                direction: contrast.name(),
                pair: contrast.pair(),
                dataset: dataset.name.clone(),
                models: models.clone(),
            });
        }
    }
    Ok(found)
}

#[derive(Debug, Deserialize)]
struct Params {
    components: u32,
}

const TABLE: Table = Table {
    name: "projections",
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        LAYER,
        SITE,
        column("example", Kind::Text, "identity of the example"),
        column("projection", Kind::F64, "inner product of the hidden state and the unit direction"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "projections",
    version: 1,
    about: "Scalar projection of every example's hidden state on a direction, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "directions",
            "The datasets on whose directions states are projected: \"same\" (each dataset on its own), \"*\", or names.",
        ),
        setting("pairs", "The pairs of models whose directions are used. Without it those of stages.directions.")
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
        let directions = directions::bindings(&projected.direction, &projected.pair);
        for model in &projected.models {
            let states = model_dataset(model, &projected.dataset);
            nodes.push(Node {
                stage: STAGE.name,
                bindings: projected.bindings(model),
                params: json!({ "components": settings.components }),
                inputs: vec![
                    Input::node("direction", "directions", directions.clone()).columns(DIRECTION_COLUMNS),
                    Input::node("states", "hidden_states", states).columns(STATE_COLUMNS),
                ],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let directions = read_directions(task.parts("direction")?).context("the directions")?;
    let states = StateTable::open(task.parts("states")?)?;
    let mut found: Vec<Projection> = directions
        .par_iter()
        .map(|(place, directions)| project(&states, place, directions, params.components))
        .collect::<Result<Vec<_>>>()?
        .concat();
    found.sort_by(|a, b| (a.name, &a.place).cmp(&(b.name, &b.place)));

    let mut columns = PlaceColumns::default();
    let (mut names, mut examples, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for projection in found {
        for (example, value) in projection.examples.iter().zip(projection.values) {
            names.push(projection.name);
            columns.push(&projection.place);
            examples.push(example.clone());
            values.push(value);
        }
    }
    let [kinds, components] = name_arrays(&names);
    let [positions, layers, sites] = columns.arrays();
    let (examples, values) = (Arc::new(StringArray::from(examples)), Arc::new(Float64Array::from(values)));
    let batch = TABLE.batch(vec![kinds, components, positions, layers, sites, examples, values])?;
    Ok(vec![Output::table(batch)])
}

#[derive(Clone)]
struct Projection {
    name: DirectionName,
    place: Place,
    examples: Vec<String>,
    values: Vec<f64>,
}

fn project(
    states: &StateTable,
    place: &Place,
    directions: &[(DirectionName, Vec<f64>)],
    components: u32,
) -> Result<Vec<Projection>> {
    let states = states.load(place)?;
    let chosen = directions.iter().filter(|(name, _)| name.component <= components);
    chosen
        .map(|(name, direction)| {
            if direction.len() != states.width {
                bail!("the direction has {} numbers and the states {} at {place}", direction.len(), states.width);
            }
            let values = states.values.chunks_exact(states.width).map(|state| dot(state, direction)).collect();
            Ok(Projection { name: *name, place: place.clone(), examples: states.examples.clone(), values })
        })
        .collect()
}

#[cfg(test)]
#[path = "projections_tests.rs"]
mod tests;
