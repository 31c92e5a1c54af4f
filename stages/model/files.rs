//! Where a model's configuration is: in the config.json of its directory, or in its GGUF file.

use std::path::Path;

use anyhow::{Context, Result};

use super::gguf::{self, Gguf};
use super::weights::file_name;
use crate::contract::file::{CONFIGURATION, read_text};
use crate::contract::node::Part;

/// Whether a path is that of a model in one file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The text of the config.json of a model's directory, or the one that its GGUF file gives.
///
/// # Errors
/// When the file cannot be read, or gives none.
pub fn config(model: &Path) -> Result<String> {
    match is_gguf(model) {
        true => of_gguf(model),
        false => {
            let path = model.join("config.json");
            read_text(&path, CONFIGURATION).with_context(|| format!("cannot read {}", path.display()))
        }
    }
}

/// The file in which [`config`] is found.
pub fn config_file(model: &Path) -> std::path::PathBuf {
    if is_gguf(model) { model.to_path_buf() } else { model.join("config.json") }
}

/// The text of the config.json among a model's parts, and where it is.
///
/// # Errors
/// As for [`config`].
pub fn config_of(parts: &[Part]) -> Result<(String, &Path)> {
    let find = |name: &str| parts.iter().find(|part| file_name(part) == name);
    if let Some(part) = find(gguf::FILE) {
        return Ok((of_gguf(&part.path)?, &part.path));
    }
    let part = find("config.json").context("the model has no config.json")?;
    let text = read_text(&part.path, CONFIGURATION).with_context(|| format!("reading {}", part.path.display()))?;
    Ok((text, &part.path))
}

fn of_gguf(path: &Path) -> Result<String> {
    gguf::config(&Gguf::open(path)?).with_context(|| format!("reading {}", path.display()))
}
