//! The fingerprint of a task.
//!
//! A key is blake3 over the canonical JSON of a `KeyDocument`. The record of a task keeps that very document,
//! so `strata explain` compares what was hashed then with what is hashed now and cannot disagree with either.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything a task's output depends on, and nothing else: no clock, path, name, thread count or host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyDocument {
    pub stage: String,
    pub version: u32,
    pub params: Value,
    /// For every role its parts in order.
    pub inputs: BTreeMap<String, Vec<InputContent>>,
}

/// What a task reads of one part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InputContent {
    /// A file: its name within its model or corpus, and the blake3 of its bytes.
    File { name: String, content: String },
    /// A table part: for every column that the stage reads, the hash of its values.
    Columns { columns: BTreeMap<String, String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(blake3::Hash);

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl KeyDocument {
    pub fn key(&self) -> Key {
        let mut text = KeyText::new();
        for (role, parts) in &self.inputs {
            text.role(role, parts);
        }
        text.end(&self.stage, self.version, &self.params);
        text.key()
    }
}

/// A key document as JSON with sorted keys, no spaces, and a comma after every element, written piece by piece, so that what
/// many tasks have in common is written once. Going through `Value` was a third of a run in which nothing is stale.
pub struct KeyText(String);

impl KeyText {
    /// Up to the first role.
    pub fn new() -> KeyText {
        KeyText("{\"inputs\":{".to_string())
    }

    /// What comes after a role.
    pub fn after() -> KeyText {
        KeyText(String::new())
    }

    /// The next role in their order, with its parts.
    pub fn role<'a>(&mut self, role: &str, parts: impl IntoIterator<Item = &'a InputContent>) {
        let out = &mut self.0;
        quoted(role, out);
        out.push_str(":[");
        for part in parts {
            match part {
                InputContent::File { name, content } => {
                    out.push_str("{\"content\":");
                    quoted(content, out);
                    out.push_str(",\"name\":");
                    quoted(name, out);
                    out.push('}');
                }
                InputContent::Columns { columns } => {
                    out.push_str("{\"columns\":{");
                    for (name, hash) in columns {
                        quoted(name, out);
                        out.push(':');
                        quoted(hash, out);
                        out.push(',');
                    }
                    out.push_str("}}");
                }
            }
            out.push(',');
        }
        out.push_str("],");
    }

    /// What comes after the last role.
    pub fn end(&mut self, stage: &str, version: u32, params: &Value) {
        let out = &mut self.0;
        out.push_str("},\"params\":");
        canonical(params, out);
        out.push_str(",\"stage\":");
        quoted(stage, out);
        out.push_str(&format!(",\"version\":{version}}}"));
    }

    pub fn append(&mut self, more: &KeyText) {
        self.0.push_str(&more.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes back what was written after this length.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The key of a whole document.
    pub fn key(&self) -> Key {
        let mut hasher = blake3::Hasher::new();
        // The version of this encoding. Raising it makes every artifact stale.
        hasher.update(b"strata key 1\n");
        hasher.update(self.0.as_bytes());
        Key(hasher.finalize())
    }
}

/// A JSON string.
fn quoted(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// JSON with sorted object keys and no spaces, whatever order the map type keeps.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                quoted(key, out);
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::String(text) => quoted(text, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

impl Key {
    /// The first 64 bits of the hash.
    pub fn leading_bits(self) -> u64 {
        let bytes = self.0.as_bytes();
        (0..8).fold(0, |bits, index| bits << 8 | u64::from(bytes[index]))
    }
}

#[cfg(test)]
impl Key {
    /// A key of no task.
    pub fn of_text(text: &str) -> Key {
        Key(blake3::hash(text.as_bytes()))
    }
}

impl Key {
    pub fn to_bytes(self) -> [u8; 32] {
        *self.0.as_bytes()
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Key {
        Key(blake3::Hash::from_bytes(bytes))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl std::str::FromStr for Key {
    type Err = blake3::HexError;

    fn from_str(text: &str) -> Result<Key, blake3::HexError> {
        Ok(Key(blake3::Hash::from_hex(text)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> KeyDocument {
        let columns = BTreeMap::from([("vector".to_string(), "aa".to_string())]);
        KeyDocument {
            stage: "directions".into(),
            version: 1,
            params: serde_json::json!({"b": 1, "a": [1.5, "x"]}),
            inputs: BTreeMap::from([("source".to_string(), vec![InputContent::Columns { columns }])]),
        }
    }

    #[test]
    fn every_field_reaches_the_key() {
        let key = document().key();
        assert_eq!(key, document().key());
        let mut changed = [document(), document(), document(), document()];
        changed[0].stage = "projections".into();
        changed[1].version = 2;
        changed[2].params["a"][0] = 1.25.into();
        changed[3].inputs.insert("target".into(), Vec::new());
        for document in changed {
            assert_ne!(document.key(), key, "{document:?}");
        }
    }

    #[test]
    fn a_record_read_back_has_the_same_key() {
        let text = serde_json::to_string(&document()).unwrap_or_default();
        let back: KeyDocument = serde_json::from_str(&text).expect("own JSON");
        assert_eq!(back.key(), document().key());
    }
}
