//! What edits a forward pass: activation patching, ablation and steering are interventions.

use anyhow::Result;
use candle_core::Tensor;

use super::observer::{Sequences, Site};

/// Edits the residual stream while a block passes. Observers are shown the edited states.
pub trait Intervention: Sync {
    /// The states [tokens, D] to go on with after `layer`, or `None` to leave them as they are.
    ///
    /// # Errors
    /// An error ends the pass of this block.
    fn edit(&self, site: Site, layer: usize, block: &Sequences, states: &Tensor) -> Result<Option<Tensor>>;
}
