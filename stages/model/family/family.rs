//! What a family says of itself.

use anyhow::Result;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::raw::Raw;
use crate::model::block::description::Description;

/// One model family.
pub struct Family {
    /// Its `model_type` in config.json.
    pub model_type: &'static str,
    /// # Errors
    /// When a key is missing, or asks for something that is not computed.
    pub describe: fn(&Raw) -> Result<Description>,
    pub tokenizer: TokenizerFile,
}

/// What transformers makes of the family's tokenizer.json (`auto/tokenization_auto.py`).
#[derive(Clone, Copy)]
pub enum TokenizerFile {
    /// As it is, unless the `tokenizer_class` of tokenizer_config.json is one that another family has rules for.
    ByClass,
    /// As it is, whatever class is named.
    AsItIs,
    /// The family has a class of its own.
    Rules(TokenizerRules),
}

/// What transformers puts in place of what a tokenizer's files say.
#[derive(Clone, Copy)]
pub struct TokenizerRules {
    /// The `tokenizer_class` of tokenizer_config.json, without `Fast`, that asks for it.
    pub class: &'static str,
    /// Whether the `model_type` asks for it too, whatever class the file names.
    pub by_model_type: bool,
    /// Given what tokenizer_config.json holds; returns whether the class is one for this file at all.
    pub replace: fn(&mut Tokenizer, &Value) -> tokenizers::Result<bool>,
    /// Special tokens that tokenizer_config.json may leave out, by their name there.
    pub special_tokens: &'static [(&'static str, &'static str)],
}
