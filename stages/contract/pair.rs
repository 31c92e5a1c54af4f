//! Two models, one of which is held against the other.

use serde::{Deserialize, Serialize};

use super::pipeline::{Pipeline, PlanError};
use super::toml_path::TomlPath;

/// A direction leads from the source model to the target model; a patch puts the source's states into the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub source: String,
    pub target: String,
}

impl Pair {
    /// The pipeline's first model and its second, where it has two.
    pub fn first(pipeline: &Pipeline) -> Option<Pair> {
        match pipeline.models.as_slice() {
            [source, target, ..] => Some(Pair { source: source.name.clone(), target: target.name.clone() }),
            _ => None,
        }
    }

    /// Checks that each pair at this path names two models of the pipeline, and none is there twice; `same` says what is
    /// wrong with a model paired with itself.
    pub fn check(pairs: &[Pair], path: &TomlPath, pipeline: &Pipeline, same: &str) -> Result<(), PlanError> {
        for (i, pair) in pairs.iter().enumerate() {
            let at = path.index(i);
            pipeline.model(&pair.source, at.key("source"))?;
            pipeline.model(&pair.target, at.key("target"))?;
            if pair.source == pair.target {
                let message = format!("\"{}\" is both source and target", pair.source);
                return Err(PlanError::new(at, message).help(same));
            }
            if pairs[..i].contains(pair) {
                return Err(PlanError::new(at, format!("the pair {} -> {} is there twice", pair.source, pair.target)));
            }
        }
        Ok(())
    }
}
