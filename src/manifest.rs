//! pipeline.toml: parsed, checked, and lifted into the `Pipeline` that stages plan against.
//!
//! What was written (a TOML document with spans) becomes what it means (`Pipeline`) here.
//! Every mistake is reported as a dotted path by whoever notices it; `Manifest::diagnose` finds the line.

mod base;
mod chat_template;
mod dataset;
pub mod executor;
mod existing;
pub mod hub;
mod locate;
mod model;
pub mod name;
pub mod remotes;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::contract::file::read_text;
use strata_stages::contract::pipeline::check_folder_name;
use strata_stages::contract::toml_path::{TomlPath, at};
use strata_stages::{Outputs, Pipeline, PlanError, STAGES};
use toml_edit::{Document, Item};

use crate::diagnostic::Diagnostic;
use crate::hub::Use;
use crate::hub::snapshot::{Here, Pins};
use crate::lock::Lock;
use crate::store::signing::PublicKey;
pub use executor::{Executor, Resources};
pub use existing::nearest_sibling;
use locate::locate;
use remotes::RemoteSetting;

/// A parsed pipeline.toml.
pub struct Manifest {
    pub pipeline: Pipeline,
    pub executor: Executor,
    pub remotes: Vec<RemoteSetting>,
    pub lock: Lock,
    /// Whose records are believed; everybody's without.
    pub trust: Option<Vec<PublicKey>>,
    path: PathBuf,
    document: Document<String>,
    /// Datasets need not be there: an estimate says what a run would take once they are.
    to_estimate: bool,
    /// What is here of the hub's repositories.
    here: HashMap<Use, Here>,
    /// Bytes of each that are not, by address, where the hub was asked.
    missing: BTreeMap<String, u64>,
}

/// What the hub said of repositories whose files were not fetched.
#[derive(Default)]
pub struct OfHub {
    pub pins: Pins,
    pub missing: BTreeMap<String, u64>,
}

/// Bytes of the largest pipeline.toml.
const LARGEST: u64 = 16 << 20;

const TRUST: &str = "trust";
const SECTIONS: [&str; 5] = ["models", "datasets", "stages", "executor", "remotes"];

