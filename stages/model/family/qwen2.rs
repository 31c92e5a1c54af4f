//! Qwen2 (Yang et al. 2024): biases of the query, key and value projections; a tokenizer whose splitting transformers
//! fixes by its class.

use tokenizers::Tokenizer;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::common::{Biases, Sizes};
use super::{Family, TokenizerRules};
use crate::contract::module::Modules;
use crate::model::block::description::Description;
use crate::model::ops::HeadShape;
use crate::model::rotary::{Rotary, Scaling};

pub static FAMILY: Family = Family {
    model_type: "qwen2",
    describe: |raw| Ok(describe(Sizes::read(raw)?)),
    tokenizer: Some(TokenizerRules {
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

/// A Qwen2 of these sizes.
pub fn describe(sizes: Sizes) -> Description {
    sizes.describe("qwen2", Biases { query: true, output: false, feed_forward: false })
}

/// The names of the linear layers of a Qwen2 with so many blocks. Their sizes, which are not known here, are 0.
pub fn modules(layers: usize) -> Modules {
    let heads = HeadShape { heads: 0, kv_heads: 0, dim: 0 };
    let rotary = Rotary { theta: 0.0, scaling: Scaling::None };
    let nothing =
        Sizes { vocabulary: 0, hidden_size: 0, intermediate_size: 0, layers, heads, eps: 0.0, rotary, tied: true };
    describe(nothing).modules()
}

/// What transformers' `Qwen2Tokenizer` puts in place of the file's normaliser and pre-tokenizer.
fn split(tokenizer: &mut Tokenizer) -> tokenizers::Result<()> {
    const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])));
    Ok(())
}
