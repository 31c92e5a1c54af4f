//! What Llama's descendants share: the keys of config.json and the names of the tensors.

use anyhow::Result;

use super::raw::Raw;
use crate::contract::per_block::PerBlock;
use crate::model::block::description::{Attention, Block, Description, FeedForward, Head, Linear, Norm};
use crate::model::ops::HeadShape;
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
    pub rotary: Rotary,
    /// The output head is the embedding matrix.
    pub tied: bool,
}

/// Which of a block's linear layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// The query, key and value projections.
    pub query: bool,
    pub output: bool,
    pub feed_forward: bool,
}

impl Sizes {
    /// # Errors
    /// When a key is missing, or asks for something that a model of this form does not have.
    pub fn read(raw: &Raw) -> Result<Sizes> {
        raw.refuse_what_is_not_computed()?;
        Ok(Sizes {
            vocabulary: raw.size("vocab_size")?,
            hidden_size: raw.size("hidden_size")?,
            intermediate_size: raw.size("intermediate_size")?,
            layers: raw.size("num_hidden_layers")?,
            heads: raw.heads()?,
            eps: raw.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rotary: raw.rotary()?,
            tied: raw.flag("tie_word_embeddings")?.unwrap_or(false),
        })
    }

    /// Blocks of Llama's form: x + attention(norm(x)), then x + feed_forward(norm(x)).
    pub fn describe(self, model_type: &'static str, biases: Biases) -> Description {
        let Sizes { vocabulary, hidden_size, intermediate_size, layers, heads, eps, rotary, tied } = self;
        let norm = |name| Norm { name, eps };
        let attention = Attention {
            norm: norm("input_layernorm"),
            heads,
            query: Linear { name: "self_attn.q_proj", bias: biases.query },
            key: Linear { name: "self_attn.k_proj", bias: biases.query },
            value: Linear { name: "self_attn.v_proj", bias: biases.query },
            output: Linear { name: "self_attn.o_proj", bias: biases.output },
            head_norms: None,
            rotary,
            scale: 1.0 / (heads.dim as f32).sqrt(),
            soft_cap: None,
            window: PerBlock::all(None),
        };
        let linear = |name| Linear { name, bias: biases.feed_forward };
        let feed_forward = FeedForward {
            norm: norm("post_attention_layernorm"),
            width: intermediate_size,
            gate: linear("mlp.gate_proj"),
            up: linear("mlp.up_proj"),
            down: linear("mlp.down_proj"),
        };
        Description {
            model_type,
            vocabulary,
            hidden_size,
            layers,
            block: Block { attention, feed_forward },
            embedding: "model.embed_tokens",
            final_norm: norm("model.norm"),
            head: match tied {
                true => Head::Tied { copy: "lm_head" },
                false => Head::Own(Linear { name: "lm_head", bias: false }),
            },
        }
    }
}