impl Manifest {
    /// Reads and checks a pipeline file. Relative paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Manifest, Diagnostic> {
        Manifest::parse(path)?.checked()
    }

    /// Checks what a parsed file says.
    pub fn checked(self) -> Result<Manifest, Diagnostic> {
        sound(self.check())
    }

    /// As `load`, with datasets whose files are not there, for `strata run --dry-run`.
    pub fn load_to_estimate(path: &Path, of_hub: OfHub) -> Result<Manifest, Diagnostic> {
        Manifest::look(path, of_hub).and_then(sound)
    }

    /// As `load_to_estimate`, going on after a mistake: what it is of is left out. All mistakes, in their order.
    pub fn look(path: &Path, of_hub: OfHub) -> Result<(Manifest, Vec<PlanError>), Diagnostic> {
        let mut manifest = Manifest::parse(path)?;
        manifest.to_estimate = true;
        manifest.lock.pins.extend(of_hub.pins);
        manifest.missing = of_hub.missing;
        Ok(manifest.check())
    }

    /// Reads a pipeline file; what is written in it is looked at when it is checked.
    pub fn parse(path: &Path) -> Result<Manifest, Diagnostic> {
        let text = read_text(path, LARGEST).map_err(|error| {
            Diagnostic::plain(format!("cannot read {}: {error}", path.display()))
                .help("`strata init DIR` writes one to start from; --pipeline FILE names one that is neither here nor in a folder above")
        })?;
        let document = Document::parse(text.clone()).map_err(|error| {
            Diagnostic::plain(error.message().trim().to_string()).in_file(path, &text, error.span())
        })?;
        let lock = Lock::load(path.parent().unwrap_or(Path::new("")))?;
        let (pipeline, executor, remotes) = (Pipeline::default(), Executor::default(), Vec::new());
        Ok(Manifest {
            pipeline,
            executor,
            remotes,
            lock,
            trust: None,
            path: path.to_path_buf(),
            document,
            to_estimate: false,
            here: HashMap::new(),
            missing: BTreeMap::new(),
        })
    }

    /// Checks what a parsed file says, going on after a mistake.
    fn check(mut self) -> (Manifest, Vec<PlanError>) {
        let mut mistakes = Mistakes::default();
        self.look_up();
        self.pipeline = self.lift(&mut mistakes);
        let executor = self.section("executor").and_then(|entries| executor::of(&entries));
        self.executor = mistakes.note(executor).unwrap_or_default();
        self.remotes = mistakes.note(self.lift_remotes()).unwrap_or_default();
        self.trust = mistakes.note(self.lift_trust()).flatten();
        (self, mistakes.0)
    }

    /// A stage's or our own complaint about a value, with the line that holds it.
    pub fn diagnose(&self, error: &PlanError) -> Diagnostic {
        let place = locate(&self.document, &error.at);
        let mut message = error.message.clone();
        if !error.at.is_root() && !message.contains(&error.at.to_string()) {
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

    fn lift(&self, mistakes: &mut Mistakes) -> Pipeline {
        let mut pipeline = Pipeline { configs: self.lock.configs(), ..Pipeline::default() };
        for (key, item) in self.document.iter().filter(|(key, _)| *key != TRUST) {
            if key == name::NAME {
                let at = at(name::NAME);
                mistakes.note(to_json(item, &at).and_then(|name| name::check(&at, &name)));
                continue;
            }
            if !SECTIONS.contains(&key) {
                mistakes.0.push(PlanError::unknown(TomlPath::default().key(key), "section", key, SECTIONS));
            }
        }
        let models = mistakes.note(self.section("models")).unwrap_or_default();
        for (name, value) in &models {
            pipeline.models.extend(mistakes.note(self.model(name, value)));
        }
        let based = (0..pipeline.models.len()).map(|i| mistakes.note(self.find_base(&mut pipeline, i)).is_some());
        let based: Vec<bool> = based.collect();
        let mut based = based.into_iter();
        pipeline.models.retain(|_| based.next().unwrap_or(true));
        for i in 0..pipeline.models.len() {
            let name = &pipeline.models[i].name;
            let Some((_, value)) = models.iter().find(|(other, _)| other == name) else { continue };
            if let Some(written) = value.get("chat_template") {
                let at = at("models").key(name).key("chat_template");
                let template = chat_template::of(self.directory(), &pipeline, &at, written);
                pipeline.models[i].chat_template = mistakes.note(template);
            }
        }
        for (name, value) in mistakes.note(self.section("datasets")).unwrap_or_default() {
            pipeline.datasets.extend(mistakes.note(self.dataset(&name, &value)));
        }
        for (name, value) in mistakes.note(self.section("stages")).unwrap_or_default() {
            if mistakes.note(check_section(&name, &value)).is_some() {
                pipeline.sections.push((name, value));
            }
        }
        pipeline
    }

    fn lift_trust(&self) -> Result<Option<Vec<PublicKey>>, PlanError> {
        let Some(item) = self.document.as_table().get(TRUST) else { return Ok(None) };
        let wrong = |at: TomlPath, found: String| PlanError::new(at, format!("in trust: {found}"));
        let Value::Array(written) = to_json(item, &at(TRUST))? else {
            return Err(wrong(at(TRUST), "expected a list of public keys, [\"ed25519:…\"]".to_string()));
        };
        let keys = written.iter().enumerate().map(|(i, key)| {
            let at = at(TRUST).index(i);
            let text =
                key.as_str().ok_or_else(|| wrong(at.clone(), format!("expected a key in quotes, found {key}")))?;
            text.parse().map_err(|error| wrong(at, error))
        });
        Ok(Some(keys.collect::<Result<_, _>>()?))
    }

    fn lift_remotes(&self) -> Result<Vec<RemoteSetting>, PlanError> {
        let sections = self.section("remotes")?.into_iter();
        sections.map(|(name, value)| remotes::of(self.directory(), &name, &at("remotes").key(&name), &value)).collect()
    }

    fn section(&self, name: &'static str) -> Result<Vec<(String, Value)>, PlanError> {
        let Some(item) = self.document.as_table().get(name) else { return Ok(Vec::new()) };
        let Some(table) = item.as_table_like() else {
            return Err(PlanError::new(at(name), format!("expected a table, found {}", item.type_name())));
        };
        let mut entries = Vec::new();
        let root = at(name);
        for (key, item) in table.iter() {
            let at = root.key(key);
            check_folder_name(&at, key)?;
            let value = to_json(item, &at)?;
            // Only stages can have several tables of one name; `lift` says which.
            let several = name == "stages" && item.is_array_of_tables();
            if !value.is_object() && !several {
                return Err(PlanError::new(at, format!("expected a table, found {}", item.type_name())));
            }
            entries.push((key.to_string(), value));
        }
        Ok(entries)
    }
}

/// A manifest without a mistake, or the first one.
fn sound((manifest, mistakes): (Manifest, Vec<PlanError>)) -> Result<Manifest, Diagnostic> {
    match mistakes.first() {
        None => Ok(manifest),
        Some(first) => Err(manifest.diagnose(first)),
    }
}

/// What is wrong in a file, in the order in which it was found.
#[derive(Default)]
struct Mistakes(Vec<PlanError>);

impl Mistakes {
    /// What was found where it is right, else nothing and the mistake noted.
    fn note<T>(&mut self, found: Result<T, PlanError>) -> Option<T> {
        found.map_err(|mistake| self.0.push(mistake)).ok()
    }
}

/// The key under which a model or a dataset asks for the stage that makes it: that stage's name.
fn maker(makes: fn(&Outputs) -> bool) -> &'static str {
    STAGES.iter().find(|stage| makes(&stage.outputs)).map_or("", |stage| stage.name)
}

