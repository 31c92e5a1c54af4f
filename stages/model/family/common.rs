//! What Llama's descendants share: the keys of config.json and the names of the tensors.

use anyhow::Result;

use super::defaults::Defaults;
use super::raw::Raw;
use crate::contract::per_block::PerBlock;
use crate::model::block::description::{
    Attention, Block, Dense, Description, Embedding, FeedForward, Form, Head, Inner, Linear, Norm, Norms, Projections,
};
use crate::model::ops::{Activation, HeadShape, Logits, NormKind};
use crate::model::rotary::Rotary;

/// The numbers of a model of Llama's form.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    pub vocabulary: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: HeadShape,
    pub eps: f32,
    pub activation: Activation,
    pub rotary: Rotary,
    /// The output head is the embedding matrix.
    pub tied: bool,
}

/// Which of a block's linear layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    /// The query, key and value projections.
    pub query: bool,
    pub output: bool,
    pub feed_forward: bool,
}

impl Biases {
    /// As `attention_bias` and `mlp_bias` say.
    pub fn read(raw: &Raw) -> Result<Biases> {
        let attention = raw.flag("attention_bias")?.unwrap_or(false);
        let feed_forward = raw.flag("mlp_bias")?.unwrap_or(false);
        Ok(Biases { query: attention, output: attention, feed_forward })
    }
}

impl Sizes {
    /// # Errors
    /// When a key is missing, or asks for something that is not computed.
    pub fn read(raw: &Raw, defaults: &Defaults) -> Result<Sizes> {
        raw.refuse_quantized_weights()?;
        Ok(Sizes {
            vocabulary: raw.size("vocab_size")?,
            hidden_size: raw.size("hidden_size")?,
            intermediate_size: raw.size("intermediate_size")?,
            layers: raw.layers()?,
            heads: raw.heads(defaults)?,
            eps: raw.number("rms_norm_eps")?.unwrap_or(defaults.eps) as f32,
            activation: raw.activation(defaults.activation)?,
            rotary: raw.rotary(defaults)?,
            tied: raw.flag("tie_word_embeddings")?.unwrap_or(defaults.tied),
        })
    }

    /// Blocks of Llama's form: x + attention(norm(x)), then x + feed_forward(norm(x)).
    pub fn describe(self, model_type: &'static str, biases: Biases) -> Description {
        let Sizes { vocabulary, hidden_size, intermediate_size, layers, heads, eps, activation, rotary, tied } = self;
        let before = |name| Norms { before: Some(rms_norm(name, eps)), after: None };
        let query = |name| Linear { name, bias: biases.query };
        let attention = Attention {
            norms: before("input_layernorm"),
            heads,
            projections: Projections::Separate {
                query: query("self_attn.q_proj"),
                key: query("self_attn.k_proj"),
                value: query("self_attn.v_proj"),
            },
            output: Linear { name: "self_attn.o_proj", bias: biases.output },
            query_key_norms: None,
            rotary: PerBlock::all(Some(rotary)),
            scale: 1.0 / (heads.dim as f32).sqrt(),
            soft_cap: None,
            window: PerBlock::all(None),
        };
        let linear = |name| Linear { name, bias: biases.feed_forward };
        let dense = Dense {
            width: intermediate_size,
            activation,
            inner: Inner::Gated { gate: linear("mlp.gate_proj"), up: linear("mlp.up_proj") },
            down: linear("mlp.down_proj"),
        };
        let feed_forward = FeedForward { norms: before("post_attention_layernorm"), form: Form::Dense(dense) };
        Description {
            model_type,
            vocabulary,
            hidden_size,
            layers,
            blocks: "model.layers",
            block: Block { attention, feed_forward, parallel: false, residual_factor: 1.0 },
            embedding: Embedding { name: "model.embed_tokens", factor: 1.0 },
            final_norm: rms_norm("model.norm", eps),
            head: match tied {
                true => Head::Tied { copy: "lm_head" },
                false => Head::Own(Linear { name: "lm_head", bias: false }),
            },
            logits: Logits::PLAIN,
            unread: &[],
        }
    }
}

/// Root mean square normalisation.
pub fn rms_norm(name: &'static str, eps: f32) -> Norm {
    Norm { name, kind: NormKind::RootMeanSquare, eps, offset: 0.0 }
}
