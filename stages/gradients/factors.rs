//! How gradients are laid down in `gradient_factors`, and what they take.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::contract::cost::{ModelSize, Text};
use crate::contract::module::ModulePath;
use crate::gradients::settings::GradientChoice;

/// How an example's gradients are laid down; the column `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorKind {
    Gradient,
    Input,
    OutputGradient,
}

impl FactorKind {
    pub fn name(self) -> &'static str {
        match self {
            FactorKind::Gradient => "gradient",
            FactorKind::Input => "input",
            FactorKind::OutputGradient => "output_gradient",
        }
    }

    /// # Errors
    /// For a name that is none of the three.
    pub fn parse(name: &str) -> Result<FactorKind> {
        let all = [FactorKind::Gradient, FactorKind::Input, FactorKind::OutputGradient];
        match all.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(kind),
            None => {
                bail!("the kind \"{name}\" in a table of gradient factors is none of gradient, input, output_gradient")
            }
        }
    }
}

/// What a text's gradients of one module take.
pub struct Kept {
    pub layer: usize,
    /// Entries of the weight matrix.
    pub entries: f64,
    /// Whether the gradients are kept, and not their factors.
    pub whole: bool,
    pub bytes: f64,
}

/// What will be kept of a text, by module; `None` where the parameters fit no such model.
pub fn kept(params: &Value, model: &ModelSize, text: Text) -> Option<Vec<Kept>> {
    let modules = GradientChoice::deserialize(params).ok()?.wanted(&model.modules).ok()?.modules;
    let of = |path: &ModulePath| {
        let (out, inputs) = model.shape(path);
        let entries = (out * inputs) as f64;
        let (whole, factors) = (text.examples * entries, text.tokens * (out + inputs) as f64);
        Kept { layer: path.layer, entries, whole: whole <= factors, bytes: 4.0 * whole.min(factors) }
    };
    Some(modules.iter().map(of).collect())
}
