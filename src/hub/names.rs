//! Names of the hub as types: what becomes part of a path or of an address has one that no other text can be made into.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

macro_rules! text {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<$name, String> {
                $name::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// `name` or `org/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryId(String);
text!(RepositoryId);

impl RepositoryId {
    /// # Errors
    /// What is wrong with the text as a repository's name.
    pub fn new(text: &str) -> Result<RepositoryId, String> {
        const LONGEST: usize = 96;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let sound = |part: &str| {
            !part.is_empty()
                && part.chars().all(plain)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                // The hub refuses both; the second would make two names one folder.
                && !part.contains("..")
                && !part.contains("--")
        };
        if text.len() <= LONGEST && text.split('/').count() <= 2 && text.split('/').all(sound) {
            return Ok(RepositoryId(text.to_string()));
        }
        Err(format!("\"{}\" is no name of a repository; expected one like \"Qwen/Qwen2.5-0.5B-Instruct\"", short(text)))
    }

    /// `org--name`, as in the names of the cache's folders.
    pub fn flat(&self) -> String {
        self.0.replace('/', "--")
    }
}

/// A branch, a tag, a commit or a reference such as `refs/pr/3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);
text!(Revision);

impl Revision {
    /// # Errors
    /// What is wrong with the text as a revision's name.
    pub fn new(text: &str) -> Result<Revision, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=' | '@' | '#');
        match relative(text, 200) && text.chars().all(|c| plain(c) || c == '/') {
            true => Ok(Revision(text.to_string())),
            false => Err(format!("\"{}\" is no name of a revision; expected a branch, a tag or a commit", short(text))),
        }
    }

    pub fn main() -> Revision {
        Revision("main".to_string())
    }

    /// The commit that it is by its own name.
    pub fn as_commit(&self) -> Option<Commit> {
        Commit::new(&self.0).ok()
    }

    pub fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }
}

/// A commit's full hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Commit(String);
text!(Commit);

impl Commit {
    /// # Errors
    /// When it is not 40 hexadecimal digits in small letters.
    pub fn new(text: &str) -> Result<Commit, String> {
        match text.len() == 40 && is_hexadecimal(text) {
            true => Ok(Commit(text.to_string())),
            false => Err(format!("\"{}\" is no commit; expected 40 hexadecimal digits", short(text))),
        }
    }

    /// As people write it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// A file's name within its repository: relative, and down only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);
text!(FileName);

impl FileName {
    /// # Errors
    /// When the text leads out of a folder, or is none that a file can have.
    pub fn new(text: &str) -> Result<FileName, String> {
        match relative(text, 1000) {
            true => Ok(FileName(text.to_string())),
            false => Err(format!("\"{}\" is no name of a file of a repository", short(text))),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }

    /// How many folders it is below the repository's top.
    pub fn depth(&self) -> usize {
        self.0.matches('/').count()
    }

    pub fn has_ending(&self, endings: &[&str]) -> bool {
        let ending = self.0.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
        ending.is_some_and(|(_, found)| endings.iter().any(|ending| found.eq_ignore_ascii_case(ending)))
    }
}

/// The hash by which the hub knows a file's content, which is the name of its blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// Of a file in git: `sha1("blob LENGTH\0" + bytes)`.
    Git(String),
    /// Of one that git only points at.
    Sha256(String),
}

impl Content {
    pub fn new(text: &str) -> Option<Content> {
        match text.len() {
            40 if is_hexadecimal(text) => Some(Content::Git(text.to_string())),
            64 if is_hexadecimal(text) => Some(Content::Sha256(text.to_string())),
            _ => None,
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Content::Git(text) | Content::Sha256(text) => text,
        }
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text is a path that stays below where it begins, whose parts can be files' names.
fn relative(text: &str, longest: usize) -> bool {
    let sound = |part: &str| {
        !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains(|c: char| c == '\\' || c.is_control())
    };
    text.len() <= longest && text.split('/').all(sound)
}

/// As much of a text as a message shows.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for id in ["gpt2", "Qwen/Qwen2.5-0.5B-Instruct", "tatsu-lab/alpaca", "01-ai/Yi-6B"] {
            assert!(RepositoryId::new(id).is_ok(), "{id}");
        }
        for id in
            ["", "..", "../x", "x/..", "/etc/passwd", "a/b/c", "a//b", "a/", "a\\b", "a b", "a--b/c", "a/b?x", "a/.b"]
        {
            assert!(RepositoryId::new(id).is_err(), "{id}");
        }
        for revision in ["main", "v1.0", "refs/pr/3", "refs/convert/parquet", "step1000"] {
            assert!(Revision::new(revision).is_ok(), "{revision}");
        }
        for revision in ["", "..", "a/../b", "/main", "main/", "a b", "a?b", "a\nb", "a%2e"] {
            assert!(Revision::new(revision).is_err(), "{revision}");
        }
        for file in ["config.json", "data/train-00000-of-00001.parquet", "Größe (1).jsonl", ".gitattributes"] {
            assert!(FileName::new(file).is_ok(), "{file}");
        }
        for file in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b", "a\\..\\b", &"x".repeat(300)] {
            assert!(FileName::new(file).is_err(), "{file}");
        }
        assert!(Commit::new(&"a".repeat(40)).is_ok());
        for commit in ["main", "../../../etc", &"A".repeat(40), &"a".repeat(41)] {
            assert!(Commit::new(commit).is_err(), "{commit}");
        }
        assert!(Content::new(&"../".repeat(13)).is_none() && Content::new("").is_none());
    }
}
