//! pipeline.toml: parsed, checked, and lifted into the `Pipeline` that stages plan against.
//!
//! What was written (a TOML document with spans) becomes what it means (`Pipeline`) here and nowhere else.
//! Every mistake is reported as a dotted path by whoever notices it; `Manifest::diagnose` finds the line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::contract::pipeline::{Dataset, DatasetSource, Model, ModelSource};
use strata_stages::{Pipeline, PlanError};
use toml_edit::{Document, Item};

use crate::diagnostic::Diagnostic;

/// A parsed pipeline.toml.
pub struct Manifest {
    pub pipeline: Pipeline,
    path: PathBuf,
    document: Document<String>,
    /// Datasets need not be there: an estimate says what a run would take once they are.
    to_estimate: bool,
}

const SECTIONS: [&str; 3] = ["models", "datasets", "stages"];

impl Manifest {
    /// Reads and checks a pipeline file. Relative paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Manifest, Diagnostic> {
        Manifest::read(path, false)
    }

    /// As `load`, with datasets whose files are not there, for `strata run --dry-run`.
    pub fn load_to_estimate(path: &Path) -> Result<Manifest, Diagnostic> {
        Manifest::read(path, true)
    }

    fn read(path: &Path, to_estimate: bool) -> Result<Manifest, Diagnostic> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Diagnostic::plain(format!("cannot read {}: {error}", path.display()))
                .help("`strata init DIR` writes one to start from; --pipeline FILE names another")
        })?;
        let document = Document::parse(text.clone()).map_err(|error| {
            Diagnostic::plain(error.message().trim().to_string()).in_file(path, &text, error.span())
        })?;
        let mut manifest = Manifest { pipeline: Pipeline::default(), path: path.to_path_buf(), document, to_estimate };
        manifest.pipeline = manifest.lift().map_err(|error| manifest.diagnose(&error))?;
        Ok(manifest)
    }

    /// A stage's or our own complaint about a value, with the line that holds it.
    pub fn diagnose(&self, error: &PlanError) -> Diagnostic {
        let place = locate(&self.document, &error.at);
        let mut message = error.message.clone();
        if !error.at.is_empty() && !message.contains(&error.at) {
            message = format!("{message} in {}", error.at);
        }
        let mut diagnostic = Diagnostic::plain(message).in_file(&self.path, self.document.raw(), place);
        if let Some(help) = &error.help {
            diagnostic = diagnostic.help(help);
        }
        diagnostic
    }

    /// Where the pipeline file lies: the artifacts folder and relative paths are beside it.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn lift(&self) -> Result<Pipeline, PlanError> {
        let mut pipeline = Pipeline::default();
        for (key, _) in self.document.iter() {
            if !SECTIONS.contains(&key) {
                return Err(PlanError::unknown(key, "section", key, SECTIONS));
            }
        }
        for (name, value) in self.section("models")? {
            pipeline.models.push(self.model(&name, &value)?);
        }
        for (name, value) in self.section("datasets")? {
            pipeline.datasets.push(self.dataset(&name, &value)?);
        }
        for (name, value) in self.section("stages")? {
            let at = format!("stages.{name}");
            let Some(stage) = strata_stages::stage(&name) else {
                let known = strata_stages::STAGES.iter().map(|stage| stage.name);
                return Err(PlanError::unknown(at, "stage", &name, known));
            };
            check_keys(&at, &value, stage.settings.iter().map(|setting| setting.key))?;
            pipeline.sections.push((name, value));
        }
        Ok(pipeline)
    }

    fn section(&self, name: &str) -> Result<Vec<(String, Value)>, PlanError> {
        let Some(item) = self.document.as_table().get(name) else { return Ok(Vec::new()) };
        let Some(table) = item.as_table_like() else {
            return Err(PlanError::new(name, format!("expected a table, found {}", item.type_name())));
        };
        let mut entries = Vec::new();
        for (key, item) in table.iter() {
            let at = format!("{name}.{key}");
            check_name(&at, key)?;
            let value = to_json(item, &at)?;
            if !value.is_object() {
                return Err(PlanError::new(at, format!("expected a table, found {}", item.type_name())));
            }
            entries.push((key.to_string(), value));
        }
        Ok(entries)
    }

    fn model(&self, name: &str, value: &Value) -> Result<Model, PlanError> {
        let at = format!("models.{name}");
        check_keys(&at, value, ["path", "train", "tokenizer"])?;
        let source = match (value.get("path"), value.get("train")) {
            (Some(path), None) => {
                let directory = self.existing(&format!("{at}.path"), path)?;
                require_file(&format!("{at}.path"), &directory, "config.json")?;
                ModelSource::Directory(directory)
            }
            (None, Some(train)) => ModelSource::Trained(train.clone()),
            (Some(_), Some(_)) => return Err(PlanError::new(at, "a model has either path or train, not both")),
            (None, None) => {
                return Err(PlanError::new(at, "a model needs path = \"DIRECTORY\" or train = { … }"));
            }
        };
        let tokenizer = match value.get("tokenizer") {
            Some(path) => {
                let directory = self.existing(&format!("{at}.tokenizer"), path)?;
                require_file(&format!("{at}.tokenizer"), &directory, "tokenizer.json")?;
                Some(directory)
            }
            None => None,
        };
        Ok(Model { name: name.to_string(), source, tokenizer })
    }

    fn dataset(&self, name: &str, value: &Value) -> Result<Dataset, PlanError> {
        let at = format!("datasets.{name}");
        let source = match (value.get("path"), value.get("corpus")) {
            (Some(Value::String(path)), None) if self.to_estimate => DatasetSource::File(self.directory().join(path)),
            (Some(path), None) => DatasetSource::File(self.existing(&format!("{at}.path"), path)?),
            (None, Some(Value::String(part))) => DatasetSource::Corpus(part.clone()),
            (None, Some(_)) => {
                return Err(PlanError::new(format!("{at}.corpus"), "expected the name of a corpus part"));
            }
            (Some(_), Some(_)) => return Err(PlanError::new(at, "a dataset has either path or corpus, not both")),
            (None, None) => return Err(PlanError::new(at, "a dataset needs path = \"FILE\" or corpus = \"PART\"")),
        };
        let mut reading = value.clone();
        if let Some(reading) = reading.as_object_mut() {
            reading.remove("path");
            reading.remove("corpus");
        }
        Ok(Dataset { name: name.to_string(), source, reading })
    }

    fn existing(&self, at: &str, value: &Value) -> Result<PathBuf, PlanError> {
        let Some(written) = value.as_str() else {
            return Err(PlanError::new(at, format!("expected a path in quotes, found {value}")));
        };
        let path = self.directory().join(written);
        if path.exists() {
            return Ok(path);
        }
        let error = PlanError::new(at, format!("no such file or folder: {}", path.display()));
        Err(match nearest_sibling(&path) {
            Some(sibling) => error.help(format!("did you mean {}?", sibling.display())),
            None => error,
        })
    }
}

