//! Qwen3-MoE (Yang et al. 2025): Qwen3 with a mixture of experts in every block.

use super::common::Sizes;
use super::defaults::Defaults;
use super::{Family, TokenizerFile};
use super::{moe, qwen3};
use crate::contract::per_block::PerBlock;
use crate::model::block::description::Form;

pub static FAMILY: Family = Family {
    model_type: "qwen3_moe",
    describe: |raw| {
        raw.refuse_windows()?;
        // Without a head_dim of its own, unlike Qwen3.
        let sizes = Sizes::read(raw, &Defaults { kv_heads: Some(4), head_dim: None, ..qwen3::DEFAULTS })?;
        let experts = moe::qwen(raw, &sizes, [768, 128, 8])?;
        let bias = raw.flag("attention_bias")?.unwrap_or(false);
        let mut description = qwen3::describe(sizes, "qwen3_moe", bias);
        let slides = raw.flag("use_sliding_window")?.unwrap_or(false);
        let window = if slides { raw.size_or("sliding_window", Some(4096))? } else { None };
        description.block.attention.window = PerBlock::all(window);
        description.block.feed_forward.form = Form::Experts(experts);
        Ok(description)
    },
    tokenizer: TokenizerFile::ByClass,
};
