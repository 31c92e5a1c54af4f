//! Where a value stands in pipeline.toml.

use std::fmt;

/// The steps from the document's root to a value; shown as `stages.patching.pairs[1].source`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TomlPath(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A key of a table. It may hold dots: `models."Qwen2.5"`.
    Key(String),
    /// An element of an array, or a table of an array of tables.
    Index(usize),
}

/// The path of these keys, written with dots between them. Keys that are only known at run time are added with
/// [`TomlPath::key`].
pub fn at(keys: &'static str) -> TomlPath {
    TomlPath(keys.split('.').filter(|key| !key.is_empty()).map(|key| Segment::Key(key.to_string())).collect())
}

impl TomlPath {
    /// The value of this key in the table that the path leads to.
    pub fn key(&self, key: impl Into<String>) -> TomlPath {
        self.then(Segment::Key(key.into()))
    }

    /// This element of the array that the path leads to.
    pub fn index(&self, index: usize) -> TomlPath {
        self.then(Segment::Index(index))
    }

    /// This path, followed by where serde met a value that it could not read.
    pub fn within(&self, inner: &serde_path_to_error::Path) -> TomlPath {
        use serde_path_to_error::Segment as Inner;
        inner.iter().fold(self.clone(), |path, segment| match segment {
            Inner::Seq { index } => path.index(*index),
            Inner::Map { key } | Inner::Enum { variant: key } => path.key(key.as_str()),
            Inner::Unknown => path,
        })
    }

    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether it leads to the document as a whole.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn then(&self, segment: Segment) -> TomlPath {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl From<&'static str> for TomlPath {
    fn from(keys: &'static str) -> TomlPath {
        at(keys)
    }
}

impl From<&TomlPath> for TomlPath {
    fn from(path: &TomlPath) -> TomlPath {
        path.clone()
    }
}

impl fmt::Display for TomlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let dot = if place > 0 { "." } else { "" };
                    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
                    if bare { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Compares with the path as it is shown.
impl PartialEq<&str> for TomlPath {
    fn eq(&self, shown: &&str) -> bool {
        let own = self.to_string();
        own == *shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_toml_writes_it() {
        assert_eq!(at("stages.patching.pairs").index(1).key("source"), "stages.patching.pairs[1].source");
        assert_eq!(at("models").key("Qwen2.5").key("path"), "models.\"Qwen2.5\".path");
        assert_eq!(at(""), "");
        assert!(at("").is_root());
    }

    #[test]
    fn serdes_place_is_followed_into_lists_and_tables() {
        #[derive(Debug, serde::Deserialize)]
        struct Row {
            #[serde(rename = "k")]
            _k: Vec<u32>,
        }
        let value = serde_json::json!([{ "k": [1] }, { "k": [1, "two"] }]);
        let error = serde_path_to_error::deserialize::<_, Vec<Row>>(&value).unwrap_err();
        assert_eq!(at("stages.x").key("rows").within(error.path()), "stages.x.rows[1].k[1]");
    }
}
