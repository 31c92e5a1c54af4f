//! `[models]`: a model by its path, its address on the hub or its training, and what an adapter updates.

use std::path::Path;

use serde_json::Value;
use strata_stages::contract::pipeline::{Base, Model, ModelSource, Precision};
use strata_stages::contract::toml_path::{TomlPath, at};
use strata_stages::model::adapter::file_names;
use strata_stages::model::files;
use strata_stages::{Outputs, Pipeline, PlanError};

use super::{Manifest, base, check_keys, hub, maker};
use crate::hub::Kind;

impl Manifest {
    pub(super) fn model(&self, name: &str, value: &Value) -> Result<Model, PlanError> {
        let at = at("models").key(name);
        let train = maker(|outputs| matches!(outputs, Outputs::Model));
        let known = ["path", train, "base", "tokenizer", "chat_template", "precision"];
        check_keys(&at, value, known.into_iter().chain(hub::OF_MODEL).collect::<Vec<_>>())?;
        let of_hub = hub::of(&at, Kind::Model, value)?;
        let source = match (value.get("path"), of_hub, value.get(train)) {
            (Some(path), None, None) => {
                let directory = self.existing(&at.key("path"), path)?;
                match self.source(&directory, value) {
                    Some(source) => source,
                    None => {
                        self.require_file(&at.key("path"), &directory, "config.json")?;
                        ModelSource::Directory(directory)
                    }
                }
            }
            (None, Some(asked), None) => {
                let path = self.place_of(&at, &asked)?;
                match self.source(&path, value) {
                    Some(source) => source,
                    None if self.lock.awaited(&path).is_some() => return Err(self.not_here(&at, &asked)),
                    None => {
                        self.require_file(&at.key(hub::KEY), &path, "config.json")?;
                        ModelSource::Directory(path)
                    }
                }
            }
            (None, None, Some(train)) => ModelSource::Trained(train.clone()),
            (None, None, None) => {
                let message =
                    format!("a model needs path = \"DIRECTORY\", hub = \"ORGANISATION/NAME\" or {train} = {{ … }}");
                return Err(PlanError::new(at, message));
            }
            _ => {
                let message = format!("a model has one of path, hub and {train}, not several");
                return Err(PlanError::new(at, message));
            }
        };
        if let (Some(base), false) = (value.get("base"), matches!(source, ModelSource::Adapter { .. })) {
            let error = PlanError::new(at.key("base"), format!("the model has a base, {base}, and is no adapter"));
            return Err(error.help(format!("an adapter's folder holds {}", file_names::CONFIG)));
        }
        let tokenizer = match value.get("tokenizer") {
            Some(path) => {
                let directory = self.existing(&at.key("tokenizer"), path)?;
                if !files::is_gguf(&directory) {
                    self.require_file(&at.key("tokenizer"), &directory, "tokenizer.json")?;
                }
                Some(directory)
            }
            None => None,
        };
        let precision = match value.get("precision") {
            Some(written) => precision(&at.key("precision"), written)?,
            None => Precision::default(),
        };
        Ok(Model { name: name.to_string(), source, tokenizer, chat_template: None, precision })
    }

    /// What lies at a path; `None` where it is neither an adapter nor a model.
    fn source(&self, directory: &Path, value: &Value) -> Option<ModelSource> {
        let directory = directory.to_path_buf();
        if self.is_file(&directory.join(file_names::CONFIG)) {
            let base = value.get("base").and_then(Value::as_str).unwrap_or_default();
            return Some(ModelSource::Adapter { directory, base: Base::Model(base.to_string()) });
        }
        let is_model = files::is_gguf(&directory) || self.is_file(&directory.join("config.json"));
        is_model.then_some(ModelSource::Directory(directory))
    }

    /// What an adapter updates, and whose tokenizer it has: its own where one lies beside it, else the base's.
    pub(super) fn find_base(&self, pipeline: &mut Pipeline, index: usize) -> Result<(), PlanError> {
        let model = &pipeline.models[index];
        let ModelSource::Adapter { directory, base: Base::Model(written) } = &model.source else { return Ok(()) };
        let repositories = self.repositories();
        let base = base::of(self.directory(), pipeline, &repositories, model, directory, written)?;
        let own = self.is_file(&directory.join("tokenizer.json")).then(|| directory.clone());
        let of_base = match &base {
            Base::Model(name) => pipeline.find_model(name),
            Base::Directory(_) => None,
        };
        let tokenizer = own.or_else(|| of_base?.tokenizer.clone());
        let source = ModelSource::Adapter { directory: directory.clone(), base };
        let model = &mut pipeline.models[index];
        model.source = source;
        model.tokenizer = model.tokenizer.take().or(tokenizer);
        Ok(())
    }
}

fn precision(at: &TomlPath, written: &Value) -> Result<Precision, PlanError> {
    let names = Precision::ALL.map(Precision::name);
    let Some(name) = written.as_str() else {
        return Err(PlanError::new(at.clone(), format!("expected one of {}, found {written}", names.join(", "))));
    };
    let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
    found.ok_or_else(|| PlanError::unknown(at.clone(), "precision", name, names))
}
