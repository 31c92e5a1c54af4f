//! Whether everything that the records name is in the store, byte for byte.

use std::path::PathBuf;

use anyhow::Result;

use super::{ObjectState, Store};
use crate::key::Key;

/// What is wrong with a store. The task that each names runs again.
#[derive(Debug)]
pub enum Problem {
    /// A record that cannot be read.
    UnreadableRecord(Key),
    /// A record whose document has another key than the one it is filed under.
    MisfiledRecord(Key),
    /// An object that is missing or damaged, and the stage that makes it.
    Object { path: PathBuf, state: ObjectState, stage: String },
}

#[derive(Debug, Default)]
pub struct Verified {
    pub objects: usize,
    pub problems: Vec<Problem>,
}

impl Store {
    /// Hashes every object that a record names.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub fn verify(&self) -> Result<Verified> {
        let mut verified = Verified::default();
        for key in self.keys()? {
            let Some(record) = self.record(key) else {
                verified.problems.push(Problem::UnreadableRecord(key));
                continue;
            };
            if record.document.key() != key {
                verified.problems.push(Problem::MisfiledRecord(key));
            }
            for output in &record.outputs {
                verified.objects += 1;
                let path = self.layout.object(output);
                self.fingerprints.forget(&path);
                let state = self.check(output);
                if state != ObjectState::Sound {
                    let stage = record.document.stage.clone();
                    verified.problems.push(Problem::Object { path, state, stage });
                }
            }
        }
        Ok(verified)
    }
}
