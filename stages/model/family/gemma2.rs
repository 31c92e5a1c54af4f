//! Gemma 2 (Gemma Team 2024): norms around both layers, weights of norms as distances from 1, scaled embeddings, soft-caps
//! of scores and logits, and a sliding window in every other block.

use anyhow::Result;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::bpe::with_bytes;
use super::common::{Biases, Sizes, rms_norm};
use super::defaults::Defaults;
use super::raw::Raw;
use super::{Family, TokenizerFile, TokenizerRules};
use crate::model::block::description::{Description, Norm, Norms};

pub const DEFAULTS: Defaults = Defaults {
    tied: true,
    kv_heads: Some(4),
    head_dim: Some(256),
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    max_positions: 8192,
    ..Defaults::LLAMA
};

pub static FAMILY: Family = Family {
    model_type: "gemma2",
    describe: |raw| {
        let mut description = describe(raw, Sizes::read(raw, &DEFAULTS)?, "gemma2")?;
        let kinds = |block: usize| if block.is_multiple_of(2) { "sliding_attention" } else { "full_attention" };
        let attention = &mut description.block.attention;
        attention.window = raw.windows(description.layers, raw.size_or("sliding_window", Some(4096))?, kinds)?;
        attention.soft_cap = raw.number_or("attn_logit_softcapping", Some(50.0))?.map(|cap| cap as f32);
        description.logits.soft_cap = raw.number_or("final_logit_softcapping", Some(30.0))?.map(|cap| cap as f32);
        Ok(description)
    },
    tokenizer: TokenizerFile::Rules(TokenizerRules {
        class: "GemmaTokenizer",
        by_model_type: false,
        replace: split,
        special_tokens: &[
            ("unk_token", "<unk>"),
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
    }),
};

/// What Gemma 2 and 3 have in common.
pub fn describe(raw: &Raw, sizes: Sizes, model_type: &'static str) -> Result<Description> {
    raw.refuse_flag("use_bidirectional_attention")?;
    let (eps, width) = (sizes.eps, sizes.hidden_size);
    let bias = raw.flag("attention_bias")?.unwrap_or(false);
    let mut description = sizes.describe(model_type, Biases { query: bias, output: bias, feed_forward: false });
    let norms = |before, after| Norms { before: Some(norm(before, eps)), after: Some(norm(after, eps)) };
    let block = &mut description.block;
    block.attention.norms = norms("input_layernorm", "post_attention_layernorm");
    block.attention.scale = raw.number("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5) as f32;
    block.feed_forward.norms = norms("pre_feedforward_layernorm", "post_feedforward_layernorm");
    description.final_norm = norm("model.norm", eps);
    // As transformers has it in float32; in bfloat16 it is rounded to that.
    description.embedding.factor = (width as f64).sqrt() as f32;
    Ok(description)
}

pub fn norm(name: &'static str, eps: f32) -> Norm {
    Norm { offset: 1.0, ..rms_norm(name, eps) }
}

/// What transformers' `GemmaTokenizer` puts in place of the file's normaliser and pre-tokenizer.
fn split(tokenizer: &mut Tokenizer, _config: &Value) -> tokenizers::Result<bool> {
    let spaces = SplitPattern::String(" ".into());
    with_bytes(tokenizer);
    tokenizer.with_normalizer(Some(Replace::new(" ", "▁")?))?;
    tokenizer.with_pre_tokenizer(Some(Split::new(spaces, SplitDelimiterBehavior::MergedWithPrevious, false)?));
    Ok(true)
}
