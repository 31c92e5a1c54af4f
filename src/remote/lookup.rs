//! Asking remotes for the records of stale tasks, before anything is computed.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Result, bail};
use futures_util::StreamExt;

use super::fetch::{Expected, Found};
use super::{Failure, Remote};
use crate::key::Key;
use crate::manifest::remotes::{OnFailure, RemoteSetting};
use crate::store::signing::Trust;

/// So many keys are asked for one by one; from then on a remote's records are listed once.
const FEW: usize = 32;
/// Requests at once. They are small, and what takes time is their way there and back.
const AT_ONCE: usize = 64;

/// The remotes that a run looks into. One that fails is not asked again.
pub struct Lookup {
    runtime: tokio::runtime::Runtime,
    remotes: Vec<Asked>,
    /// What the user should know, in the order in which it happened.
    notes: Vec<String>,
    /// Keys whose record or objects in a remote are not to be believed, with why.
    refused: BTreeMap<Key, String>,
}

struct Asked {
    setting: RemoteSetting,
    /// None until it is first asked, and from when it failed.
    remote: Option<Remote>,
    failed: bool,
    /// The keys of all its records, once there were many to ask for.
    listed: Option<HashSet<Key>>,
    asked: usize,
}

/// A runtime for one thread's requests.
///
/// # Errors
/// When the system gives none.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

impl Lookup {
    /// # Errors
    /// When the system gives no runtime.
    pub fn new(settings: &[RemoteSetting]) -> Result<Lookup> {
        let asked = |setting: &RemoteSetting| Asked {
            setting: setting.clone(),
            remote: None,
            failed: false,
            listed: None,
            asked: 0,
        };
        let remotes = settings.iter().map(asked).collect();
        Ok(Lookup { runtime: runtime()?, remotes, notes: Vec::new(), refused: BTreeMap::new() })
    }

    /// The records that some remote has of these tasks; of several remotes the first that has one.
    ///
    /// # Errors
    /// When a remote cannot be asked that the pipeline says to stop for.
    pub fn look(&mut self, wanted: &[Expected], trust: &Trust) -> Result<HashMap<Key, Found>> {
        let mut found = HashMap::new();
        for asked in &mut self.remotes {
            let left: Vec<Expected> = wanted
                .iter()
                .filter(|expected| !found.contains_key(&expected.key) && !self.refused.contains_key(&expected.key))
                .copied()
                .collect();
            if asked.failed || left.is_empty() {
                continue;
            }
            let answer = self.runtime.block_on(asked.look(&left, trust, &mut found));
            for (key, why) in answer.refused {
                self.notes.push(format!("{why}; its task is computed where it is needed"));
                self.refused.insert(key, why);
            }
            if let Some(failure) = answer.failure {
                asked.failed = true;
                asked.remote = None;
                let name = &asked.setting.name;
                if asked.setting.on_failure == OnFailure::Stop {
                    bail!("the remote {name} cannot be asked: {failure}");
                }
                self.notes
                    .push(format!("the remote {name} cannot be asked, and the run goes on without it: {failure}"));
            }
        }
        Ok(found)
    }

    /// Makes sure that every remote answers and is one, for who asks it by hand, whether anything is missing here or not.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&mut self) -> Result<()> {
        for asked in &mut self.remotes {
            if let Err(failure) = self.runtime.block_on(asked.open()) {
                bail!("the remote {} cannot be asked: {failure}", asked.setting.name);
            }
        }
        Ok(())
    }

    /// What happened since this was last asked.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Whether a key's record in some remote is wrong: a push replaces it.
    pub fn refuses(&self, key: Key) -> bool {
        self.refused.contains_key(&key)
    }

    /// Why records or objects were refused.
    pub fn refusals(&self) -> Vec<&str> {
        self.refused.values().map(String::as_str).collect()
    }

    /// Makes a key's record in any remote count as not there.
    pub fn refuse(&mut self, key: Key, why: String) {
        self.refused.insert(key, why);
    }

    /// Makes no remote be asked any more.
    pub fn give_up(&mut self) {
        self.remotes.iter_mut().for_each(|asked| asked.failed = true);
    }

    /// Whether a remote is left that can be asked.
    pub fn is_up(&self) -> bool {
        self.remotes.iter().any(|asked| !asked.failed)
    }
}

struct Answer {
    refused: Vec<(Key, String)>,
    failure: Option<Failure>,
}

impl Asked {
    async fn look(&mut self, wanted: &[Expected], trust: &Trust, found: &mut HashMap<Key, Found>) -> Answer {
        let mut answer = Answer { refused: Vec::new(), failure: None };
        if let Err(failure) = self.open().await {
            answer.failure = Some(failure);
            return answer;
        }
        let Some(remote) = &self.remote else { return answer };
        self.asked += wanted.len();
        if remote.lists() && self.asked > FEW && self.listed.is_none() {
            match remote.all_keys().await {
                Ok(listed) => self.listed = Some(listed),
                Err(failure) => {
                    answer.failure = Some(failure);
                    return answer;
                }
            }
        }
        let there = wanted.iter().filter(|expected| match &self.listed {
            Some(listed) => listed.contains(&expected.key),
            None => true,
        });
        let requests = there.map(|expected| async { (expected.key, remote.record(*expected, trust).await) });
        let mut answers = futures_util::stream::iter(requests).buffer_unordered(AT_ONCE);
        while let Some((key, record)) = answers.next().await {
            match record {
                Ok(None) => {}
                Ok(Some(record)) => drop(found.insert(key, record)),
                Err(Failure::Refused(why)) => answer.refused.push((key, why)),
                Err(failure) => {
                    answer.failure = Some(failure);
                    return answer;
                }
            }
        }
        answer
    }

    async fn open(&mut self) -> Result<(), Failure> {
        if self.remote.is_some() {
            return Ok(());
        }
        let unreachable = |error: anyhow::Error| Failure::Unreachable(format!("{error:#}"));
        let remote = match Remote::open(&self.setting) {
            // Where results are sent to, a folder is made when there are some.
            Err(_) if self.setting.push => Remote::open_to_write(&self.setting).map_err(unreachable)?,
            opened => opened.map_err(unreachable)?,
        };
        // Nothing was pushed there yet: nor is there anything to find.
        let empty = self.setting.push && remote.marker().await?.is_none();
        if empty {
            self.listed = Some(HashSet::new());
        } else {
            remote.check().await?;
        }
        self.remote = Some(remote);
        Ok(())
    }
}
