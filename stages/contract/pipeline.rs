//! The pipeline as the stages see it: which models and datasets there are, and how a stage picks among them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::contract::node::Bindings;
use crate::contract::places::Places;
pub use crate::contract::selection::Selection;
use crate::contract::toml_path::{TomlPath, at};

/// What `pipeline.toml` means, once its names and paths are checked.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    pub models: Vec<Model>,
    pub datasets: Vec<Dataset>,
    /// `[stages.*]`: the sections present, in the order of the file. Of a stage that has several an array.
    pub sections: Vec<(String, Value)>,
    /// Where the names of `models` and `datasets` were found. Nothing needs to be said of it: `Default::default()`.
    pub places: [Places; 2],
    /// What the config.json said of model directories that are not here, by directory.
    pub configs: BTreeMap<PathBuf, String>,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    pub source: ModelSource,
    /// A directory whose tokenizer files are used instead of the model's own.
    pub tokenizer: Option<PathBuf>,
    /// What is used instead of the tokenizer's own chat template.
    pub chat_template: Option<TemplateSource>,
    pub precision: Precision,
}

/// Where a model takes its chat template from, if not from its tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateSource {
    /// By its name, in [`crate::text::chat::built_in`].
    BuiltIn(String),
    /// By its name among several of the model's own.
    Named(String),
    /// A file with the template's source.
    File(PathBuf),
    /// A directory with a tokenizer or a GGUF file, whose template it is.
    Tokenizer(PathBuf),
}

/// In which numbers a model's linear layers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    #[default]
    F32,
    Bf16,
    /// bf16 where the model's files hold bf16, else f32.
    Auto,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Auto];

    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Auto => "auto",
        }
    }
}

#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A Hugging Face model directory, or a GGUF file.
    Directory(PathBuf),
    /// Made by the `train` stage's node of this name, from these settings (`train = { … }`).
    Trained(Value),
    /// A PEFT adapter's directory, and the model that it updates.
    Adapter { directory: PathBuf, base: Base },
}

/// What an adapter updates.
#[derive(Debug, Clone)]
pub enum Base {
    /// A model of the pipeline by its name, itself no adapter.
    Model(String),
    /// A Hugging Face model directory.
    Directory(PathBuf),
}

/// Where a model's configuration and weights are; an adapter's base's.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    Directory(&'a Path),
    /// Made by the `train` stage's node of this name.
    Trained(&'a str),
}

#[derive(Debug, Clone)]
pub struct Dataset {
    pub name: String,
    pub source: DatasetSource,
    /// How rows become examples: parsed and read by the `examples` stage.
    pub reading: Value,
}

#[derive(Debug, Clone)]
pub enum DatasetSource {
    File(PathBuf),
    /// A named part of the `corpus` stage's output.
    Corpus(String),
    /// Conversations in pipeline.toml itself: a list of messages, or a list of such lists.
    Written(Value),
}

/// A mistake in pipeline.toml, with the path of the value that holds it, from which the engine finds the line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    pub at: TomlPath,
    pub message: String,
    pub help: Option<String>,
}

impl PlanError {
    pub fn new(at: impl Into<TomlPath>, message: impl Into<String>) -> PlanError {
        PlanError { at: at.into(), message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> PlanError {
        self.help = Some(help.into());
        self
    }

    /// `unknown model "instrct"`, with the nearest known name or the list of them as help.
    pub fn unknown<'a>(
        at: impl Into<TomlPath>,
        what: &str,
        found: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> PlanError {
        let known: Vec<&str> = known.into_iter().collect();
        let error = PlanError::new(at, format!("unknown {what} \"{found}\""));
        match nearest(found, known.iter().copied()) {
            Some(name) => error.help(format!("did you mean \"{name}\"?")),
            None if known.is_empty() => error.help(format!("the pipeline has no {what}")),
            None => error.help(format!("expected one of: {}", some_of(found, known))),
        }
    }
}

/// Names that are expected where `found` stands: all of a few, or of many those most like it.
fn some_of(found: &str, mut known: Vec<&str>) -> String {
    const SHOWN: usize = 8;
    if known.len() <= SHOWN {
        return known.join(", ");
    }
    known.sort_by_key(|name| strsim::damerau_levenshtein(found, name));
    format!("{} and {} more", known[..SHOWN].join(", "), known.len() - SHOWN)
}

/// The known name most like `found`, if any is alike enough to be a slip of the hand.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(found.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

impl Pipeline {
    /// The models a selection names, in the pipeline's order for `"*"` and in the written order for a list.
    pub fn models(&self, selection: &Selection, at: impl Into<TomlPath>) -> Result<Vec<&Model>, PlanError> {
        select(&self.models, |model| &model.name, &self.places[0], "model", selection, at.into())
    }

    /// The datasets a selection names.
    pub fn datasets(&self, selection: &Selection, at: impl Into<TomlPath>) -> Result<Vec<&Dataset>, PlanError> {
        select(&self.datasets, |dataset| &dataset.name, &self.places[1], "dataset", selection, at.into())
    }

    /// The settings of another stage: its section, or `{}` where the file has none.
    pub fn section<T: serde::de::DeserializeOwned>(&self, stage: &str) -> Result<T, PlanError> {
        let section = self.sections.iter().find(|(name, _)| name == stage);
        let empty = Value::Object(Default::default());
        parse_settings(stage, section.map_or(&empty, |(_, settings)| settings))
    }

    pub fn model(&self, name: &str, at: impl Into<TomlPath>) -> Result<&Model, PlanError> {
        match self.find_model(name) {
            Some(model) => Ok(model),
            None => Err(unknown(&self.models, |model| &model.name, "model", name, at.into())),
        }
    }

    /// The model of this name, if there is one.
    pub fn find_model(&self, name: &str) -> Option<&Model> {
        self.places[0].find(&self.models, |model| &model.name, name)
    }

    /// The dataset of this name, if there is one.
    pub fn find_dataset(&self, name: &str) -> Option<&Dataset> {
        self.places[1].find(&self.datasets, |dataset| &dataset.name, name)
    }

    /// Where a model's configuration and weights are. An adapter on another adapter, which the manifest refuses, has none.
    pub fn origin<'a>(&'a self, model: &'a Model) -> Option<Origin<'a>> {
        match &model.source {
            ModelSource::Directory(directory) => Some(Origin::Directory(directory)),
            ModelSource::Trained(_) => Some(Origin::Trained(&model.name)),
            ModelSource::Adapter { base: Base::Directory(directory), .. } => Some(Origin::Directory(directory)),
            ModelSource::Adapter { base: Base::Model(base), .. } => match self.find_model(base) {
                Some(Model { source: ModelSource::Directory(directory), .. }) => Some(Origin::Directory(directory)),
                Some(Model { source: ModelSource::Trained(_), name, .. }) => Some(Origin::Trained(name)),
                _ => None,
            },
        }
    }

    pub fn dataset(&self, name: &str, at: impl Into<TomlPath>) -> Result<&Dataset, PlanError> {
        match self.find_dataset(name) {
            Some(dataset) => Ok(dataset),
            None => Err(unknown(&self.datasets, |dataset| &dataset.name, "dataset", name, at.into())),
        }
    }
}

fn select<'a, T>(
    all: &'a [T],
    name: fn(&T) -> &String,
    places: &Places,
    what: &str,
    selection: &Selection,
    at: TomlPath,
) -> Result<Vec<&'a T>, PlanError> {
    let find =
        |wanted: &str, at: TomlPath| places.find(all, name, wanted).ok_or_else(|| unknown(all, name, what, wanted, at));
    match selection {
        Selection::One(star) if star == "*" => Ok(all.iter().collect()),
        Selection::One(wanted) => Ok(vec![find(wanted, at)?]),
        Selection::Many(wanted) => wanted.iter().enumerate().map(|(i, wanted)| find(wanted, at.index(i))).collect(),
    }
}

