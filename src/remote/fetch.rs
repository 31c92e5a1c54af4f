//! What comes from a remote, and what must hold before any of it is visible.

use std::path::PathBuf;

use strata_stages::Stage;

use super::transport::TRIES;
use super::{Failure, Remote};
use crate::key::Key;
use crate::outputs::unfit;
use crate::store::layout::record_name;
use crate::store::signing::{Distrust, Trust};
use crate::store::{self, Fault, LONGEST_RECORD, ObjectState, OutputRecord, Record, Store, holds};

/// What a record must be to be believed.
#[derive(Clone, Copy)]
pub struct Expected {
    pub key: Key,
    pub stage: &'static Stage,
    /// Whether its node has a task for each part of an input.
    pub by_part: bool,
}

/// A record that was found, as it lies there.
pub struct Found {
    pub record: Record,
    pub text: Vec<u8>,
}

impl Remote {
    /// The record of a task, believed as far as it can be without its objects; none where there is none.
    ///
    /// # Errors
    /// When what is there is not that task's record.
    pub(super) async fn record(&self, expected: Expected, trust: &Trust) -> Result<Option<Found>, Failure> {
        let name = record_name(expected.key);
        let refused = |why: String| {
            Failure::Refused(format!("{name} of {} is refused, and nothing of it was kept: it {why}", self.name))
        };
        // One answer may be cut or mangled on its way.
        let mut wrong = String::new();
        for _ in 0..TRIES {
            let Some(text) = self.read(&name, LONGEST_RECORD).await? else { return Ok(None) };
            match store::parse(&text, expected.key, trust) {
                Ok(record) => {
                    if let Some(why) = unfit(expected.stage, expected.by_part, &record.outputs) {
                        return Err(refused(format!("names {why}")));
                    }
                    return Ok(Some(Found { record, text }));
                }
                // What nobody signed is no answer that was mangled on its way.
                Err(fault @ Fault::Distrusted(Distrust::Unsigned | Distrust::Stranger(_))) => {
                    return Err(refused(fault.to_string()));
                }
                Err(fault) => wrong = fault.to_string(),
            }
            if self.is_near() {
                break;
            }
        }
        Err(refused(wrong))
    }

    /// Brings an object of a record into the store, where it is not. Returns how many bytes came.
    ///
    /// # Errors
    /// When it is not what its record says, or cannot be fetched.
    pub(super) async fn object(&self, store: &Store, output: &OutputRecord) -> Result<u64, Failure> {
        if store.check(output) == ObjectState::Sound {
            return Ok(0);
        }
        let name = object_name(output);
        let mut partial = store.partial(output).map_err(Failure::Here)?;
        self.download(&name, &mut partial, output.object, output.bytes).await?;
        // An object that is what it is called need not be what its record says.
        if let Err(error) = holds(partial.path(), output) {
            let _ = partial.remove();
            let why = format!("{name} of {} is refused, and nothing of it was kept: {error:#}", self.name);
            return Err(Failure::Refused(why));
        }
        store.adopt(partial, output).map_err(Failure::Here)?;
        Ok(output.bytes)
    }
}

/// An object's name in a remote.
pub(super) fn object_name(output: &OutputRecord) -> String {
    let path: PathBuf = output.object_path();
    path.to_string_lossy().into_owned()
}
