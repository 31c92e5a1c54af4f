//! `[remotes.NAME]`: where a pipeline's results are shared.

use std::path::Path;

use serde_json::Value;
use strata_stages::PlanError;
use strata_stages::contract::toml_path::TomlPath;

use super::check_keys;
use crate::remote::{Health, url};

/// A remote as pipeline.toml names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSetting {
    pub name: String,
    pub url: String,
    /// Whether runs send what they make there.
    pub push: bool,
    pub on_failure: OnFailure,
    pub health: Health,
}

/// What a run does when a remote does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Goes on without it.
    Compute,
    Stop,
}

impl RemoteSetting {
    /// One that is named on the command line: a failure of it is one of the command.
    pub fn of_url(url: &str) -> RemoteSetting {
        RemoteSetting {
            name: url.to_string(),
            url: url.to_string(),
            push: false,
            on_failure: OnFailure::Stop,
            health: Health::default(),
        }
    }
}

const ON_FAILURE: &str = "on_remote_failure";
const WAYS: [(&str, OnFailure); 2] = [("compute", OnFailure::Compute), ("stop", OnFailure::Stop)];

/// `here` is the pipeline's folder, to which a folder's path is relative.
///
/// # Errors
/// When it has no URL, one that no remote can have, or an unknown key.
pub fn of(here: &Path, name: &str, at: &TomlPath, value: &Value) -> Result<RemoteSetting, PlanError> {
    check_keys(at, value, ["url", "push", ON_FAILURE])?;
    let url = match value.get("url") {
        Some(Value::String(url)) => url.clone(),
        Some(other) => return Err(PlanError::new(at.key("url"), format!("expected a URL in quotes, found {other}"))),
        None => {
            let error = PlanError::new(at.clone(), "a remote needs url = \"…\"");
            return Err(error.help("a folder, s3://BUCKET/PREFIX, gs://…, az://…, or https://… to read from"));
        }
    };
    if let Some(wrong) = url::wrong_with(&url) {
        return Err(PlanError::new(at.key("url"), wrong));
    }
    let push = match value.get("push") {
        None => false,
        Some(Value::Bool(push)) => *push,
        Some(other) => return Err(PlanError::new(at.key("push"), format!("expected true or false, found {other}"))),
    };
    if push && url::is_read_only(&url) {
        let error = PlanError::new(at.key("push"), "a web server can only be read from");
        return Err(error.help("write push = false, or name a bucket: s3://BUCKET/PREFIX"));
    }
    let on_failure = match value.get(ON_FAILURE) {
        None => OnFailure::Compute,
        Some(written) => {
            let found = WAYS.iter().find(|(name, _)| written.as_str() == Some(name));
            let unknown = || {
                let written = written.as_str().map_or_else(|| written.to_string(), str::to_string);
                PlanError::unknown(at.key(ON_FAILURE), "way", &written, WAYS.map(|(name, _)| name))
            };
            found.ok_or_else(unknown)?.1
        }
    };
    Ok(RemoteSetting {
        name: name.to_string(),
        url: url::below(here, &url),
        push,
        on_failure,
        health: Health::default(),
    })
}
