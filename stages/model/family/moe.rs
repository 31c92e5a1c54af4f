//! What the families with a mixture of experts share.

use anyhow::{Result, bail};

use super::common::Sizes;
use super::raw::Raw;
use crate::model::block::description::{Experts, Linear};

/// Qwen's experts; as config.json gives them, with these defaults for their width, number and how many take a token.
pub fn qwen(raw: &Raw, sizes: &Sizes, [width, count, chosen]: [usize; 3]) -> Result<Experts> {
    let dense = raw.sizes("mlp_only_layers")?.unwrap_or_default();
    let step = raw.optional_size("decoder_sparse_step")?.unwrap_or(1);
    if step != 1 || !dense.is_empty() {
        bail!(
            "config.json: \"decoder_sparse_step\" is {step} and \"mlp_only_layers\" is {dense:?}; models whose blocks are \
             not all mixtures of experts are not supported"
        );
    }
    let size = |key: &str, default: usize| Ok::<_, anyhow::Error>(raw.optional_size(key)?.unwrap_or(default));
    let experts = Experts {
        count: raw.optional_size("num_local_experts")?.unwrap_or(size("num_experts", count)?),
        chosen: size("num_experts_per_tok", chosen)?,
        normalized: raw.flag("norm_topk_prob")?.unwrap_or(false),
        router: Linear { name: "mlp.gate", bias: false },
        prefix: "mlp.experts",
        gate: "gate_proj",
        up: "up_proj",
        down: "down_proj",
        width: size("moe_intermediate_size", width)?,
        activation: sizes.activation,
        shared: None,
    };
    checked(experts)
}

/// # Errors
/// When a token is to have more experts than there are.
pub fn checked(experts: Experts) -> Result<Experts> {
    if experts.chosen > experts.count {
        bail!("config.json: {} experts are to take each token, of {}", experts.chosen, experts.count);
    }
    Ok(experts)
}