/// Whether a section of a stage is one, with keys that the stage has.
fn check_section(name: &str, value: &Value) -> Result<(), PlanError> {
    let at = at("stages").key(name);
    let Some(stage) = strata_stages::stage(name) else {
        let known = strata_stages::STAGES.iter().map(|stage| stage.name);
        return Err(PlanError::unknown(at, "stage", name, known));
    };
    let keys = stage.settings.iter().flat_map(|setting| [Some(setting.key), setting.formerly]).flatten();
    match value {
        Value::Array(sections) if stage.has_named_sections() => {
            sections.iter().enumerate().try_for_each(|(i, section)| check_keys(&at.index(i), section, keys.clone()))
        }
        Value::Array(_) => {
            let error = PlanError::new(at, format!("{name} has one section, and there are several"));
            Err(error.help(format!("write [stages.{name}] once")))
        }
        _ => check_keys(&at, value, keys),
    }
}

fn check_keys<'a>(
    at: &TomlPath,
    value: &Value,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<(), PlanError> {
    for key in value.as_object().into_iter().flat_map(|table| table.keys()) {
        if !known.clone().into_iter().any(|known| known == key) {
            return Err(PlanError::unknown(at.key(key), "key", key, known));
        }
    }
    Ok(())
}

fn to_json(item: &Item, at: &TomlPath) -> Result<Value, PlanError> {
    if let Some(table) = item.as_table_like() {
        let mut object = serde_json::Map::new();
        for (key, item) in table.iter() {
            object.insert(key.to_string(), to_json(item, &at.key(key))?);
        }
        return Ok(Value::Object(object));
    }
    if let Some(tables) = item.as_array_of_tables() {
        let tables = tables.iter().enumerate();
        let values = tables.map(|(i, table)| to_json(&Item::Table(table.clone()), &at.index(i)));
        return Ok(Value::Array(values.collect::<Result<_, _>>()?));
    }
    match item.as_value() {
        Some(toml_edit::Value::String(text)) => Ok(Value::from(text.value().as_str())),
        Some(toml_edit::Value::Integer(number)) => Ok(Value::from(*number.value())),
        Some(toml_edit::Value::Float(number)) => Ok(Value::from(*number.value())),
        Some(toml_edit::Value::Boolean(flag)) => Ok(Value::from(*flag.value())),
        Some(toml_edit::Value::Array(array)) => {
            let items = array.iter().enumerate();
            let values = items.map(|(i, value)| to_json(&Item::Value(value.clone()), &at.index(i)));
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }
        _ => Err(PlanError::new(at, format!("a {} has no meaning here", item.type_name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn load(text: &str) -> Result<Manifest, String> {
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
        let error = load(&format!("[models.{}]\n", "n".repeat(300))).err().unwrap_or_default();
        assert!(error.contains("a name of 300 bytes is too long") && error.contains("pipeline.toml:1:"), "{error}");
        let error = load("[models.base]\npath = \"nowhere\"\n").err().unwrap_or_default();
        assert!(error.contains("no such file") && error.contains("pipeline.toml:2:"), "{error}");
    }

    #[test]
    fn only_a_stage_with_named_sections_has_several() {
        let of = |text: &str| load(text).map(|manifest| manifest.pipeline.sections);
        let sections =
            of("[[stages.similarity]]\nleast = 4\n[[stages.similarity]]\nname = \"two\"\n").unwrap_or_default();
        assert_eq!(sections[0].1, serde_json::json!([{ "least": 4 }, { "name": "two" }]));
        let error = of("[[stages.similarity]]\n[[stages.similarity]]\nleats = 4\n").err().unwrap_or_default();
        assert!(error.contains("pipeline.toml:3:") && error.contains("\"least\""), "{error}");
        let error = of("[[stages.train]]\nlayers = 4\n").err().unwrap_or_default();
        assert!(error.contains("pipeline.toml:1:") && error.contains("one section"), "{error}");
        let error = of("[[models.base]]\npath = \"x\"\n").err().unwrap_or_default();
        assert!(error.contains("expected a table"), "{error}");
    }

    #[test]
    fn every_value_is_located_however_deep() {
        let text = r#"
[models."Qwen2.5"]
path = "weights"
[stages.x]
a = [1, "two"]
pairs = [{ s = 1, of = [{ t = "in" }, { t = "deep" }] }, { s = 2 }]
at.dotted = "three"
[[stages.y.runs]]
k = 1
[[stages.y.runs]]
k = [4, { n = "five" }]
[[stages.y.runs.again]]
z = "six"
"#;
        let Ok(document) = Document::parse(text.to_string()) else { panic!("valid TOML") };
        let found = |path: TomlPath| locate(&document, &path).map(|span| text[span].to_string()).unwrap_or_default();
        let x = at("stages.x");
        assert_eq!(found(x.key("a").index(1)), "\"two\"");
        assert_eq!(found(x.key("pairs").index(1).key("s")), "2");
        assert_eq!(found(x.key("pairs").index(0).key("of").index(1).key("t")), "\"deep\"");
        assert_eq!(found(x.key("at").key("dotted")), "\"three\"");
        assert_eq!(found(at("models").key("Qwen2.5").key("path")), "\"weights\"");
        let runs = at("stages.y.runs");
        assert_eq!(found(runs.index(0).key("k")), "1");
        assert_eq!(found(runs.index(1).key("k").index(1).key("n")), "\"five\"");
        assert_eq!(found(runs.index(1).key("again").index(0).key("z")), "\"six\"");
        // What is not there is shown where it is missing.
        assert_eq!(found(x.key("missing")), "x");
        assert_eq!(found(x.key("pairs").index(1).key("of").index(0)), "{ s = 2 }");
        assert_eq!(found(runs.index(1).key("j")), "[[stages.y.runs]]");
        assert_eq!(found(runs), "runs");
    }
}