fn require_file(at: &str, directory: &Path, file: &str) -> Result<(), PlanError> {
    if directory.join(file).is_file() {
        return Ok(());
    }
    let message = format!("{} holds no {file}", directory.display());
    Err(PlanError::new(at, message).help("expected a Hugging Face model directory"))
}

fn nearest_sibling(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let siblings: Vec<String> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let near = strata_stages::contract::pipeline::nearest(wanted, siblings.iter().map(String::as_str))?;
    Some(path.with_file_name(near))
}

/// Names become folders (`model=NAME`) and query values, so they are kept to what is plain in both.
fn check_name(at: &str, name: &str) -> Result<(), PlanError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(PlanError::new(at, format!("the name \"{name}\" cannot be a folder's"))
        .help("use letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'"))
}

fn check_keys<'a>(at: &str, value: &Value, known: impl IntoIterator<Item = &'a str> + Clone) -> Result<(), PlanError> {
    for key in value.as_object().into_iter().flat_map(|table| table.keys()) {
        if !known.clone().into_iter().any(|known| known == key) {
            return Err(PlanError::unknown(format!("{at}.{key}"), "key", key, known));
        }
    }
    Ok(())
}

fn to_json(item: &Item, at: &str) -> Result<Value, PlanError> {
    if let Some(table) = item.as_table_like() {
        let mut object = serde_json::Map::new();
        for (key, item) in table.iter() {
            object.insert(key.to_string(), to_json(item, &format!("{at}.{key}"))?);
        }
        return Ok(Value::Object(object));
    }
    if let Some(tables) = item.as_array_of_tables() {
        let tables = tables.iter().enumerate();
        let values = tables.map(|(i, table)| to_json(&Item::Table(table.clone()), &format!("{at}[{i}]")));
        return Ok(Value::Array(values.collect::<Result<_, _>>()?));
    }
    match item.as_value() {
        Some(toml_edit::Value::String(text)) => Ok(Value::from(text.value().as_str())),
        Some(toml_edit::Value::Integer(number)) => Ok(Value::from(*number.value())),
        Some(toml_edit::Value::Float(number)) => Ok(Value::from(*number.value())),
        Some(toml_edit::Value::Boolean(flag)) => Ok(Value::from(*flag.value())),
        Some(toml_edit::Value::Array(array)) => {
            let items = array.iter().enumerate();
            let values = items.map(|(i, value)| to_json(&Item::Value(value.clone()), &format!("{at}[{i}]")));
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }
        _ => Err(PlanError::new(at, format!("a {} has no meaning here", item.type_name()))),
    }
}

