//! PEFT adapters: low-rank updates of a base model's weights (Hu et al. 2021, "LoRA"), and weights that replace the
//! base's. `adapter_config.json` says which modules they are of, `adapter_model.safetensors` holds them.
//!
//! Nothing is merged: a module computes y = x Wᵀ + b + s (x Aᵀ) Bᵀ with W where it lies in the base's file, so that base and
//! fine-tunes share its pages in memory.

mod config;
pub mod file_names;
mod layout;
mod pattern;
mod placement;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result};
use memmap2::Mmap;
use safetensors::SafeTensors;

use super::block::description::Description;
use super::family;
use super::weights::file_name;
use crate::contract::node::Part;
use config::AdapterConfig;
use file_names::{CONFIG, WEIGHTS};
use placement::Shapes;
pub use placement::{Adapter, LowRank, Target};

/// The adapter among a model's files, if there is one, placed in the model that `description` describes.
///
/// # Errors
/// When its files are damaged, of a kind that is not computed, or not for this model.
pub fn among(parts: &[Part], description: &Description) -> Result<Option<Adapter>> {
    let find = |name: &str| parts.iter().find(|part| file_name(part) == name);
    let Some(config) = find(CONFIG) else { return Ok(None) };
    let weights = find(WEIGHTS).with_context(|| format!("the adapter has no {WEIGHTS}"))?;
    Ok(Some(place(&config.path, &weights.path, description)?))
}

/// Whether the adapter in a directory is one for the base whose config.json has this text.
///
/// # Errors
/// As for [`among`].
pub fn check(directory: &Path, base: &str) -> Result<()> {
    place(&directory.join(CONFIG), &directory.join(WEIGHTS), &family::describe(base)?).map(drop)
}

fn place(config: &Path, weights: &Path, description: &Description) -> Result<Adapter> {
    let text = crate::contract::file::read_text(config, crate::contract::file::CONFIGURATION)
        .with_context(|| format!("reading {}", config.display()))?;
    let config = AdapterConfig::read(&text).with_context(|| format!("reading {}", config.display()))?;
    let shapes = shapes(weights).with_context(|| format!("reading {}", weights.display()))?;
    Adapter::place(&config, &shapes, description).with_context(|| format!("reading {}", weights.display()))
}

fn shapes(path: &Path) -> Result<Shapes> {
    let file = crate::contract::file::open(path)?;
    // SAFETY: model files are not written to while a run reads them; the engine checks that they did not change.
    let map = unsafe { Mmap::map(&file)? };
    let tensors = SafeTensors::deserialize(&map)
        .with_context(|| format!("the file is cut short, damaged or no safetensors file ({} bytes)", map.len()))?;
    Ok(tensors.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec())).collect())
}
