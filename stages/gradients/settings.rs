//! `[stages.gradients]`: which gradients are taken. The stages that compare gradients read the same section, so
//! that one place says which they are.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::contract::module::Modules;
use crate::contract::observer::{LossGradients, Over};
use crate::contract::pipeline::{Model, Origin, Pipeline, PlanError, Selection};
use crate::contract::toml_path::at;
use crate::model::family::{self, qwen2};
use crate::model::files;
use crate::organism::shape::Shape;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub models: Selection,
    pub datasets: Selection,
    pub modules: Vec<String>,
    pub over: Over,
    pub size: usize,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            modules: vec!["layers.-1.self_attn.o_proj".into()],
            over: Over::All,
            size: 256,
            seed: 0,
        }
    }
}

/// Of which loss, for which weight matrices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GradientChoice {
    pub modules: Vec<String>,
    pub over: Over,
}

impl GradientChoice {
    /// For a model with these linear layers.
    ///
    /// # Errors
    /// When a pattern names no weight matrix.
    pub fn wanted(&self, modules: &Modules) -> Result<LossGradients> {
        Ok(LossGradients { modules: modules.resolve(&self.modules)?, over: self.over })
    }
}

impl Settings {
    pub fn choice(&self) -> GradientChoice {
        GradientChoice { modules: self.modules.clone(), over: self.over }
    }

    /// Checks the values, and the patterns against each selected model.
    ///
    /// # Errors
    /// When there is no pattern, one names nothing, or the projection has no numbers.
    pub fn check(&self, pipeline: &Pipeline) -> Result<(), PlanError> {
        if self.modules.is_empty() {
            return Err(PlanError::new("stages.gradients.modules", "gradients of no weight matrix were asked for"));
        }
        if !(1..=1 << 16).contains(&self.size) {
            let message = format!("a projection to {} numbers is out of range; expected 1 to 65536", self.size);
            return Err(PlanError::new("stages.gradients.size", message));
        }
        for model in pipeline.models(&self.models, "stages.gradients.models")? {
            let Some(modules) = modules(model, pipeline) else { continue };
            for (i, pattern) in self.modules.iter().enumerate() {
                if modules.resolve(std::slice::from_ref(pattern)).is_err() {
                    let at = at("stages.gradients.modules").index(i);
                    let message = format!("no weight matrix of the model \"{}\" is named \"{pattern}\"", model.name);
                    return Err(PlanError::new(at, message).help(modules.what_there_is()));
                }
            }
        }
        Ok(())
    }
}

/// A model's linear layers where they can be told before anything has run. What cannot be read here is
/// reported by the pass that opens the model.
fn modules(model: &Model, pipeline: &Pipeline) -> Option<Modules> {
    match pipeline.origin(model)? {
        Origin::Directory(path) => {
            let text = files::config(path).ok().or_else(|| pipeline.configs.get(path).cloned())?;
            Some(family::describe(&text).ok()?.modules())
        }
        Origin::Trained(_) => {
            let shape: Shape = pipeline.section("train").ok()?;
            Some(qwen2::modules(shape.layers))
        }
    }
}
