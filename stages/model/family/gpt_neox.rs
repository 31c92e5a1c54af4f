//! GPT-NeoX (Black et al. 2022), of which Pythia is: layer norms, attention and feed-forward layer beside each other on the
//! residual stream, biases, and a rotated quarter of each head.

use anyhow::Result;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::raw::Raw;
use super::{Family, TokenizerFile, TokenizerRules};
use crate::model::block::description::{
    Dense, Description, Embedding, FeedForward, Form, Head, Inner, Linear, Norm, Norms, Projections,
};
use crate::model::ops::NormKind;

pub static FAMILY: Family = Family {
    model_type: "gpt_neox",
    describe,
    tokenizer: TokenizerFile::Rules(TokenizerRules {
        class: "GPTNeoXTokenizer",
        by_model_type: false,
        replace: split,
        special_tokens: &[
            ("unk_token", "<|endoftext|>"),
            ("bos_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("pad_token", "<|padding|>"),
        ],
    }),
};

fn describe(raw: &Raw) -> Result<Description> {
    raw.refuse_windows()?;
    let defaults = Defaults {
        activation: ("hidden_act", "gelu"),
        theta: raw.number("rotary_emb_base")?.unwrap_or(10_000.0),
        rotary_share: Some(raw.number("rotary_pct")?.unwrap_or(0.25)),
        ..Defaults::LLAMA
    };
    let sizes = Sizes::read(raw, &defaults)?;
    let (width, activation, tied) = (sizes.intermediate_size, sizes.activation, sizes.tied);
    let eps = raw.number("layer_norm_eps")?.unwrap_or(1e-5) as f32;
    let norm = |name| Norm { name, kind: NormKind::Layer, eps, offset: 0.0 };
    let before = |name| Norms { before: Some(norm(name)), after: None };
    let bias = raw.flag("attention_bias")?.unwrap_or(true);
    let linear = |name| Linear { name, bias };
    let dense = |name| Linear { name, bias: true };
    let mut description = sizes.describe("gpt_neox", Biases::default());
    let block = &mut description.block;
    block.attention.norms = before("input_layernorm");
    block.attention.projections = Projections::FusedByHead(linear("attention.query_key_value"));
    block.attention.output = linear("attention.dense");
    let (inner, down) = (Inner::Plain(dense("mlp.dense_h_to_4h")), dense("mlp.dense_4h_to_h"));
    let form = Form::Dense(Dense { width, activation, inner, down });
    block.feed_forward = FeedForward { norms: before("post_attention_layernorm"), form };
    block.parallel = raw.flag("use_parallel_residual")?.unwrap_or(true);
    description.blocks = "gpt_neox.layers";
    description.embedding = Embedding { name: "gpt_neox.embed_in", factor: 1.0 };
    description.final_norm = norm("gpt_neox.final_layer_norm");
    description.head = match tied {
        true => Head::Tied { copy: "embed_out" },
        false => Head::Own(Linear { name: "embed_out", bias: false }),
    };
    Ok(description)
}

/// What transformers' `GPTNeoXTokenizer` puts in place of the file's normaliser and pre-tokenizer.
fn split(tokenizer: &mut Tokenizer, config: &Value) -> tokenizers::Result<bool> {
    let prefix = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix, true, true)));
    Ok(true)
}
