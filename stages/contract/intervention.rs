//! What edits a forward pass: activation patching, ablation and steering are interventions.

use anyhow::Result;
use candle_core::Tensor;

use super::sequences::Sequences;
use super::site::Site;

/// Edits the residual stream while sequences pass. Observers are shown the edited states.
pub trait Intervention: Sync {
    /// Where it edits. A pass that does not come by one of these sites is an error.
    fn sites(&self) -> Vec<Site>;

    /// The states [tokens, D] to go on with after `site`, one of [`Intervention::sites`], or `None` to leave them as
    /// they are.
    ///
    /// # Errors
    /// An error ends the pass.
    fn edit(&self, site: Site, sequences: &Sequences, states: &Tensor) -> Result<Option<Tensor>>;
}
