//! Qwen2 (Yang et al. 2024): biases of the query, key and value projections; a tokenizer whose splitting transformers
//! fixes by its class.

use anyhow::Result;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::raw::Raw;
use super::{Family, TokenizerFile, TokenizerRules};
use crate::contract::module::Modules;
use crate::contract::per_block::PerBlock;
use crate::model::block::description::Description;
use crate::model::ops::{Activation, HeadShape};
use crate::model::rotary::Rotary;

pub static FAMILY: Family = Family {
    model_type: "qwen2",
    describe: |raw| {
        let mut description = describe(Sizes::read(raw, &DEFAULTS)?);
        description.block.attention.window = windows(raw, description.layers)?;
        Ok(description)
    },
    tokenizer: TokenizerFile::Rules(TokenizerRules {
        class: "Qwen2Tokenizer",
        by_model_type: true,
        replace: split,
        special_tokens: &[
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
            ("pad_token", "<|endoftext|>"),
        ],
    }),
};

pub const DEFAULTS: Defaults = Defaults { kv_heads: Some(32), max_positions: 32_768, ..Defaults::LLAMA };

/// With `use_sliding_window`, the blocks from `max_window_layers` on have one.
pub fn windows(raw: &Raw, layers: usize) -> Result<PerBlock<Option<usize>>> {
    if !raw.flag("use_sliding_window")?.unwrap_or(false) {
        raw.refuse_windows()?;
        return Ok(PerBlock::all(None));
    }
    let window = raw.size_or("sliding_window", Some(4096))?;
    let first = raw.size_or_zero("max_window_layers", 28)?;
    let slides = |block: usize| window.is_some() && block >= first;
    raw.windows(layers, window, |block| if slides(block) { "sliding_attention" } else { "full_attention" })
}

/// A Qwen2 of these sizes.
pub fn describe(sizes: Sizes) -> Description {
    sizes.describe("qwen2", Biases { query: true, output: false, feed_forward: false })
}

/// The names of the linear layers of a Qwen2 with so many blocks. Their sizes, which are not known here, are 0.
pub fn modules(layers: usize) -> Modules {
    let heads = HeadShape { heads: 0, kv_heads: 0, dim: 0 };
    let nothing = Sizes {
        vocabulary: 0,
        hidden_size: 0,
        intermediate_size: 0,
        layers,
        heads,
        eps: 0.0,
        activation: Activation::Silu,
        rotary: Rotary::new(0.0),
        tied: true,
    };
    describe(nothing).modules()
}

/// What transformers' `Qwen2Tokenizer` puts in place of the file's normaliser and pre-tokenizer.
fn split(tokenizer: &mut Tokenizer, _config: &Value) -> tokenizers::Result<bool> {
    const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])));
    Ok(true)
}
