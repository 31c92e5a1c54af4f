//! The tokenizer in a GGUF file's metadata, as transformers builds it (`integrations/gguf/gguf_tokenizer_mapping.py`).

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, DecoderWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::file::{Gguf, number};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

/// The tokenizer, and what a tokenizer_config.json beside it would hold.
///
/// # Errors
/// When the file has none, or one of a kind that is not supported.
pub fn tokenizer(gguf: &Gguf) -> Result<(Tokenizer, Value)> {
    let kind = gguf.text("tokenizer.ggml.model").context("the GGUF file has no \"tokenizer.ggml.model\"")?;
    let tokens = gguf.texts("tokenizer.ggml.tokens").context("the GGUF file has no \"tokenizer.ggml.tokens\"")?;
    let pre = gguf.text("tokenizer.ggml.pre").unwrap_or_default();
    let mut tokenizer = match kind {
        "gpt2" => byte_level(gguf, &tokens, pre)?,
        "llama" if gguf.architecture()?.starts_with("gemma") => sentencepiece(gguf, &gemma_spaces(&tokens), true)?,
        "llama" if gguf.architecture()? != "phi3" => {
            let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
            sentencepiece(gguf, &tokens, false)?
        }
        other => bail!(
            "a GGUF file's tokenizer of the kind \"{other}\" is not supported for this architecture; \
             `tokenizer = \"DIRECTORY\"` names the directory of one with a tokenizer.json"
        ),
    };
    let kinds = gguf.list("tokenizer.ggml.token_type").unwrap_or_default();
    // In a byte-level vocabulary a control token that is not spelled in bytes' letters is a mistake of the converter's, and
    // would lie beyond the vocabulary.
    let spelled = |token: &str| kind != "gpt2" || token.chars().all(is_byte_letter);
    let of_kind = |wanted: f64| {
        tokens.iter().zip(kinds).filter(move |(_, kind)| number(kind) == Some(wanted)).map(|(token, _)| *token)
    };
    let control: Vec<AddedToken> =
        of_kind(CONTROL).filter(|token| spelled(token)).map(|token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(control).map_err(|error| anyhow!("{error}"))?;
    let known: HashSet<String> = tokenizer.get_vocab(true).into_keys().collect();
    let user: Vec<AddedToken> = of_kind(USER_DEFINED)
        .filter(|token| known.contains(*token))
        .map(|token| AddedToken::from(token, false).normalized(false))
        .collect();
    tokenizer.add_tokens(user).map_err(|error| anyhow!("{error}"))?;
    Ok((tokenizer, configuration(gguf, &tokens)))
}

/// What a tokenizer_config.json beside the file would hold: special tokens and chat templates.
pub fn tokenizer_config(gguf: &Gguf) -> Value {
    configuration(gguf, &gguf.texts("tokenizer.ggml.tokens").unwrap_or_default())
}

fn configuration(gguf: &Gguf, tokens: &[&str]) -> Value {
    let mut config = Map::new();
    for (name, key) in [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
    {
        let id = gguf.number(&format!("tokenizer.ggml.{key}_token_id"));
        if let Some(token) = id.and_then(|id| tokens.get(id as usize)) {
            config.insert(name.into(), json!(token));
        }
    }
    // A SentencePiece vocabulary begins a text unless the file says otherwise.
    let begins = gguf.flag("tokenizer.ggml.add_bos_token");
    if begins.unwrap_or(gguf.text("tokenizer.ggml.model") == Some("llama")) {
        config.insert("add_bos_token".into(), json!(true));
    }
    let default = gguf.text("tokenizer.chat_template");
    let named = gguf.texts("tokenizer.chat_templates").unwrap_or_default();
    let named =
        named.into_iter().filter_map(|name| Some((name, gguf.text(&format!("tokenizer.chat_template.{name}"))?)));
    let all: Vec<Value> = default
        .map(|template| ("default", template))
        .into_iter()
        .chain(named)
        .map(|(name, template)| json!({"name": name, "template": template}))
        .collect();
    match (default, all.len()) {
        (_, 0) => {}
        (Some(template), 1) => drop(config.insert("chat_template".into(), json!(template))),
        _ => drop(config.insert("chat_template".into(), Value::Array(all))),
    }
    Value::Object(config)
}

fn merges(gguf: &Gguf) -> Result<Option<Vec<(String, String)>>> {
    let Some(merges) = gguf.texts("tokenizer.ggml.merges") else { return Ok(None) };
    let pair = |merge: &str| {
        let (a, b) = merge.split_once(' ').with_context(|| format!("the merge \"{merge}\" is not of two tokens"))?;
        Ok((a.to_string(), b.to_string()))
    };
    Ok(Some(merges.into_iter().map(pair).collect::<Result<_>>()?))
}

fn byte_level(gguf: &Gguf, tokens: &[&str], pre: &str) -> Result<Tokenizer> {
    let spell = |token: &str| match token.chars().all(is_byte_letter) {
        true => token.to_string(),
        false => token.bytes().map(byte_letter).collect(),
    };
    let vocabulary: Vocab = tokens.iter().zip(0..).map(|(token, id)| (spell(token), id)).collect();
    let merges = merges(gguf)?.context("the GGUF file has no \"tokenizer.ggml.merges\"")?;
    let llama3 = ["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2", "dbrx", "smaug-bpe"];
    let split = match pre {
        pre if llama3.contains(&pre) => Some(LLAMA3),
        "qwen2" | "deepseek-r1-qwen" | "megrez" => Some(QWEN2),
        "tekken" => Some(TEKKEN),
        "smollm" | "gpt-2" | "gpt2" | "default" | "" => None,
        other => bail!(
            "the GGUF file's pre-tokenizer \"{other}\" is not known; `tokenizer = \"DIRECTORY\"` names the directory of a \
             tokenizer.json"
        ),
    };
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(llama3.contains(&pre)).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|error| anyhow!("{error}"))?);
    let before: PreTokenizerWrapper = match split {
        Some(split) => {
            let pattern = SplitPattern::Regex(split.into());
            let split =
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|error| anyhow!("{error}"))?;
            Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
        }
        None if pre == "smollm" => {
            Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()]).into()
        }
        None => ByteLevel::new(false, true, true).into(),
    };
    tokenizer.with_pre_tokenizer(Some(before));
    if split == Some(QWEN2) {
        tokenizer.with_normalizer(Some(NFC)).map_err(|error| anyhow!("{error}"))?;
    }
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// A token of spaces alone is written with spaces in these files, and with the letter for them in the vocabulary.
fn gemma_spaces(tokens: &[&str]) -> Vec<String> {
    let spaces = |token: &&str| match token.contains(' ') && token.trim().is_empty() {
        true => SPACE.to_string().repeat(token.chars().count()),
        false => token.to_string(),
    };
    tokens.iter().map(spaces).collect()
}

