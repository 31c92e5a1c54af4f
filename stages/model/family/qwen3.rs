//! Qwen3 (Yang et al. 2025): a norm of every query and key head, whose width config.json gives by itself, and no
//! biases unless it asks for them. Its tokenizers are Qwen2's by their class.

use super::Family;
use super::common::{Biases, Sizes};
use crate::model::block::description::Norm;

pub static FAMILY: Family = Family {
    model_type: "qwen3",
    describe: |raw| {
        let mut sizes = Sizes::read(raw)?;
        // Qwen3's own default, where the others' is the width over the number of heads.
        sizes.heads.dim = raw.optional_size("head_dim")?.unwrap_or(128);
        let (eps, bias) = (sizes.eps, raw.flag("attention_bias")?.unwrap_or(false));
        let biases = Biases { query: bias, output: bias, feed_forward: false };
        let mut description = sizes.describe("qwen3", biases);
        let norm = |name| Norm { name, eps };
        let attention = &mut description.block.attention;
        attention.head_norms = Some([norm("self_attn.q_norm"), norm("self_attn.k_norm")]);
        attention.scale = 1.0 / (attention.heads.dim as f32).sqrt();
        Ok(description)
    },
    tokenizer: None,
};
