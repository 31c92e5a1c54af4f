//! What `strata doctor` says of each model: its description, what its files hold, and how it reads conversations.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use strata_stages::contract::file::{CONFIGURATION, read_text};
use strata_stages::contract::pipeline::{Base, Model, ModelSource, Origin, TemplateSource};
use strata_stages::contract::toml_path::at;
use strata_stages::model::adapter::file_names;
use strata_stages::model::gguf::Gguf;
use strata_stages::model::ops::Values;
use strata_stages::model::transformer::Transformer;
use strata_stages::model::{family, files};
use strata_stages::text::chat::{ChatTemplate, ChatTokenizer};
use strata_stages::text::encoding::Params;
use strata_stages::{Part, Pipeline, PlanError};

use super::findings::Findings;
use super::finite::not_finite;
use crate::cli::say::say;
use crate::graph::{FileFilter, From, adapter_files, model_files, template_files};
use crate::manifest::Manifest;

/// A model as far as it was looked at.
pub struct Seen {
    pub name: String,
    /// What is said of it.
    about: Vec<String>,
    pub reader: Option<Reader>,
}

/// How a model reads conversations.
pub struct Reader {
    pub tokenizer: Arc<ChatTokenizer>,
    pub template: ChatTemplate,
    pub max_tokens: usize,
    /// How many tokens the model knows.
    pub vocabulary: Option<usize>,
}

impl Seen {
    pub fn print(&self) -> Result<()> {
        for (i, line) in self.about.iter().enumerate() {
            let name = if i == 0 { self.name.as_str() } else { "" };
            say!("  {name:<16} {line}");
        }
        Ok(())
    }
}

/// Opens every model.
pub fn look(manifest: &Manifest, read_all: bool, findings: &mut Findings) -> Vec<Seen> {
    let models = manifest.pipeline.models.iter();
    models.map(|model| one(manifest, model, read_all, findings)).collect()
}

fn one(manifest: &Manifest, model: &Model, read_all: bool, findings: &mut Findings) -> Seen {
    let pipeline = &manifest.pipeline;
    let mut seen = Seen { name: model.name.clone(), about: Vec::new(), reader: None };
    let directory = match pipeline.origin(model) {
        Some(Origin::Directory(directory)) => directory,
        Some(Origin::Trained(_)) => {
            seen.about.push("made by the run".into());
            return seen;
        }
        None => return seen,
    };
    if manifest.lock.speaks_for(directory) {
        seen.about.push("not here; strata.lock says what it was".into());
        return seen;
    }
    let here = at("models").key(&model.name).key("path");
    // Of a repository of the hub's its configuration may be all that has come.
    let awaited = manifest.lock.awaited(directory);
    let mut vocabulary = None;
    match describe(directory) {
        Ok((text, known)) => {
            vocabulary = Some(known);
            seen.about.push(text);
        }
        Err(error) if findings.has("models", &model.name) => {
            seen.about.push(format!("{:#}", error.root_cause()));
        }
        Err(error) => findings.of_reader(here.clone(), &error),
    }
    if let ModelSource::Adapter { directory, base } = &model.source {
        seen.about.push(adapter(directory, base));
    }
    // A fault of its config.json or of an adapter's is one of these files too.
    if let Some(what) = awaited {
        seen.about.push(what.to_string());
        return seen;
    }
    if !findings.has("models", &model.name) {
        match open(manifest, model, directory) {
            Ok(opened) => {
                seen.about.push(format!("{}; computed in {}", holds(directory, &opened), model.precision.name()));
                if let Some(what) = not_finite(&opened, read_all) {
                    let where_ = directory.display();
                    let help = "a training run that diverged, or a damaged file";
                    findings.fault(PlanError::new(here.clone(), format!("{where_}: {what}")).help(help));
                }
            }
            Err(error) => findings.of_reader(here.clone(), &error),
        }
    }
    match reader(manifest, model, directory, vocabulary) {
        Ok((reader, source)) => {
            let known = reader.tokenizer.tokenizer.get_vocab(true);
            let largest = known.values().max().map_or(0, |id| *id as usize + 1);
            seen.about.push(format!("chat template: {source}; {} tokens in the tokenizer", known.len()));
            match vocabulary {
                Some(vocabulary) if largest > vocabulary => {
                    let text = format!(
                        "the tokenizer knows {largest} tokens and the model {vocabulary}: the tokenizer is not this model's"
                    );
                    findings.fault(PlanError::new(at("models").key(&model.name), text));
                }
                Some(vocabulary) if largest * 2 < vocabulary => {
                    let text =
                        format!("the tokenizer knows {largest} tokens and the model {vocabulary}; is it this model's?");
                    findings.doubt(at("models").key(&model.name), text);
                }
                _ => {}
            }
            seen.reader = Some(reader);
        }
        Err(error) => findings.of_reader(at("models").key(&model.name), &error),
    }
    seen
}