const SPACE: char = '▁';

fn sentencepiece(gguf: &Gguf, tokens: &[String], gemma: bool) -> Result<Tokenizer> {
    let merges = match merges(gguf)? {
        Some(merges) => merges,
        None => {
            let scores = match gemma {
                // Gemma's scores do not follow the order of its merges; that of its tokens does.
                true => (0..tokens.len()).map(|id| -(id as f64)).collect(),
                false => {
                    let scores =
                        gguf.list("tokenizer.ggml.scores").context("the GGUF file has no \"tokenizer.ggml.scores\"")?;
                    scores.iter().map(|score| number(score).unwrap_or(f64::NEG_INFINITY)).collect::<Vec<f64>>()
                }
            };
            implied_merges(tokens, &scores)
        }
    };
    let vocabulary: Vocab = tokens.iter().zip(0..).map(|(token, id)| (token.clone(), id)).collect();
    let unknown = gguf.number("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(id as usize)).cloned();
    let mut builder = BPE::builder().vocab_and_merges(vocabulary, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    let mut tokenizer = Tokenizer::new(builder.build().map_err(|error| anyhow!("{error}"))?);
    let space = SPACE.to_string();
    let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|error| anyhow!("{error}"));
    let mut decoders: Vec<DecoderWrapper> =
        vec![replace(&space, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if gemma {
        tokenizer.with_normalizer(Some(replace(" ", &space)?)).map_err(|error| anyhow!("{error}"))?;
    } else {
        let prefix = gguf.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let scheme = if prefix { PrependScheme::First } else { PrependScheme::Never };
        tokenizer.with_pre_tokenizer(Some(Metaspace::new(SPACE, scheme, false)));
        decoders.extend(prefix.then(|| Strip::new(' ', 1, 0).into()));
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

/// The merges that a vocabulary with scores implies: every token cut into two others, the best score first.
fn implied_merges(tokens: &[String], scores: &[f64]) -> Vec<(String, String)> {
    let ids: std::collections::HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut merges: Vec<(f64, usize, usize, &str, &str)> = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        let cuts = token.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = token.split_at(at);
            Some((*ids.get(left)?, *ids.get(right)?, left, right))
        });
        let mut cuts: Vec<_> = cuts.collect();
        cuts.sort_by_key(|(left, right, ..)| (*left, *right));
        let length = |text: &str| text.chars().count();
        merges.extend(cuts.into_iter().map(|(_, _, left, right)| (*score, length(left), length(right), left, right)));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    merges.into_iter().map(|(.., left, right)| (left.to_string(), right.to_string())).collect()
}

/// The letter that stands for a byte in a byte-level vocabulary (GPT-2's `bytes_to_unicode`).
fn byte_letter(byte: u8) -> char {
    let own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match own(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|byte| !own(*byte)).count() as u32;
            char::from_u32(256 + before).unwrap_or('\u{fffd}')
        }
    }
}

fn is_byte_letter(letter: char) -> bool {
    matches!(letter, '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{143}')
}
