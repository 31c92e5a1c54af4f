//! `[stages.projections]`: which states are projected on which directions. The stages that summarise projections read
//! the same section.

use serde::{Deserialize, Serialize};

use crate::contract::node::Bindings;
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection};
use crate::contract::toml_path::at;
use crate::directions::settings::Settings as DirectionSettings;

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
    let directions: DirectionSettings = pipeline.section("directions")?;
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
