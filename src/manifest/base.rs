//! Which model an adapter updates: the one that `base` names, or the one that it was trained on, where it is to be found.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use strata_stages::contract::pipeline::{Base, Model, ModelSource};
use strata_stages::contract::toml_path::at;
use strata_stages::model::adapter::file_names;
use strata_stages::model::files;
use strata_stages::{Pipeline, PlanError};

use crate::hub::names::RepositoryId;

/// `written` is the value of `base`, empty without one; relative paths are relative to `here`. `repositories` are those of the
/// models that come from the hub.
///
/// # Errors
/// When there is no such model, or it is an adapter itself.
pub fn of(
    here: &Path,
    pipeline: &Pipeline,
    repositories: &BTreeMap<String, RepositoryId>,
    model: &Model,
    directory: &Path,
    written: &str,
) -> Result<Base, PlanError> {
    let entry = at("models").key(&model.name);
    let named = |name: &str| pipeline.find_model(name);
    if !written.is_empty() {
        let at = entry.key("base");
        return match named(written) {
            Some(Model { source: ModelSource::Adapter { .. }, .. }) => {
                let error = PlanError::new(at, format!("the base \"{written}\" is an adapter itself"));
                Err(error.help("peft's merge_and_unload makes a model of an adapter and its base"))
            }
            Some(found) => Ok(Base::Model(found.name.clone())),
            None if is_model(&here.join(written)) => Ok(Base::Directory(here.join(written))),
            None => {
                let whole = pipeline.models.iter().filter(|other| !matches!(other.source, ModelSource::Adapter { .. }));
                Err(PlanError::unknown(at, "model", written, whole.map(|other| other.name.as_str())))
            }
        };
    }
    let Some(trained_on) = trained_on(directory) else {
        let file = directory.join(file_names::CONFIG);
        let error = PlanError::new(entry, format!("{} does not say on what the adapter was trained", file.display()));
        return Err(error.help("name its base: base = \"MODEL\""));
    };
    // As its trainer's machine called it: a path, or the hub's name for it.
    if let Some(path) = [here.join(&trained_on), directory.join(&trained_on)].into_iter().find(|path| is_model(path)) {
        return Ok(Base::Directory(path));
    }
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let wanted = last(Path::new(&trained_on));
    let whole = || pipeline.models.iter().filter(|other| !matches!(other.source, ModelSource::Adapter { .. }));
    let same = |other: &&Model| repositories.get(&other.name).is_some_and(|id| id.as_str() == trained_on);
    let alike = |other: &&Model| match (repositories.get(&other.name), &other.source) {
        (Some(id), _) => last(Path::new(id.as_str())) == wanted,
        (None, ModelSource::Directory(path)) => last(path) == wanted && wanted.is_some(),
        _ => false,
    };
    match whole().find(same).or_else(|| whole().find(alike)) {
        Some(found) => Ok(Base::Model(found.name.clone())),
        None => {
            let message = format!(
                "the adapter was trained on \"{trained_on}\", which is neither a folder nor the folder or the repository of a \
                 model here"
            );
            let error = PlanError::new(entry, message);
            Err(match RepositoryId::new(&trained_on) {
                Ok(_) => error.help(format!(
                    "name it as a model, base = {{ hub = \"{trained_on}\" }}, or name another: base = \"MODEL\""
                )),
                Err(_) => error.help("name its base: base = \"MODEL\""),
            })
        }
    }
}

fn trained_on(directory: &Path) -> Option<String> {
    let text = std::fs::read(directory.join(file_names::CONFIG)).ok()?;
    let config: Value = serde_json::from_slice(&text).ok()?;
    config.get("base_model_name_or_path")?.as_str().filter(|base| !base.is_empty()).map(str::to_string)
}

fn is_model(path: &Path) -> bool {
    path.join("config.json").is_file() || (files::is_gguf(path) && path.is_file())
}
