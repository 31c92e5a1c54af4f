//! The Hugging Face hub: models and datasets that pipeline.toml names as `hub = "org/name"`.
//!
//! A repository's files are brought into the ordinary Hugging Face cache, and to everything beyond this folder a model is then the path of
//! its snapshot there: what is keyed is the files' content. Which commit a revision was is kept in strata.lock, so that it stays
//! the same one until it is moved on.

pub mod bring;
mod cache;
mod choose;
mod client;
mod download;
pub mod environment;
mod failure;
mod listing;
pub mod names;
mod shown;
pub mod snapshot;
mod split;

use names::{Commit, FileName, RepositoryId, Revision};
use serde::{Deserialize, Serialize};

pub use failure::Failure;

/// What a repository holds. The two kinds have names and addresses of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Model,
    Dataset,
}

impl Kind {
    /// As it stands in addresses and in the names of the cache's folders.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }

    pub fn singular(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "dataset",
        }
    }
}

/// A repository at a revision, and which of its files are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Use {
    pub kind: Kind,
    pub id: RepositoryId,
    pub revision: Revision,
    pub reading: Reading,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reading {
    /// A model's or an adapter's configuration, weights and tokenizer.
    Whole,
    /// One file by its name: a GGUF file, or that of a dataset.
    File(FileName),
    /// A dataset's split.
    Split { config: Option<String>, split: Option<String> },
}

impl Use {
    /// The repository as it is called in messages.
    pub fn name(&self) -> &str {
        self.id.as_str()
    }

    /// Under what strata.lock keeps what it was.
    pub fn address(&self) -> String {
        let Use { kind, id, revision, reading } = self;
        let repository = format!("{}/{}@{}", kind.plural(), id.as_str(), revision.as_str());
        match reading {
            Reading::Whole => repository,
            Reading::File(file) => format!("{repository} file={}", file.as_str()),
            Reading::Split { config, split } => {
                let part = |key: &str, value: &Option<String>| {
                    value.as_ref().map_or_else(String::new, |value| format!(" {key}={value}"))
                };
                format!("{repository}{}{}", part("config", config), part("split", split))
            }
        }
    }

    /// Whether two uses are of one revision of one repository.
    pub fn is_with(&self, other: &Use) -> bool {
        (self.kind, &self.id, &self.revision) == (other.kind, &other.id, &other.revision)
    }
}

/// What a use was when it was first read: strata.lock keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub commit: Commit,
    /// The files that are read of it.
    pub files: Vec<FileName>,
    /// Whether the commit is of the branch with the hub's conversion, and not of the revision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub converted: bool,
}
