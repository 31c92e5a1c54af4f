//! `hub = "org/name"` of a model or a dataset, with `revision` and what else says which files are meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::PlanError;
use strata_stages::contract::toml_path::{TomlPath, at};

use super::Manifest;
use crate::hub::bring::waiting;
use crate::hub::environment::Environment;
use crate::hub::names::{FileName, RepositoryId, Revision};
use crate::hub::snapshot::{Here, State, look};
use crate::hub::{Kind, Reading, Use};

/// The key that names a repository, and those beside it.
pub const KEY: &str = "hub";
const REVISION: &str = "revision";
const FILE: &str = "file";
const CONFIG: &str = "config";
const SPLIT: &str = "split";

/// The keys of a model and of a dataset that say where on the hub it is.
pub const OF_MODEL: [&str; 3] = [KEY, REVISION, FILE];
pub const OF_DATASET: [&str; 5] = [KEY, REVISION, FILE, CONFIG, SPLIT];

/// A model or a dataset that comes from the hub.
pub struct Named {
    pub name: String,
    /// Of its entry.
    pub at: TomlPath,
    pub asked: Use,
}

/// What a model or a dataset names of the hub; `None` where it names nothing.
///
/// # Errors
/// When it is no name, or a key is there that means nothing without another.
pub fn of(at: &TomlPath, kind: Kind, value: &Value) -> Result<Option<Use>, PlanError> {
    let keys: &[&str] = if kind == Kind::Model { &OF_MODEL } else { &OF_DATASET };
    let text = |key: &'static str| match value.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(PlanError::new(at.key(key), format!("expected a text in quotes, found {other}"))),
    };
    let Some(id) = text(KEY)? else {
        return match keys.iter().copied().find(|key| value.get(key).is_some()) {
            Some(key) => {
                let error = PlanError::new(at.key(key), format!("{key} says what is read of a repository of the hub"));
                Err(error.help(format!("name the repository: {KEY} = \"ORGANISATION/NAME\"")))
            }
            None => Ok(None),
        };
    };
    let wrong = |key: &str| {
        let at = at.key(key);
        move |why: String| PlanError::new(at.clone(), why)
    };
    let id = RepositoryId::new(id).map_err(wrong(KEY))?;
    let revision = text(REVISION)?.map(Revision::new).transpose().map_err(wrong(REVISION))?;
    let file = text(FILE)?.map(FileName::new).transpose().map_err(wrong(FILE))?;
    if let Some(file) = file.as_ref().filter(|file| kind == Kind::Model && !file.has_ending(&["gguf"])) {
        let error = PlanError::new(at.key(FILE), format!("\"{}\" is no GGUF file", file.as_str()));
        return Err(error.help("without file the repository's config.json, safetensors and tokenizer are read"));
    }
    let (config, split) = match kind {
        Kind::Model => (None, None),
        Kind::Dataset => (text(CONFIG)?, text(SPLIT)?),
    };
    if let (Some(_), Some(key)) = (&file, config.map(|_| CONFIG).or(split.map(|_| SPLIT))) {
        return Err(PlanError::new(at.key(key), format!("{FILE} names a file, and {key} would choose one")));
    }
    let plain = |text: &&str| !text.is_empty() && text.len() < 200 && !text.contains(char::is_control);
    if let Some((key, found)) = [(CONFIG, config), (SPLIT, split)]
        .into_iter()
        .find_map(|(key, value)| value.filter(|value| !plain(value)).map(|value| (key, value)))
    {
        return Err(PlanError::new(at.key(key), format!("{found:?} is no name of a {key}")));
    }
    let reading = match (kind, file) {
        (_, Some(file)) => Reading::File(file),
        (Kind::Model, None) => Reading::Whole,
        (Kind::Dataset, None) => {
            Reading::Split { config: config.map(str::to_string), split: split.map(str::to_string) }
        }
    };
    Ok(Some(Use { kind, id, revision: revision.unwrap_or_else(Revision::main), reading }))
}

impl Manifest {
    /// What the pipeline file names of the hub.
    ///
    /// # Errors
    /// As for [`of`].
    pub fn hub_uses(&self) -> Result<Vec<Named>, PlanError> {
        self.each_hub_use().collect()
    }

    /// What it names rightly.
    pub fn sound_hub_uses(&self) -> Vec<Named> {
        self.each_hub_use().filter_map(Result::ok).collect()
    }

    fn each_hub_use(&self) -> impl Iterator<Item = Result<Named, PlanError>> {
        // Most pipelines name nothing of it, and some ten thousand datasets.
        let any = self.document.raw().contains(KEY);
        let sections = [("models", Kind::Model), ("datasets", Kind::Dataset)].into_iter().filter(move |_| any);
        sections.flat_map(|(section, kind)| {
            let (entries, wrong) = match self.section(section) {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            let each = entries.into_iter().filter_map(move |(name, value)| {
                let at = at(section).key(&name);
                let asked = of(&at, kind, &value).transpose()?;
                Some(asked.map(|asked| Named { name, at, asked }))
            });
            wrong.into_iter().chain(each)
        })
    }

    /// The repositories of the models that have one, by the models' names.
    pub(super) fn repositories(&self) -> BTreeMap<String, RepositoryId> {
        let models = self.sound_hub_uses().into_iter().filter(|named| named.asked.kind == Kind::Model);
        models.map(|named| (named.name, named.asked.id)).collect()
    }

    /// Looks up what is here of the hub's repositories, and has the lock wait for what is not.
    pub(super) fn look_up(&mut self) {
        for Named { asked, .. } in self.sound_hub_uses() {
            let here = look(&asked, &self.lock.pins, Environment::own());
            if let (Some(path), State::Missing) = (&here.path, here.state) {
                let files = files(&asked, &here, path);
                let missing = self.missing.get(&asked.address()).copied();
                self.lock.wait_for(path.clone(), &files, waiting(&asked, missing));
            }
            self.here.insert(asked, here);
        }
    }

    /// Whether nothing of a use is needed to know its keys: strata.lock says what every file of it was, and it is not here.
    pub fn is_known(&self, asked: &Use) -> bool {
        let here = look(asked, &self.lock.pins, Environment::own());
        let files = here.path.as_ref().map(|path| files(asked, &here, path)).unwrap_or_default();
        here.state == State::Missing && !files.is_empty() && files.iter().all(|file| self.lock.hash(file).is_some())
    }

    /// Where the files of a use are or will be.
    ///
    /// # Errors
    /// When that is not known before the hub is asked.
    pub(super) fn place_of(&self, at: &TomlPath, asked: &Use) -> Result<PathBuf, PlanError> {
        match self.here.get(asked).and_then(|here| here.path.clone()) {
            Some(path) => Ok(path),
            None => Err(self.not_here(at, asked)),
        }
    }

    pub(super) fn not_here(&self, at: &TomlPath, asked: &Use) -> PlanError {
        let message = format!("the {} {} is not here yet", asked.kind.singular(), asked.name());
        PlanError::new(at.key(KEY), message).help(
            "`strata run` fetches it, `strata run --dry-run` says how much that is, and `strata hub --fetch` fetches it alone",
        )
    }
}

/// The files whose hashes say all of a use. The index of weights is read to find them, and is no part of a key.
fn files(asked: &Use, here: &Here, path: &Path) -> Vec<PathBuf> {
    if asked.reading != Reading::Whole {
        return vec![path.to_path_buf()];
    }
    let files = here.pin.iter().flat_map(|pin| &pin.files);
    files.filter(|file| !file.as_str().ends_with(".index.json")).map(|file| path.join(file.path())).collect()
}
