//! `chat_template` of a model: a built-in one, another model's, or a file.

use std::path::Path;

use serde_json::Value;
use strata_stages::contract::file;
use strata_stages::contract::pipeline::{Origin, TemplateSource, nearest};
use strata_stages::contract::toml_path::TomlPath;
use strata_stages::text::chat::built_in;
use strata_stages::{Pipeline, PlanError};

/// What stands before another model's name.
const MODEL: &str = "model:";

/// What stands before the name of one of the model's own templates.
const NAMED: &str = "named:";

/// # Errors
/// When it names neither a built-in template nor a file, or a model whose template is not known.
pub fn of(here: &Path, pipeline: &Pipeline, at: &TomlPath, written: &Value) -> Result<TemplateSource, PlanError> {
    let Some(written) = written.as_str() else {
        return Err(PlanError::new(at, format!("expected a chat template in quotes, found {written}")));
    };
    if let Some(name) = written.strip_prefix(MODEL) {
        let model = pipeline.model(name, at.clone())?;
        return match (&model.tokenizer, pipeline.origin(model)) {
            (Some(directory), _) => Ok(TemplateSource::Tokenizer(directory.clone())),
            (None, Some(Origin::Directory(path))) => Ok(TemplateSource::Tokenizer(path.to_path_buf())),
            (None, _) => {
                let error = PlanError::new(
                    at,
                    format!("the chat template of \"{name}\", which is trained here, is not in a file yet"),
                );
                Err(error.help("name the file of a template, or a built-in one"))
            }
        };
    }
    if let Some(name) = written.strip_prefix(NAMED) {
        // It may be a file's name.
        return match name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            true => Err(PlanError::new(at, format!("\"{name}\" is no name of a chat template"))),
            false => Ok(TemplateSource::Named(name.to_string())),
        };
    }
    if built_in::built_in(written).is_some() {
        return Ok(TemplateSource::BuiltIn(written.to_string()));
    }
    let path = here.join(written);
    match file::unfit(&path) {
        None => return Ok(TemplateSource::File(path)),
        Some(why) if path.symlink_metadata().is_ok() => {
            return Err(PlanError::new(at, format!("cannot read {}: {why}", path.display())));
        }
        Some(_) => {}
    }
    let error = PlanError::new(
        at,
        format!("no chat template \"{written}\": it is none of the built-in ones, and there is no such file"),
    );
    let names: Vec<&str> = built_in::names().collect();
    Err(match nearest(written, names.iter().copied()) {
        Some(name) => error.help(format!("did you mean \"{name}\"?")),
        None => error.help(format!("expected one of {}, a file, {MODEL}NAME or {NAMED}NAME", names.join(", "))),
    })
}
