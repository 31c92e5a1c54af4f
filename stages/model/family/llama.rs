//! Llama (Touvron et al. 2023): biases everywhere or nowhere. transformers gives its tokenizers, where they are not
//! byte-level, a splitting of its own.

use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

use super::bpe::with_bytes;
use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::{Family, TokenizerFile, TokenizerRules};

pub static FAMILY: Family = Family {
    model_type: "llama",
    describe: |raw| {
        raw.refuse_windows()?;
        Ok(Sizes::read(raw, &Defaults::LLAMA)?.describe("llama", Biases::read(raw)?))
    },
    tokenizer: TokenizerFile::Rules(TokenizerRules {
        class: "LlamaTokenizer",
        by_model_type: false,
        replace: split,
        special_tokens: &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
    }),
};

/// What transformers' `LlamaTokenizer` puts in place of the file's normaliser and pre-tokenizer: spaces become `▁`, one more
/// of which stands before the text, or with `legacy` before each piece between special tokens.
fn split(tokenizer: &mut Tokenizer, config: &Value) -> tokenizers::Result<bool> {
    let parts = serde_json::to_string(&(tokenizer.get_pre_tokenizer(), tokenizer.get_decoder()))?;
    if parts.contains("\"ByteLevel\"") {
        return Ok(false);
    }
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let scheme = match (flag("add_prefix_space").unwrap_or(true), flag("legacy").unwrap_or(false)) {
        (true, true) => PrependScheme::Always,
        (true, false) => PrependScheme::First,
        (false, _) => PrependScheme::Never,
    };
    with_bytes(tokenizer);
    tokenizer.with_normalizer(None::<NormalizerWrapper>)?;
    tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    Ok(true)
}
