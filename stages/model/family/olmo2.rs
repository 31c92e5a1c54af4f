//! OLMo 2 (OLMo Team 2024): norms of what the layers add to the residual stream and of whole queries and keys, none of
//! what they read.

use super::common::{Biases, Sizes, rms_norm};
use super::defaults::Defaults;
use super::{Family, TokenizerFile};
use crate::model::block::description::{Norms, QueryKeyNorms};

pub static FAMILY: Family = Family {
    model_type: "olmo2",
    describe: |raw| {
        raw.refuse_windows()?;
        let sizes = Sizes::read(raw, &Defaults { eps: 1e-5, ..Defaults::LLAMA })?;
        let eps = sizes.eps;
        let mut description = sizes.describe("olmo2", Biases { feed_forward: false, ..Biases::read(raw)? });
        let after = |name| Norms { before: None, after: Some(rms_norm(name, eps)) };
        let block = &mut description.block;
        block.attention.norms = after("post_attention_layernorm");
        block.attention.query_key_norms = Some(QueryKeyNorms {
            query: rms_norm("self_attn.q_norm", eps),
            key: rms_norm("self_attn.k_norm", eps),
            by_head: false,
        });
        block.feed_forward.norms = after("post_feedforward_layernorm");
        Ok(description)
    },
    tokenizer: TokenizerFile::AsItIs,
};
