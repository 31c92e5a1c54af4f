//! Paths that pipeline.toml names: they are there, or the lock knows what they were.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::PlanError;
use strata_stages::contract::file;
use strata_stages::contract::pipeline::nearest;
use strata_stages::contract::toml_path::TomlPath;

use super::Manifest;

impl Manifest {
    /// Whether a file is there, or was when the lock was written.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        let spoken_for = || path.parent().is_none_or(|folder| !folder.exists() || self.lock.speaks_for(folder));
        path.is_file() || (spoken_for() && self.lock.hash(path).is_some())
    }

    pub(super) fn require_file(&self, at: &TomlPath, directory: &Path, name: &str) -> Result<(), PlanError> {
        let path = directory.join(name);
        if self.is_file(&path) {
            return Ok(());
        }
        let Some(why) = file::unfit(&path) else { return Ok(()) };
        let message = match path.symlink_metadata() {
            Ok(_) => format!("cannot read {}: {why}", path.display()),
            Err(_) => format!("{} holds no {name}", directory.display()),
        };
        Err(PlanError::new(at, message).help("expected a Hugging Face model directory or a .gguf file"))
    }

    pub(super) fn existing(&self, at: &TomlPath, value: &Value) -> Result<PathBuf, PlanError> {
        let Some(written) = value.as_str() else {
            return Err(PlanError::new(at, format!("expected a path in quotes, found {value}")));
        };
        let path = self.directory().join(written);
        match std::fs::metadata(&path) {
            Ok(_) => return Ok(path),
            // What it was is known, and that is enough for what a remote has.
            Err(error) if error.kind() == ErrorKind::NotFound && self.lock.knows(&path) => return Ok(path),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(PlanError::new(at, format!("cannot read {}: {error}", path.display())));
            }
            Err(_) => {}
        }
        let error = PlanError::new(at, format!("no such file or folder: {}", path.display()));
        Err(match nearest_sibling(&path) {
            Some(sibling) => error.help(format!("did you mean {}?", sibling.display())),
            None => error,
        })
    }
}

/// The entry of the same folder whose name is most like this path's.
pub fn nearest_sibling(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let siblings: Vec<String> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let near = nearest(wanted, siblings.iter().map(String::as_str))?;
    Some(path.with_file_name(near))
}