/// What the configuration says, and how many tokens the model knows.
fn describe(directory: &Path) -> Result<(String, usize)> {
    let text = files::config(directory)?;
    let description = family::describe(&text).with_context(|| files::config_file(directory).display().to_string())?;
    let parameters: usize = description.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let config: Value = serde_json::from_str(&text)?;
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("of no model_type");
    let text = format!(
        "{kind}, {} parameters, {} layers of width {}, {} tokens",
        count(parameters as f64),
        description.layers,
        description.hidden_size,
        description.vocabulary
    );
    Ok((text, description.vocabulary))
}

fn adapter(directory: &Path, base: &Base) -> String {
    let base = match base {
        Base::Model(name) => name.clone(),
        Base::Directory(directory) => directory.display().to_string(),
    };
    let config = read_text(&directory.join(file_names::CONFIG), CONFIGURATION).unwrap_or_default();
    let config: Value = serde_json::from_str(&config).unwrap_or_default();
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("an adapter");
    let rank = config.get("r").and_then(Value::as_u64).map_or(String::new(), |rank| format!(" of rank {rank}"));
    format!("{kind}{rank} on {base}, from {}", directory.display())
}

fn open(manifest: &Manifest, model: &Model, directory: &Path) -> Result<Transformer> {
    let mut files = parts(&model_files(&model.name, directory, &FileFilter::Weights, &manifest.lock)?);
    if let ModelSource::Adapter { directory, .. } = &model.source {
        files.extend(parts(&adapter_files(&model.name, directory, &manifest.lock)?));
    }
    Transformer::open(&files)
}

/// In what its numbers are written, and in how many bytes.
fn holds(directory: &Path, model: &Transformer) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let matrices = model.layers.iter().flat_map(|layer| &layer.modules).map(|linear| &linear.weight);
    for stored in matrices.chain([&model.embedding]) {
        let kind = match model.weights.matrix(stored).values {
            Values::F32(_) | Values::Bytes32(_) => "F32",
            Values::F16(_) => "F16",
            Values::Bf16(_) => "BF16",
            Values::Fp8(_) => "FP8 in blocks",
            Values::Blocks(_) => continue,
        };
        *kinds.entry(kind.into()).or_default() += stored.out * stored.inputs;
    }
    if files::is_gguf(directory)
        && let Ok(tensors) = Gguf::open(directory).and_then(|file| file.tensors())
    {
        kinds.clear();
        for tensor in tensors {
            *kinds.entry(format!("{:?}", tensor.dtype)).or_default() += tensor.shape.iter().product::<usize>();
        }
    }
    let mut kinds: Vec<(String, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<String> = kinds.into_iter().map(|(kind, _)| kind).collect();
    format!("stored in {}", names.join(", "))
}

fn reader(manifest: &Manifest, model: &Model, directory: &Path, vocabulary: Option<usize>) -> Result<(Reader, String)> {
    let pipeline: &Pipeline = &manifest.pipeline;
    let of = model.tokenizer.as_deref().unwrap_or(directory);
    let mut files = parts(&model_files(&model.name, of, &FileFilter::Tokenizer, &manifest.lock)?);
    if let Some(template) = template_files(&model.name, model, &manifest.lock)? {
        files.extend(parts(&template));
    }
    let params = Params::of(pipeline, model)?;
    let tokenizer = ChatTokenizer::open(&files, params.model_type.as_deref())?;
    let template = params.template(&tokenizer)?;
    let has_jinja = files.iter().any(|part| part.name == "chat_template.jinja");
    let source = match &model.chat_template {
        Some(TemplateSource::BuiltIn(name)) => format!("the built-in {name}"),
        Some(TemplateSource::Named(name)) => format!("\"{name}\" of {}", of.display()),
        Some(TemplateSource::File(path) | TemplateSource::Tokenizer(path)) => path.display().to_string(),
        None if files::is_gguf(of) => of.display().to_string(),
        None if has_jinja => of.join("chat_template.jinja").display().to_string(),
        None => of.join("tokenizer_config.json").display().to_string(),
    };
    Ok((Reader { tokenizer, template, max_tokens: params.max_tokens, vocabulary }, source))
}

fn parts(from: &From) -> Vec<Part> {
    let files = from.each().iter().filter_map(|from| match from {
        From::Files { files, .. } => Some(files.iter()),
        _ => None,
    });
    files.flatten().map(|(name, path)| Part { path: path.clone(), name: name.clone() }).collect()
}

/// `494.0 M`
pub fn count(number: f64) -> String {
    match number {
        number if number >= 1e9 => format!("{:.2} B", number / 1e9),
        number if number >= 1e6 => format!("{:.1} M", number / 1e6),
        number if number >= 1e4 => format!("{:.1} k", number / 1e3),
        number => format!("{number}"),
    }
}
