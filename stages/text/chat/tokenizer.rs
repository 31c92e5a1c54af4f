//! A model's tokenizer files, read as transformers reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::built_in::built_in;
use super::date::Date;
use super::template::{ChatTemplate, find_named, find_source};
use crate::contract::file::{self, CONFIGURATION, read_text};
use crate::contract::node::Part;
use crate::model::family::tokenizer_rules;
use crate::model::gguf::{self, Gguf};
use crate::model::weights::file_name;
use crate::table::guarded;

/// A tokenizer and, where the files have one, its chat template.
pub struct ChatTokenizer {
    pub tokenizer: Tokenizer,
    config: Value,
    config_place: String,
    jinja: Option<String>,
    /// Templates beside the usual one, by name, that are files of their own.
    named: BTreeMap<String, String>,
    special_tokens: BTreeMap<String, String>,
}

/// The names under which tokenizer_config.json holds single special tokens.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Bytes of the largest tokenizer.json: real ones have up to 35 MB.
const TOKENIZER: u64 = 1 << 30;

type Stamp = (PathBuf, u64, Option<SystemTime>);
type Key = (Vec<Stamp>, Option<String>);

impl ChatTokenizer {
    /// Reads tokenizer.json, tokenizer_config.json and chat_template.jinja, or the GGUF file, among `parts`. A large
    /// tokenizer.json takes longer to read than a part to encode, so the last few are kept.
    ///
    /// transformers 5 does not take the word of every tokenizer.json: for some model types and tokenizer classes it
    /// puts its own normaliser and splitting in the place of the file's. Where it does, so does this: the model's
    /// family says how.
    ///
    /// # Errors
    /// When there is no tokenizer, or a file cannot be read.
    pub fn open(parts: &[Part], model_type: Option<&str>) -> Result<Arc<ChatTokenizer>> {
        static OPENED: Mutex<Vec<(Key, Arc<ChatTokenizer>)>> = Mutex::new(Vec::new());
        let stamp = |part: &Part| -> Result<Stamp> {
            let about = std::fs::metadata(&part.path).with_context(|| format!("reading {}", part.path.display()))?;
            Ok((part.path.clone(), about.len(), about.modified().ok()))
        };
        let key = (parts.iter().map(stamp).collect::<Result<Vec<_>>>()?, model_type.map(str::to_string));
        let lock = || OPENED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, tokenizer)) = lock().iter().find(|(known, _)| *known == key) {
            return Ok(tokenizer.clone());
        }
        let tokenizer = Arc::new(ChatTokenizer::read(parts, model_type)?);
        let mut opened = lock();
        if opened.len() >= 4 {
            opened.remove(0);
        }
        opened.push((key, tokenizer.clone()));
        Ok(tokenizer)
    }

    fn read(parts: &[Part], model_type: Option<&str>) -> Result<ChatTokenizer> {
        let find = |name: &str| parts.iter().find(|part| file_name(part) == name);
        let text = |part: &Part| {
            read_text(&part.path, CONFIGURATION).with_context(|| format!("reading {}", part.path.display()))
        };
        let borrowed = borrowed(parts)?;
        let gguf = find(gguf::FILE).map(|part| -> Result<_> {
            let read = Gguf::open(&part.path).and_then(|file| gguf::tokenizer(&file));
            Ok((read.with_context(|| format!("reading {}", part.path.display()))?, part))
        });
        if let Some(read) = gguf {
            let ((tokenizer, config), part) = read?;
            let place = part.path.display().to_string();
            return ChatTokenizer::finish(tokenizer, config, place, borrowed, BTreeMap::new(), BTreeMap::new());
        }
        let part = find("tokenizer.json").context("the model has no tokenizer.json")?;
        let bytes = file::read(&part.path, TOKENIZER).with_context(|| format!("reading {}", part.path.display()))?;
        let no_tokenizer = |why: &dyn std::fmt::Display| anyhow!("{} is no tokenizer: {why}", part.path.display());
        // The library panics on some of what is no JSON.
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| no_tokenizer(&error))?;
        let tokenizer =
            guarded("tokenizers", || Tokenizer::from_bytes(&bytes)).map_err(|error| no_tokenizer(&error))?;
        let mut tokenizer = tokenizer.map_err(|error| no_tokenizer(&error))?;
        let (config, config_place) = match find("tokenizer_config.json") {
            Some(part) => {
                let parsed = serde_json::from_str(&text(part)?);
                let place = part.path.display().to_string();
                (parsed.with_context(|| format!("{place} is not JSON"))?, place)
            }
            None => (Value::Null, "tokenizer_config.json (missing)".to_string()),
        };
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        let mut special_tokens = BTreeMap::new();
        if let Some(rules) = tokenizer_rules(model_type, class)
            && (rules.replace)(&mut tokenizer, &config).map_err(|error| anyhow!("{error}"))?
        {
            let named = rules.special_tokens.iter().map(|(name, token)| (name.to_string(), token.to_string()));
            special_tokens.extend(named);
        }
        let jinja = match borrowed {
            Some(source) => Some(source),
            None => find("chat_template.jinja").map(text).transpose()?,
        };
        let mut named = BTreeMap::new();
        for part in parts {
            let name = part.name.strip_prefix(ADDITIONAL).and_then(|name| name.strip_suffix(".jinja"));
            if let Some(name) = name {
                named.insert(name.to_string(), text(part)?);
            }
        }
        ChatTokenizer::finish(tokenizer, config, config_place, jinja, named, special_tokens)
    }

    /// With what tokenizer_config.json says of special tokens.
    fn finish(
        mut tokenizer: Tokenizer,
        config: Value,
        config_place: String,
        jinja: Option<String>,
        named: BTreeMap<String, String>,
        mut special_tokens: BTreeMap<String, String>,
    ) -> Result<ChatTokenizer> {
        for name in SPECIAL {
            if let Some(token) = config.get(name).and_then(token_text) {
                special_tokens.insert(name.to_string(), token.to_string());
            }
        }
        // As transformers: no truncation or padding that the file may ask for, and what the configuration
        // names as special is matched as one token.
        tokenizer.with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        tokenizer.with_padding(None);
        let special = SPECIAL.iter().filter_map(|name| special_tokens.get(*name).map(String::as_str));
        let extra = config.get("additional_special_tokens").and_then(Value::as_array).into_iter().flatten();
        let known = tokenizer.get_added_tokens_decoder();
        let missing: Vec<AddedToken> = special
            .chain(extra.filter_map(token_text))
            .filter(|token| known.values().all(|known| known.content != *token))
            .map(|token| AddedToken::from(token, true))
            .collect();
        tokenizer.add_special_tokens(missing).map_err(|error| anyhow!("{error}"))?;
        Ok(ChatTokenizer { tokenizer, config, config_place, jinja, named, special_tokens })
    }

    /// The chat template of this name among those of the files, as [`ChatTokenizer::template`] otherwise.
    ///
    /// # Errors
    /// When there is none, or it cannot be parsed.
    pub fn named_template(&self, date: Date, name: &str) -> Result<ChatTemplate> {
        let source = match self.named.get(name) {
            Some(source) => source.clone(),
            None => find_named(name, self.jinja.as_deref(), &self.config, &self.config_place)?,
        };
        ChatTemplate::new(&source, self.special_tokens.clone(), date)
    }

    /// The chat template, telling `date` to templates that ask for the day: the built-in one of this name, or that of the files.
    ///
    /// # Errors
    /// When there is none, or it cannot be parsed.
    pub fn template(&self, date: Date, name: Option<&str>) -> Result<ChatTemplate> {
        if let Some(name) = name {
            let source = built_in(name).with_context(|| format!("no chat template is named \"{name}\""))?;
            return ChatTemplate::new(source, self.special_tokens_of_text(), date);
        }
        let source = find_source(self.jinja.clone(), &self.config, &self.config_place)?;
        ChatTemplate::new(&source, self.special_tokens.clone(), date)
    }

    /// The special tokens for a template that is not the model's own: with the beginning of a sequence only where the
    /// tokenizer puts one before a text.
    fn special_tokens_of_text(&self) -> BTreeMap<String, String> {
        let mut tokens = self.special_tokens.clone();
        let says_so = self.config.get("add_bos_token").and_then(Value::as_bool).unwrap_or(false);
        let begins = |token: &String| {
            if says_so {
                return Some(true);
            }
            let ids = self.tokenizer.encode("a", true).ok()?;
            Some(*ids.get_ids().first()? == self.tokenizer.token_to_id(token)?)
        };
        tokens.retain(|name, token| name != "bos_token" || begins(token) == Some(true));
        tokens
    }

    /// The text of one token, bytes that are no UTF-8 by themselves replaced by U+FFFD.
    pub fn piece(&self, id: u32) -> String {
        self.tokenizer.decode(&[id], false).unwrap_or_default()
    }
}

