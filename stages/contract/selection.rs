//! How a setting names models, datasets or stages.

use serde::{Deserialize, Serialize};

/// `"*"`, one name, or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Selection {
    One(String),
    Many(Vec<String>),
}

impl Selection {
    /// The names, unless it is `"*"`.
    pub fn names(&self) -> Option<&[String]> {
        match self {
            Selection::One(star) if star == "*" => None,
            Selection::One(name) => Some(std::slice::from_ref(name)),
            Selection::Many(names) => Some(names),
        }
    }
}

impl Default for Selection {
    fn default() -> Self {
        Selection::One("*".into())
    }
}
