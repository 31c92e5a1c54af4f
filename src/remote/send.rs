//! What goes to a remote: a task's objects, then its record.

use super::fetch::object_name;
use super::{Failure, MARKER, Marker, Remote};
use crate::key::Key;
use crate::store::layout::record_name;
use crate::store::{FORMAT, Store};

/// What sending a task came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    pub objects: usize,
    pub bytes: u64,
}

impl Remote {
    /// Says that there is a store, where nothing does.
    ///
    /// # Errors
    /// When it cannot be written, or a store of another format is there.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        if self.marker().await?.is_some() {
            return Ok(());
        }
        let marker = serde_json::to_vec(&Marker { format: FORMAT }).map_err(|error| Failure::Here(error.into()))?;
        self.write(MARKER, marker).await
    }

    /// Sends a finished task; none where it is not finished here.
    ///
    /// # Errors
    /// When one of its objects is damaged, or the remote does not take it.
    pub(super) async fn send(&self, store: &Store, key: Key) -> Result<Option<Sent>, Failure> {
        let Some((record, text)) = store.record_with_text(key) else { return Ok(None) };
        let mut sent = Sent::default();
        for output in &record.outputs {
            let name = object_name(output);
            if self.size(&name).await? == Some(output.bytes) {
                continue;
            }
            self.upload(&name, &store.layout.object(output), output.object).await?;
            sent.objects += 1;
            sent.bytes += output.bytes;
        }
        self.write(&record_name(key), text).await?;
        Ok(Some(sent))
    }
}
