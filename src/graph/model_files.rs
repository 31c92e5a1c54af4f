//! Which files of a Hugging Face model directory a stage reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::PlanError;
use strata_stages::contract::file;
use strata_stages::contract::pipeline::{Model, ModelSource, TemplateSource};
use strata_stages::contract::toml_path::at;
use strata_stages::model::adapter::file_names;
use strata_stages::model::{files, gguf};
use strata_stages::text::chat::{ADDITIONAL, BORROWED};

use super::{FileRole, From};
use crate::lock::Lock;

/// Of a model's or corpus's files, those that an input reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileFilter {
    All,
    Weights,
    Tokenizer,
    Config,
    Named(String),
}

impl FileFilter {
    pub fn admits(&self, name: &str) -> bool {
        match self {
            FileFilter::All => true,
            FileFilter::Config => name == "config.json",
            FileFilter::Weights => {
                name == "config.json" || (name.ends_with(".safetensors") && !ADAPTER_FILES.contains(&name))
            }
            FileFilter::Tokenizer => TOKENIZER_FILES.contains(&name),
            FileFilter::Named(wanted) => name == wanted,
        }
    }
}

pub const ADAPTER_FILES: [&str; 2] = [file_names::CONFIG, file_names::WEIGHTS];

/// Where a tokenizer's chat template may be.
const TEMPLATE_FILES: [&str; 2] = ["tokenizer_config.json", "chat_template.jinja"];

const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/// The files of a Hugging Face model directory, or the GGUF file that is a model, under one role, by name. The index of sharded weights says
/// which safetensors belong to the model; without one, all of them do.
pub fn model_files(model: &str, directory: &Path, filter: &FileFilter, lock: &Lock) -> Result<From, PlanError> {
    if files::is_gguf(directory) {
        // One file holds it all. Its own name is no content.
        let files = [(gguf::FILE.to_string(), directory.to_path_buf())].into();
        return Ok(From::Files { role: FileRole::Model, files });
    }
    if lock.speaks_for(directory) {
        // What it held is known, and that those were all.
        let names = lock.names(directory).into_iter().filter(|name| filter.admits(name));
        let files = names.map(|name| (name.clone(), directory.join(name))).collect();
        return Ok(From::Files { role: FileRole::Model, files });
    }
    let at = at("models").key(model);
    let fail = |message: String| PlanError::new(at.clone(), message);
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .map_err(|error| fail(format!("cannot list {}: {error}", directory.display())))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| filter.admits(name))
        .collect();
    names.sort();
    let index = directory.join("model.safetensors.index.json");
    if *filter == FileFilter::Weights && index.is_file() {
        let shards = sharded(&index).map_err(|reason| fail(format!("{}: {reason}", index.display())))?;
        if let Some(missing) = shards.iter().find(|shard| !names.contains(shard)) {
            return Err(fail(format!("{} names {missing}, which is not there", index.display())));
        }
        names.retain(|name| name == "config.json" || shards.contains(name));
    }
    if *filter == FileFilter::Weights && !names.iter().any(|name| name.ends_with(".safetensors")) {
        return Err(fail(format!("{} holds no .safetensors file", directory.display()))
            .help("Strata reads safetensors; transformers' save_pretrained writes them"));
    }
    if *filter == FileFilter::Tokenizer && !names.iter().any(|name| name == "tokenizer.json") {
        return Err(fail(format!("{} holds no tokenizer.json", directory.display()))
            .help("a fast tokenizer's save_pretrained writes it; `tokenizer = \"DIRECTORY\"` names another's"));
    }
    let files = names.into_iter().map(|name| (name.clone(), directory.join(name))).collect();
    Ok(From::Files { role: FileRole::Model, files })
}

/// An adapter's configuration and weights.
pub fn adapter_files(model: &str, directory: &Path, lock: &Lock) -> Result<From, PlanError> {
    if let Some(absent) = awaited(directory, lock) {
        return Ok(absent);
    }
    let files = ADAPTER_FILES.map(|name| (name.to_string(), directory.join(name)));
    match files.iter().find(|(_, path)| !path.is_file() && lock.hash(path).is_none()) {
        None => Ok(From::Files { role: FileRole::Model, files: files.into() }),
        Some((name, _)) => {
            let error = PlanError::new(at("models").key(model), format!("{} holds no {name}", directory.display()));
            Err(error.help("Strata reads safetensors; peft's save_pretrained writes them"))
        }
    }
}

/// The files from which a model takes a chat template that is not its tokenizer's; `None` where it takes none.
pub fn template_files(name: &str, model: &Model, lock: &Lock) -> Result<Option<From>, PlanError> {
    let files: Vec<(&str, PathBuf)> = match &model.chat_template {
        None | Some(TemplateSource::BuiltIn(_)) => return Ok(None),
        Some(TemplateSource::Named(name)) => return Ok(additional(name, model, lock)),
        Some(TemplateSource::File(path)) => vec![("chat_template.jinja", path.clone())],
        Some(TemplateSource::Tokenizer(path)) if lock.awaited(path).is_some() => return Ok(awaited(path, lock)),
        Some(TemplateSource::Tokenizer(path)) if files::is_gguf(path) => vec![(gguf::FILE, path.clone())],
        Some(TemplateSource::Tokenizer(directory)) => {
            let named = TEMPLATE_FILES.map(|name| (name, directory.join(name)));
            named.into_iter().filter(|(_, path)| path.is_file() || lock.hash(path).is_some()).collect()
        }
    };
    if files.is_empty() {
        let at = at("models").key(name).key("chat_template");
        return Err(PlanError::new(at, format!("the other model has neither {}", TEMPLATE_FILES.join(" nor "))));
    }
    let files = files.into_iter().map(|(name, path)| (format!("{BORROWED}{name}"), path)).collect();
    Ok(Some(From::Files { role: FileRole::Model, files }))
}

/// The file of one of a model's own templates beside the usual one; `None` where it has no file of its own.
fn additional(name: &str, model: &Model, lock: &Lock) -> Option<From> {
    let directory = match (&model.tokenizer, &model.source) {
        (Some(directory), _) | (None, ModelSource::Directory(directory)) => directory,
        _ => return None,
    };
    let name = format!("{ADDITIONAL}{name}.jinja");
    let path = directory.join(&name);
    let is_there = path.is_file() || lock.hash(&path).is_some();
    is_there.then(|| From::Files { role: FileRole::Model, files: [(name, path)].into() })
}

/// Of a folder or file of the hub's that is not whole here, what is missing.
fn awaited(path: &Path, lock: &Lock) -> Option<From> {
    lock.awaited(path).map(|what| From::Absent { what: what.to_string(), path: path.to_path_buf() })
}

fn sharded(index: &Path) -> Result<BTreeSet<String>, String> {
    let text = file::read(index, file::CONFIGURATION).map_err(|error| error.to_string())?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or("no \"weight_map\" in it")?;
    Ok(map.values().filter_map(|shard| shard.as_str().map(str::to_string)).collect())
}
