//! Qwen2-MoE (Yang et al. 2024): Qwen2 with a mixture of experts in every block, one of which takes every token.

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::moe;
use super::{Family, TokenizerFile};
use crate::model::block::description::{Dense, Form, Inner, Linear, SharedExpert};

pub static FAMILY: Family = Family {
    model_type: "qwen2_moe",
    describe: |raw| {
        let defaults = Defaults { kv_heads: Some(16), max_positions: 32_768, ..Defaults::LLAMA };
        let sizes = Sizes::read(raw, &defaults)?;
        let mut experts = moe::qwen(raw, &sizes, [1408, 60, 4])?;
        let linear = |name| Linear { name, bias: false };
        let expert = Dense {
            width: raw.optional_size("shared_expert_intermediate_size")?.unwrap_or(5632),
            activation: sizes.activation,
            inner: Inner::Gated {
                gate: linear("mlp.shared_expert.gate_proj"),
                up: linear("mlp.shared_expert.up_proj"),
            },
            down: linear("mlp.shared_expert.down_proj"),
        };
        experts.shared = Some(SharedExpert { expert, gate: linear("mlp.shared_expert_gate") });
        let bias = raw.flag("qkv_bias")?.unwrap_or(true);
        let mut description = sizes.describe("qwen2_moe", Biases { query: bias, ..Biases::default() });
        let slides = raw.flag("use_sliding_window")?.unwrap_or(false);
        let window = if slides { raw.size_or("sliding_window", Some(4096))? } else { None };
        let last = raw.size_or_zero("max_window_layers", 28)?;
        let kind = |block: usize| match slides && block.is_multiple_of(2) && block < last {
            true => "sliding_attention",
            false => "full_attention",
        };
        description.block.attention.window = raw.windows(description.layers, window, kind)?;
        description.block.feed_forward.form = Form::Experts(experts);
        Ok(description)
    },
    tokenizer: TokenizerFile::ByClass,
};