/// What stands before the names of the files from which a model takes another's chat template.
pub const BORROWED: &str = "chat_template/";

/// The folder of templates beside the usual one, each with its name.
pub const ADDITIONAL: &str = "additional_chat_templates/";

/// The template in the files that [`BORROWED`] is before, if there are any.
fn borrowed(parts: &[Part]) -> Result<Option<String>> {
    let find = |name: &str| parts.iter().find(|part| part.name.strip_prefix(BORROWED) == Some(name));
    let read =
        |part: &Part| read_text(&part.path, CONFIGURATION).with_context(|| format!("reading {}", part.path.display()));
    if let Some(part) = find("chat_template.jinja") {
        return read(part).map(Some);
    }
    let (config, part) = if let Some(part) = find(gguf::FILE) {
        (Gguf::open(&part.path).map(|file| gguf::tokenizer_config(&file))?, part)
    } else if let Some(part) = find("tokenizer_config.json") {
        let config = serde_json::from_str(&read(part)?);
        (config.with_context(|| format!("{} is not JSON", part.path.display()))?, part)
    } else {
        return Ok(None);
    };
    find_source(None, &config, &part.path.display().to_string()).map(Some)
}

/// A special token is a string or an object with its content.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_that_is_no_json_is_said_to_be_none() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/qwen2");
        let sound = std::fs::read_to_string(golden.join("tokenizer.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        // Within the decoder the library takes any error for a defect of its own.
        for broken in
            [sound.replace("\"decoder\":{\"type\":", "\"decoder\":{\"type\";"), sound[..sound.len() / 2].to_string()]
        {
            assert_ne!(broken, sound);
            std::fs::write(&path, broken).unwrap();
            let parts = [Part { path: path.clone(), name: "tokenizer.json".into() }];
            let error = ChatTokenizer::open(&parts, None).err().expect("refused").to_string();
            assert!(error.contains("tokenizer.json is no tokenizer: ") && error.contains(" at line "), "{error}");
        }
    }
}
