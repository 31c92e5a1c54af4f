//! Why something of the hub is not here.

use super::Use;
use super::environment::Environment;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What is written in pipeline.toml does not lead to a file: no such repository, revision or file, or not for this user.
    #[error("{message}")]
    Wrong {
        message: String,
        help: Option<String>,
        /// Which of the keys beside `hub`, where it is not that one.
        key: Option<&'static str>,
    },
    /// The hub does not answer, or not with what it said.
    #[error("{0}")]
    Unreachable(String),
    /// This machine's own disk.
    #[error(transparent)]
    Here(#[from] anyhow::Error),
    #[error("stopped; what came so far is kept, and the next run goes on from there")]
    Stopped,
}

impl Failure {
    pub fn wrong(message: impl Into<String>) -> Failure {
        Failure::Wrong { message: message.into(), help: None, key: None }
    }

    pub fn help(self, text: impl Into<String>) -> Failure {
        match self {
            Failure::Wrong { message, key, .. } => Failure::Wrong { message, help: Some(text.into()), key },
            other => other,
        }
    }

    /// At another key than `hub`.
    pub fn at(self, key: &'static str) -> Failure {
        match self {
            Failure::Wrong { message, help, .. } => Failure::Wrong { message, help, key: Some(key) },
            other => other,
        }
    }
}

/// An answer that is no file: its status, and the hub's own words for it.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    /// `GatedRepo`, `RepoNotFound`, `RevisionNotFound`, `EntryNotFound`.
    pub code: String,
    pub said: String,
}

impl Refusal {
    /// In terms of the repository that was asked for.
    pub fn of_repository(&self, asked: &Use, environment: &Environment) -> Failure {
        let (name, endpoint) = (asked.name(), &environment.endpoint);
        let token = match environment.token() {
            Some(_) => "the token of HF_TOKEN, or of the file that `hf auth login` writes, does not open it",
            None => "HF_TOKEN is not set",
        };
        let what = asked.kind.singular();
        match (self.status, self.code.as_str()) {
            (_, "GatedRepo") => {
                let folder = if what == "dataset" { "datasets/" } else { "" };
                let page = format!("{endpoint}/{folder}{name}");
                Failure::wrong(format!("the {what} {name} is gated, and its authors have not let you in"))
                    .help(format!("{token}: ask for access at {page}, and set HF_TOKEN to a token of that account"))
            }
            // Without a token the hub does not say whether a repository exists.
            (401 | 403, _) | (404, "RepoNotFound") => {
                let why = if self.status == 404 { "" } else { ", or it is private or gated" };
                Failure::wrong(format!("there is no {what} {name} at {endpoint}{why}")).help(format!(
                    "{token}; the name is that of the repository's page, and a private one needs a token"
                ))
            }
            _ => Failure::Unreachable(format!("{endpoint} answered {self} when {name} was asked for")),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.said.is_empty() {
            write!(f, " ({})", self.said)?;
        }
        Ok(())
    }
}