fn unknown<T>(all: &[T], name: fn(&T) -> &String, what: &str, wanted: &str, at: TomlPath) -> PlanError {
    PlanError::unknown(at, what, wanted, all.iter().map(|item| name(item).as_str()))
}

/// A stage's section as its own settings type, errors pointing at the key.
pub fn parse_settings<T: serde::de::DeserializeOwned>(stage: &str, settings: &Value) -> Result<T, PlanError> {
    deserialize(&at("stages").key(stage), settings)
}

fn deserialize<T: serde::de::DeserializeOwned>(at: &TomlPath, settings: &Value) -> Result<T, PlanError> {
    check_counts(at, settings)?;
    serde_path_to_error::deserialize(settings)
        .map_err(|error| PlanError::new(at.within(error.path()), in_plain_words(&error.inner().to_string())))
}

/// Settings that memory and time grow with.
const COUNTS: [&str; 8] = ["components", "draws", "k", "layers", "n", "permutations", "resamples", "shuffles"];

/// What a count may be at most: far beyond any use, and still a table that fits into memory.
const LARGEST_COUNT: u64 = 1_000_000;

fn check_counts(at: &TomlPath, settings: &Value) -> Result<(), PlanError> {
    for key in COUNTS {
        if let Some(count) = settings.get(key).and_then(Value::as_u64).filter(|count| *count > LARGEST_COUNT) {
            let message = format!("{key} = {count} is too large");
            return Err(PlanError::new(at.clone().key(key), message).help(format!("at most {LARGEST_COUNT}")));
        }
    }
    Ok(())
}

/// serde names what it expected by Rust's types.
fn in_plain_words(message: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number, at least 0"),
        ("expected u64", "expected a whole number, at least 0"),
        ("expected u32", "expected a whole number, at least 0"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table"),
    ];
    words.iter().fold(message.to_string(), |message, (rust, plain)| message.replace(rust, plain))
}

/// The section of a stage that may have several, `[[stages.<name>]]`: each as the settings type, with its path.
pub fn parse_each<T: serde::de::DeserializeOwned>(
    stage: &str,
    settings: &Value,
) -> Result<Vec<(TomlPath, T)>, PlanError> {
    let all = at("stages").key(stage);
    let Value::Array(sections) = settings else { return Ok(vec![(all, parse_settings(stage, settings)?)]) };
    let parse = |(i, section)| {
        let at = all.index(i);
        let parsed = deserialize(&at, section)?;
        Ok((at, parsed))
    };
    sections.iter().enumerate().map(parse).collect()
}

/// Names become folders (`model=NAME`) and query values, so they are kept to what is plain in both.
///
/// # Errors
/// When a name is not, or too long.
pub fn check_folder_name(at: &TomlPath, name: &str) -> Result<(), PlanError> {
    // `dataset=NAME` is one folder's name, of which file systems take 255 bytes.
    const LONGEST: usize = 128;
    if name.len() > LONGEST {
        let message = format!("a name of {} bytes is too long for a folder's; the longest is {LONGEST}", name.len());
        return Err(PlanError::new(at.clone(), message));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(PlanError::new(at.clone(), format!("the name \"{name}\" cannot be a folder's"))
        .help("use letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'"))
}

/// The bindings of a per-model, per-dataset node.
pub fn model_dataset(model: &str, dataset: &str) -> Bindings {
    vec![("model", model.to_string()), ("dataset", dataset.to_string())]
}
