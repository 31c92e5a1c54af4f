//! Qwen3 (Yang et al. 2025): a norm of every query and key head, whose width config.json gives by itself, and no
//! biases unless it asks for them. Its tokenizers are Qwen2's by their class.

use super::common::{Biases, Sizes, rms_norm};
use super::defaults::Defaults;
use super::qwen2::windows;
use super::{Family, TokenizerFile};
use crate::model::block::description::{Description, QueryKeyNorms};

pub const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(32), head_dim: Some(128), max_positions: 32_768, ..Defaults::LLAMA };

pub static FAMILY: Family = Family {
    model_type: "qwen3",
    describe: |raw| {
        let bias = raw.flag("attention_bias")?.unwrap_or(false);
        let mut description = describe(Sizes::read(raw, &DEFAULTS)?, "qwen3", bias);
        description.block.attention.window = windows(raw, description.layers)?;
        Ok(description)
    },
    tokenizer: TokenizerFile::ByClass,
};

/// A Qwen3 of these sizes.
pub fn describe(sizes: Sizes, model_type: &'static str, bias: bool) -> Description {
    let eps = sizes.eps;
    let mut description = sizes.describe(model_type, Biases { query: bias, output: bias, feed_forward: false });
    description.block.attention.query_key_norms = Some(QueryKeyNorms {
        query: rms_norm("self_attn.q_norm", eps),
        key: rms_norm("self_attn.k_norm", eps),
        by_head: true,
    });
    description
}
