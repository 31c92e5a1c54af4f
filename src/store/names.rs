//! The parts of a record that become parts of paths, as types that no other text can be made into.
//!
//! A record comes from outside: from a colleague, a remote, a damaged disk. Its names are checked where it is parsed, so that
//! whoever holds one of these types, from whatever source, can make a path below the store of it and no other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name that common file systems take, in bytes.
pub const LONGEST: usize = 255;
/// `report/figures/name.svg` is two; nothing is deeper than this.
const DEEPEST: usize = 4;
const LONGEST_EXTENSION: usize = 16;

/// Why a text cannot be what a record says it is.
#[derive(Debug, thiserror::Error)]
#[error("{found} cannot be the {what} of an output: {why}")]
pub struct BadName {
    what: &'static str,
    /// Quoted, with its control characters escaped, and cut where it is long.
    found: String,
    why: &'static str,
}

impl BadName {
    pub fn new(what: &'static str, found: &str, why: &'static str) -> BadName {
        const SHOWN: usize = 80;
        let mut shown: String = found.chars().take(SHOWN).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        BadName { what, found: format!("{shown:?}"), why }
    }
}

/// blake3 of an object's bytes, which names it; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectHash(blake3::Hash);

/// The ending of an object's name, without its dot: letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Extension(String);

/// A file's name in its model, corpus or report: a relative path of plain names, each of letters that print.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl ObjectHash {
    pub fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }

    pub fn to_bytes(self) -> [u8; 32] {
        *self.0.as_bytes()
    }
}

impl From<blake3::Hash> for ObjectHash {
    fn from(hash: blake3::Hash) -> ObjectHash {
        ObjectHash(hash)
    }
}

impl Extension {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ending of a file's name, where it has one that can be an object's.
    pub fn of(name: &FileName) -> Option<Extension> {
        let (_, ending) = name.0.rsplit_once('.')?;
        Extension::try_from(ending.to_string()).ok()
    }
}

impl FileName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies in a folder of its own.
    pub fn is_nested(&self) -> bool {
        self.0.contains('/')
    }
}

/// What is wrong with a text as the name of one file or folder; `None` when nothing is.
pub fn wrong_with(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("a part of it is empty"),
        _ if name.len() > LONGEST => Some("a part of it is longer than 255 bytes"),
        // "." and ".." too, and what a killed run leaves.
        _ if name.starts_with('.') => Some("a part of it begins with a dot"),
        _ if name.contains(['/', '\\']) => Some("it holds a separator"),
        _ if name.chars().any(char::is_control) => Some("it holds a control character"),
        _ => None,
    }
}

impl TryFrom<String> for ObjectHash {
    type Error = BadName;

    fn try_from(text: String) -> Result<ObjectHash, BadName> {
        let bad = |_| BadName::new("object", &text, "expected 64 hexadecimal digits");
        blake3::Hash::from_hex(&text).map(ObjectHash).map_err(bad)
    }
}

impl TryFrom<String> for Extension {
    type Error = BadName;

    fn try_from(text: String) -> Result<Extension, BadName> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.is_empty() || text.len() > LONGEST_EXTENSION || !plain {
            return Err(BadName::new("extension", &text, "expected at most 16 letters and digits"));
        }
        Ok(Extension(text))
    }
}

impl TryFrom<String> for FileName {
    type Error = BadName;

    fn try_from(text: String) -> Result<FileName, BadName> {
        if text.starts_with('/') {
            return Err(BadName::new("name", &text, "it is absolute"));
        }
        if let Some(why) = text.split('/').find_map(wrong_with) {
            return Err(BadName::new("name", &text, why));
        }
        if text.split('/').count() > DEEPEST {
            return Err(BadName::new("name", &text, "it lies more than 4 folders deep"));
        }
        Ok(FileName(text))
    }
}

impl From<ObjectHash> for String {
    fn from(hash: ObjectHash) -> String {
        hash.to_hex()
    }
}

impl From<Extension> for String {
    fn from(extension: Extension) -> String {
        extension.0
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> String {
        name.0
    }
}

impl fmt::Display for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that must become no part of a path, with what they would do.
    pub const HOSTILE: [&str; 14] = [
        "/etc/passwd",
        "//etc",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        ".tmp-1-1",
        ".",
    ];

    #[test]
    fn no_type_can_be_made_from_a_name_that_leads_elsewhere() {
        let long = "n".repeat(300);
        for text in HOSTILE.into_iter().chain([long.as_str(), "a/b/c/d/e"]) {
            assert!(FileName::try_from(text.to_string()).is_err(), "{text:?}");
            assert!(Extension::try_from(text.to_string()).is_err(), "{text:?}");
            assert!(ObjectHash::try_from(text.to_string()).is_err(), "{text:?}");
        }
        for text in ["", "x/../../../NAME", "a.b", "ü", "seventeenletters1"] {
            assert!(Extension::try_from(text.to_string()).is_err(), "{text:?}");
        }
        assert!(FileName::try_from(String::new()).is_err());
        for text in ["ab".repeat(31), "ab".repeat(33), "zz".repeat(32), format!("{}/", "ab".repeat(32))] {
            assert!(ObjectHash::try_from(text.clone()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_names_that_stages_give_are_kept() {
        for text in ["config.json", "figures/response length.svg", "model-00001-of-00002.safetensors", "größe.jsonl"]
        {
            let name = FileName::try_from(text.to_string()).expect("a plain name");
            assert_eq!(name.as_str(), text);
        }
        let of = |text: &str| Extension::of(&FileName::try_from(text.to_string()).expect("plain")).map(String::from);
        assert_eq!(["model.safetensors", "merges", "a.b-c"].map(of), [Some("safetensors".into()), None, None]);
        let hash = ObjectHash::from(blake3::hash(b""));
        assert_eq!(ObjectHash::try_from(hash.to_hex().to_uppercase()).expect("hexadecimal"), hash);
    }

    #[test]
    fn a_bad_name_is_shown_cut_and_with_its_control_characters_escaped() {
        let error = FileName::try_from(format!("\x1b[2J{}", "n".repeat(500))).expect_err("refused").to_string();
        assert!(error.len() < 200 && error.contains("\\u{1b}[2J") && error.contains('…'), "{error}");
    }
}
