//! Phi-3 (Abdin et al. 2024): Llama with one matrix for queries, keys and values and one for gate and up, a rotated part of
//! each head, and frequencies for long and for short sequences.

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::{Family, TokenizerFile};
use crate::contract::per_block::PerBlock;
use crate::model::block::description::{Dense, Form, Inner, Linear, Projections};

pub static FAMILY: Family = Family {
    model_type: "phi3",
    describe: |raw| {
        let defaults = Defaults {
            eps: 1e-5,
            rotary_share: Some(1.0),
            max_positions: 4096,
            original_positions: Some(4096),
            ..Defaults::LLAMA
        };
        let sizes = Sizes::read(raw, &defaults)?;
        let (width, activation) = (sizes.intermediate_size, sizes.activation);
        let mut description = sizes.describe("phi3", Biases::default());
        raw.refuse_windows()?;
        let linear = |name| Linear { name, bias: false };
        let block = &mut description.block;
        block.attention.projections = Projections::Fused(linear("self_attn.qkv_proj"));
        block.attention.window = PerBlock::all(raw.optional_size("sliding_window")?);
        let (inner, down) = (Inner::FusedGated(linear("mlp.gate_up_proj")), linear("mlp.down_proj"));
        block.feed_forward.form = Form::Dense(Dense { width, activation, inner, down });
        Ok(description)
    },
    tokenizer: TokenizerFile::AsItIs,
};
