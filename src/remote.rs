//! A remote: a place over the network, or a folder, where several people's stores share objects and records.
//!
//! A remote has the store's own layout. Objects go before the record that names them, so a reader never sees
//! a record whose objects are not there. Whatever comes from a remote is hashed before it becomes visible, and
//! a record is believed only when its document hashes to the key it is filed under.

pub mod background;
pub mod bounded;
pub mod fetch;
pub mod lookup;
mod send;
#[cfg(test)]
mod tests;
mod transport;
pub mod url;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use object_store::{ObjectStore, path::Path as RemotePath};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::key::Key;
use crate::store::layout::{RECORDS, record_name};

/// An open remote. Each thread that works with one opens it for itself: its connections belong to that thread's runtime.
pub struct Remote {
    /// As the user names it.
    pub name: String,
    store: Arc<dyn ObjectStore>,
    prefix: RemotePath,
    kind: Kind,
    health: Health,
    /// Of what is sent at once.
    pieces: Arc<Semaphore>,
}

/// Whether a remote was given up, and why. All that works with one remote in a command shares it, so that a server that does not
/// answer is waited for once.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<OnceLock<String>>);

impl PartialEq for Health {
    /// How a remote is, is no part of what it is.
    fn eq(&self, _: &Health) -> bool {
        true
    }
}

impl Eq for Health {}

/// What a remote can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A folder: whether a file is there is asked of the disk.
    Folder,
    /// An object store, which lists the names that it holds, a thousand at a time.
    Bucket,
    /// A web server: reads a name, and no more.
    Web,
}

/// Why a remote did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It does not answer, not in time, or not to us. Asking again now is no use.
    #[error("{0}")]
    Unreachable(String),
    /// What it holds is not what its name says. The rest of it may be sound.
    #[error("{0}")]
    Refused(String),
    /// This machine's own disk.
    #[error("{0:#}")]
    Here(anyhow::Error),
}

/// The file at the top of a remote that says it is one.
const MARKER: &str = "strata.json";

/// What [`MARKER`] holds.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// Of the layout and the records.
    format: u32,
}

impl Remote {
    fn new(name: String, store: Arc<dyn ObjectStore>, prefix: RemotePath, kind: Kind, health: Health) -> Remote {
        Remote { name, store, prefix, kind, health, pieces: Arc::new(Semaphore::new(transport::PIECES_AT_ONCE)) }
    }

    /// A bucket over a client that tests and fuzzing give.
    #[cfg(any(test, fuzzing))]
    pub fn over(store: Arc<dyn ObjectStore>) -> Remote {
        let (name, prefix) = ("s3://test".to_string(), RemotePath::default());
        Remote::new(name, store, prefix, Kind::Bucket, Health::default())
    }

    fn at(&self, relative: &str) -> RemotePath {
        relative.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Whether results can be sent there.
    pub fn can_be_written(&self) -> bool {
        self.kind != Kind::Web
    }

    /// Makes sure that there is a store of our format.
    ///
    /// # Errors
    /// When nothing was ever pushed there, another format was, or it does not answer.
    pub async fn check(&self) -> Result<(), Failure> {
        match self.marker().await? {
            Some(_) => Ok(()),
            None => Err(Failure::Unreachable(format!(
                "there is no store at {}: it has no {MARKER}, which the first `strata push` writes",
                self.name
            ))),
        }
    }

    /// What says that it is a store; none where nothing was pushed yet.
    async fn marker(&self) -> Result<Option<Marker>, Failure> {
        const LONGEST: u64 = 1 << 16;
        let Some(text) = self.read(MARKER, LONGEST).await? else { return Ok(None) };
        let refused = |why: String| Failure::Unreachable(format!("{MARKER} of {} {why}", self.name));
        let marker: Marker = serde_json::from_slice(&text).map_err(|error| refused(format!("is damaged: {error}")))?;
        if marker.format != crate::store::FORMAT {
            let ours = crate::store::FORMAT;
            return Err(refused(format!("says format {}, and this Strata reads format {ours}", marker.format)));
        }
        Ok(Some(marker))
    }

    /// The keys of all records there.
    pub async fn all_keys(&self) -> Result<HashSet<Key>, Failure> {
        Ok(self.names(RECORDS).await?.iter().filter_map(|name| key_of(name)).collect())
    }

    /// Whether all of its names can be asked for at once.
    fn lists(&self) -> bool {
        self.kind == Kind::Bucket
    }

    /// Whether a record is there.
    async fn has(&self, key: Key) -> Result<bool, Failure> {
        Ok(self.size(&record_name(key)).await?.is_some())
    }
}

/// The key of a record's name.
fn key_of(name: &str) -> Option<Key> {
    name.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}
