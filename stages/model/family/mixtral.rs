//! Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in every block.

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::moe::checked;
use super::{Family, TokenizerFile};
use crate::contract::per_block::PerBlock;
use crate::model::block::description::{Experts, Form, Linear};

pub static FAMILY: Family = Family {
    model_type: "mixtral",
    describe: |raw| {
        raw.refuse_windows()?;
        let defaults = Defaults { eps: 1e-5, kv_heads: Some(8), theta: 1e6, max_positions: 131_072, ..Defaults::LLAMA };
        let sizes = Sizes::read(raw, &defaults)?;
        let experts = checked(Experts {
            count: raw.optional_size("num_local_experts")?.unwrap_or(8),
            chosen: raw.optional_size("num_experts_per_tok")?.unwrap_or(2),
            normalized: true,
            router: Linear { name: "block_sparse_moe.gate", bias: false },
            prefix: "block_sparse_moe.experts",
            gate: "w1",
            up: "w3",
            down: "w2",
            width: sizes.intermediate_size,
            activation: sizes.activation,
            shared: None,
        })?;
        let mut description = sizes.describe("mixtral", Biases::default());
        description.block.attention.window = PerBlock::all(raw.optional_size("sliding_window")?);
        description.block.feed_forward.form = Form::Experts(experts);
        Ok(description)
    },
    tokenizer: TokenizerFile::AsItIs,
};
