//! What is here of a repository, as the cache lies; nothing is asked of the hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::contract::file::{CONFIGURATION, read_text};
use strata_stages::model::adapter::file_names;

use super::cache::Cache;
use super::choose::{CONFIG, INDEX, TOKENIZER, WEIGHTS};
use super::environment::Environment;
use super::names::{Commit, FileName};
use super::{Pin, Reading, Use};

/// What strata.lock says of the hub's repositories, by [`Use::address`].
pub type Pins = BTreeMap<String, Pin>;

/// A use as it lies in the cache.
#[derive(Debug, Clone)]
pub struct Here {
    /// The folder of a model, or a file; it need not be there. `None` where the commit or the file is not known.
    pub path: Option<PathBuf>,
    /// What is known of it: what it was pinned to, or what the cache holds.
    pub pin: Option<Pin>,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All files that are read are here.
    Complete,
    /// What cannot be done without is here; the cache does not say whether the repository has more that would be read.
    Enough,
    Missing,
}

/// Looks a use up: at the commit that it is pinned to, or that its revision was when somebody fetched it.
pub fn look(asked: &Use, pins: &Pins, environment: &Environment) -> Here {
    let cache = Cache::of(&environment.cache, asked);
    if let Some(pin) = pins.get(&asked.address()) {
        let snapshot = cache.snapshot(&pin.commit);
        let state = match pin.files.iter().all(|file| snapshot.join(file.path()).is_file()) {
            true => State::Complete,
            false => State::Missing,
        };
        return Here { path: path(asked, &snapshot, &pin.files), pin: Some(pin.clone()), state };
    }
    let Some(commit) = commit(asked, pins, &cache) else {
        return Here { path: None, pin: None, state: State::Missing };
    };
    let snapshot = cache.snapshot(&commit);
    let (files, state) = found(asked, &cache, &commit).unwrap_or((Vec::new(), State::Missing));
    let pin = (state != State::Missing).then(|| Pin { commit, files: files.clone(), converted: false });
    Here { path: path(asked, &snapshot, &files), pin, state }
}

/// Which commit a use without a pin of its own is of: that of another use of the revision, the one that it names, or the cache's.
fn commit(asked: &Use, pins: &Pins, cache: &Cache) -> Option<Commit> {
    pinned_commit(asked, pins).or_else(|| asked.revision.as_commit()).or_else(|| cache.commit_of(&asked.revision))
}

/// The commit to which strata.lock pins a use: for itself, or its revision for another.
pub fn pinned_commit(asked: &Use, pins: &Pins) -> Option<Commit> {
    let revision = Use { reading: Reading::Whole, ..asked.clone() }.address();
    let of_revision =
        |address: &str| address.strip_prefix(&revision).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let others = || pins.iter().filter(|(address, pin)| of_revision(address) && !pin.converted).map(|(_, pin)| pin);
    pins.get(&asked.address()).or_else(|| others().next()).map(|pin| pin.commit.clone())
}

fn path(asked: &Use, snapshot: &Path, files: &[FileName]) -> Option<PathBuf> {
    match &asked.reading {
        Reading::Whole => Some(snapshot.to_path_buf()),
        Reading::File(file) => Some(snapshot.join(file.path())),
        Reading::Split { .. } => files.first().map(|file| snapshot.join(file.path())),
    }
}

/// The files of a use in a snapshot that somebody else may have fetched, where it holds what is needed.
fn found(asked: &Use, cache: &Cache, commit: &Commit) -> Option<(Vec<FileName>, State)> {
    let snapshot = cache.snapshot(commit);
    let there = |name: &str| FileName::new(name).ok().filter(|name| snapshot.join(name.path()).is_file());
    match &asked.reading {
        Reading::File(file) => there(file.as_str()).map(|file| (vec![file], State::Complete)),
        // Which file a split is, is in the repository's card.
        Reading::Split { .. } => None,
        Reading::Whole => {
            let mut files = Vec::new();
            let is_adapter = match there(file_names::CONFIG) {
                Some(config) => {
                    files.extend([config, there(file_names::WEIGHTS)?]);
                    true
                }
                None => {
                    files.push(there(CONFIG)?);
                    files.extend(weights(&snapshot)?);
                    false
                }
            };
            let tokenizer: Vec<FileName> = TOKENIZER.into_iter().filter_map(there).collect();
            let has = |name: &str| tokenizer.iter().any(|file| file.as_str() == name);
            if !is_adapter && !has(TOKENIZER[0]) {
                return None;
            }
            let tree = cache.tree(commit);
            let known_absent = |name: &str| match &tree {
                Some(tree) => !tree.iter().any(|file| file == name),
                None => FileName::new(name).is_ok_and(|name| cache.is_known_absent(commit, &name)),
            };
            // A template in a file of its own is one that the configuration has not.
            let needless = |name: &str| name == TOKENIZER[2] && has_template(&snapshot);
            let settled = TOKENIZER.into_iter().all(|name| has(name) || known_absent(name) || needless(name));
            // Nobody fetches this one but who fetches the whole repository.
            let whole = there(".gitattributes").is_some();
            files.extend(tokenizer);
            Some((files, if settled || whole { State::Complete } else { State::Enough }))
        }
    }
}

/// The weights of a snapshot, with the index that names them; `None` where they are not all here.
fn weights(snapshot: &Path) -> Option<Vec<FileName>> {
    let mut files = Vec::new();
    if let Ok(shards) = shards(&snapshot.join(INDEX)) {
        files.push(FileName::new(INDEX).ok()?);
        files.extend(shards);
        return files.iter().all(|file| snapshot.join(file.path()).is_file()).then_some(files);
    }
    let entries = std::fs::read_dir(snapshot).ok()?;
    let names = entries.filter_map(|entry| FileName::new(entry.ok()?.file_name().to_str()?).ok());
    files.extend(names.filter(|name| name.has_ending(&[WEIGHTS]) && name.as_str() != file_names::WEIGHTS));
    files.sort();
    // One of several that has come says nothing of the others.
    let is_whole = files.iter().all(|file| snapshot.join(file.path()).is_file() && !file.as_str().contains("-of-"));
    (!files.is_empty() && is_whole).then_some(files)
}

/// The files that an index of weights names.
///
/// # Errors
/// When it cannot be read, or names what is no file of a repository.
pub fn shards(index: &Path) -> Result<Vec<FileName>, String> {
    let text = read_text(index, CONFIGURATION).map_err(|error| error.to_string())?;
    let index: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or("no \"weight_map\" in it")?;
    let mut names: Vec<FileName> =
        map.values().filter_map(Value::as_str).map(FileName::new).collect::<Result<_, _>>()?;
    names.sort();
    names.dedup();
    Ok(names)
}

fn has_template(snapshot: &Path) -> bool {
    let text = read_text(&snapshot.join(TOKENIZER[1]), CONFIGURATION).ok();
    let config: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    config.is_some_and(|config| config.get("chat_template").is_some_and(|template| !template.is_null()))
}
