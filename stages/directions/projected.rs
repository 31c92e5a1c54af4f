//! `[stages.projections]`: which states are projected on which directions. The stages that summarise projections read
//! the same section.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::contract::node::Bindings;
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection};
use crate::contract::toml_path::at;
use crate::directions::settings::Settings as DirectionSettings;
use crate::table::{Column, Kind, column};

pub const FOLDS: Column = column(
    "folds",
    Kind::U32,
    "folds of the cross-fitting: each example lies on the direction from the examples outside its own fold; 0: on the \
     direction from all examples",
);
pub const FITTED: Column = column(
    "fitted",
    Kind::Bool,
    "whether the examples are those that the direction was found from: then they lie along it further than others would, \
     and intervals and p-values say nothing about others",
);

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
    /// What this dataset is to the direction; `None` where the direction comes from another one.
    pub own: Option<Own>,
    /// The folds of `[stages.directions]`.
    pub folds: u32,
}

impl Projected {
    /// Whether the projected examples are among those that the direction was found from.
    pub fn fitted(&self) -> bool {
        self.own.is_some() && self.folds == 0
    }

    /// By how much of its difference b - a an example moves the mean that the direction is found from, when its states
    /// under two models are exchanged: 1 for source and target themselves, 1/2 for one of them and a third model, with the
    /// sign of the way it moves it; 0 where the direction stays as it is.
    pub fn moved(&self, model_a: &str, model_b: &str) -> f64 {
        // 1 for what is a's, -1 for what is b's.
        let whose = |model: &str| f64::from(u8::from(model == model_a)) - f64::from(u8::from(model == model_b));
        let (source, target) = (whose(&self.pair.source) / 2.0, whose(&self.pair.target) / 2.0);
        match self.own {
            Some(_) if self.folds == 0 => 0.0,
            Some(Own::Paired) => source - target,
            Some(Own::Source) => source,
            Some(Own::Target) => -target,
            None => 0.0,
        }
    }

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

/// How a direction is found from a dataset's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// From their paired differences under its two models.
    Paired,
    /// It leads from their mean to another dataset's.
    Source,
    /// It leads from another dataset's mean to theirs.
    Target,
}

/// Everything that is projected in a pipeline under these settings.
pub fn projected(settings: &Settings, pipeline: &Pipeline) -> Result<Vec<Projected>, PlanError> {
    let at = |key: &str| at("stages.projections").key(key);
    if settings.components == 0 {
        return Err(PlanError::new(at("components"), "components must be at least 1"));
    }
    let directions: DirectionSettings = pipeline.section("directions")?;
    let with_directions: HashSet<String> = directions.datasets(pipeline)?.into_iter().collect();
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
            let own = || with_directions.get(&dataset.name).cloned().into_iter().collect();
            for direction in chosen.clone().unwrap_or_else(own) {
                found.push(Projected {
                    own: (direction == dataset.name).then_some(Own::Paired),
                    direction,
                    pair: pair.clone(),
                    dataset: dataset.name.clone(),
                    models: models.clone(),
                    folds: directions.folds,
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
                own: Some(if dataset.name == contrast.source { Own::Source } else { Own::Target }),
                folds: directions.folds,
            });
        }
    }
    Ok(found)
}
