//! What a family says of itself.

use anyhow::Result;
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
    /// Where transformers does not take the word of tokenizer.json.
    pub tokenizer: Option<TokenizerRules>,
}

/// What transformers puts in place of what a tokenizer's files say.
#[derive(Clone, Copy)]
pub struct TokenizerRules {
    /// The `tokenizer_class` of tokenizer_config.json, without `Fast`, that asks for it.
    pub class: &'static str,
    /// Whether the `model_type` asks for it too, whatever class the file names.
    pub by_model_type: bool,
    pub replace: fn(&mut Tokenizer) -> tokenizers::Result<()>,
    /// Special tokens that tokenizer_config.json may leave out, by their name there.
    pub special_tokens: &'static [(&'static str, &'static str)],
}