/// The bytes of the value at a dotted path, or of the deepest part of the path that is there.
fn locate(document: &Document<String>, at: &str) -> Option<Range<usize>> {
    let mut item = document.as_item();
    let mut found = None;
    for step in at.split('.').flat_map(|step| step.split_inclusive('[')) {
        let step = step.trim_end_matches('[');
        let next = match step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok()) {
            Some(index) => {
                if let Some(element) = item.as_array().and_then(|array| array.get(index)) {
                    found = element.span().or(found);
                    // Arrays hold values, not items: descend by hand for tables within them.
                    if let Some(rest) = at.split_once(&format!("[{index}].")).map(|(_, rest)| rest) {
                        let inner = element.as_inline_table().and_then(|table| table.get(rest));
                        found = inner.and_then(|value| value.span()).or(found);
                    }
                    return found;
                }
                item.as_array_of_tables().and_then(|tables| tables.get(index)).map(|table| table.span())
            }
            None => {
                let Some((key, next)) = item.as_table_like().and_then(|table| table.get_key_value(step)) else { break };
                let whole_table = next.is_table();
                found = if whole_table { key.span() } else { next.span() }.or(found);
                item = next;
                continue;
            }
        };
        return next.flatten().or(found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Manifest, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = directory.path().join("pipeline.toml");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Manifest::load(&path).map_err(|diagnostic| diagnostic.to_string())
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_name() {
        let error = load("[models]\n\n[stages.corpsu]\nseed = 1\n").err().unwrap_or_default();
        assert!(error.contains("pipeline.toml:3:"), "{error}");
        assert!(error.contains("unknown stage \"corpsu\""), "{error}");
        let error = load("[modles]\n").err().unwrap_or_default();
        assert!(error.contains("did you mean \"models\"?") && error.contains("pipeline.toml:1:"), "{error}");
        let error = load("[models.base]\npath = \"nowhere\"\n").err().unwrap_or_default();
        assert!(error.contains("no such file") && error.contains("pipeline.toml:2:"), "{error}");
    }

    #[test]
    fn list_elements_are_located() {
        let document = Document::parse("[stages.x]\na = [1,\n \"two\"]\np = [{ s = 1 }, { s = 2 }]\n".to_string());
        let Ok(document) = document else { panic!("valid TOML") };
        let text = |at| locate(&document, at).map(|span| document.raw()[span].to_string());
        assert_eq!(text("stages.x.a[1]").as_deref(), Some("\"two\""));
        assert_eq!(text("stages.x.p[1].s").as_deref(), Some("2"));
        assert_eq!(text("stages.x.missing").as_deref(), Some("x"));
    }
}
