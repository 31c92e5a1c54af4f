//! `[stages.directions]`: which directions there are. The stages that compare directions, or project on them, read the
//! same section.

use serde::{Deserialize, Serialize};

use crate::contract::node::{Alike, Bindings, Input};
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset};
use crate::contract::toml_path::at;
use crate::directions::direction_table::DirectionKind;
use crate::states::state_table::STATE_COLUMNS;

/// `[stages.directions]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub pairs: Option<Vec<Pair>>,
    pub datasets: Selection,
    pub contrasts: Vec<Contrast>,
    pub positions: Vec<String>,
    pub kinds: Vec<DirectionKind>,
    pub components: u32,
    /// 0: directions from all examples alone.
    pub folds: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pairs: None,
            datasets: Selection::default(),
            contrasts: Vec::new(),
            positions: vec!["last".into()],
            kinds: vec![DirectionKind::MeanDifference, DirectionKind::Svd],
            components: 8,
            folds: 5,
        }
    }
}

impl Settings {
    /// The pairs that were written, or the first model to the second where none were.
    pub fn pairs(&self, pipeline: &Pipeline) -> Result<Vec<Pair>, PlanError> {
        let Some(pairs) = &self.pairs else { return Ok(Pair::first(pipeline).into_iter().collect()) };
        let same = "a direction is the difference between two models";
        Pair::check(pairs, &at("stages.directions.pairs"), pipeline, same)?;
        Ok(pairs.clone())
    }

    /// The contrasts, checked.
    pub fn contrasts(&self, pipeline: &Pipeline) -> Result<&[Contrast], PlanError> {
        for (i, contrast) in self.contrasts.iter().enumerate() {
            let at = at("stages.directions.contrasts").index(i);
            pipeline.model(&contrast.model, at.key("model"))?;
            pipeline.dataset(&contrast.source, at.key("source"))?;
            pipeline.dataset(&contrast.target, at.key("target"))?;
            let name = contrast.name();
            if contrast.source == contrast.target {
                return Err(PlanError::new(at, format!("\"{}\" is both source and target", contrast.source))
                    .help("a contrast is the difference between two datasets"));
            }
            if self.contrasts[..i].contains(contrast) {
                return Err(PlanError::new(at, format!("the contrast {name} in {} is there twice", contrast.model)));
            }
            if pipeline.find_dataset(&name).is_some() {
                return Err(PlanError::new(at, format!("the contrast would be named {name}, as a dataset is")));
            }
        }
        Ok(&self.contrasts)
    }

    /// The datasets that have directions.
    pub fn datasets(&self, pipeline: &Pipeline) -> Result<Vec<String>, PlanError> {
        let found = pipeline.datasets(&self.datasets, "stages.directions.datasets")?;
        Ok(found.into_iter().map(|dataset| dataset.name.clone()).collect())
    }

    pub fn check(&self) -> Result<(), PlanError> {
        let empty = |key: &str| PlanError::new(at("stages.directions").key(key), format!("{key} is empty"));
        match () {
            () if self.positions.is_empty() => Err(empty("positions")),
            () if self.kinds.is_empty() => Err(empty("kinds")),
            () if self.components == 0 => {
                Err(PlanError::new("stages.directions.components", "components must be at least 1"))
            }
            () if self.folds == 1 => {
                let error = PlanError::new("stages.directions.folds", "with one fold no example is outside it");
                Err(error.help("at least 2, or 0 for directions from all examples"))
            }
            () => Ok(()),
        }
    }
}

/// Within one model, a direction leads from the source dataset to the target dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    pub model: String,
    pub source: String,
    pub target: String,
}

impl Contrast {
    /// What stands for the dataset where the direction is named.
    pub fn name(&self) -> String {
        format!("{}-minus-{}", self.target, self.source)
    }

    /// A direction within a model leads from that model to itself.
    pub fn pair(&self) -> Pair {
        Pair { source: self.model.clone(), target: self.model.clone() }
    }

    pub fn inputs(&self) -> Vec<Input> {
        let states = |role: &str, dataset: &str| {
            Input::node(role, "hidden_states", model_dataset(&self.model, dataset)).columns(STATE_COLUMNS)
        };
        vec![states("source", &self.source), states("target", &self.target)]
    }
}

/// The bindings of the directions from a source to a target model on a dataset.
pub fn bindings(dataset: &str, pair: &Pair) -> Bindings {
    vec![("dataset", dataset.to_string()), ("source", pair.source.clone()), ("target", pair.target.clone())]
}

/// The inputs of a stage that reads the paired states of two models on a dataset.
pub fn state_inputs(dataset: &str, pair: &Pair) -> Vec<Input> {
    let states = |role: &str, model: &str| {
        Input::node(role, "hidden_states", model_dataset(model, dataset)).columns(STATE_COLUMNS).alike(Alike::Tokens)
    };
    vec![states("source", &pair.source), states("target", &pair.target)]
}
