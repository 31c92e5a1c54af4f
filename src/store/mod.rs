//! Where results live: immutable objects named by their bytes, records named by their task's key.
//!
//! Everything is written to a temporary name in the same folder, flushed, and renamed. A kill at any instant
//! leaves the old state or the new one and at worst a temporary file, which `gc` removes. There is no
//! database and no index that must be right: what this module remembers of files can be deleted at any time.

pub mod disk;
#[cfg(test)]
pub mod faults;
mod fingerprints;
mod gc;
pub mod layout;
pub mod names;
mod records;
pub mod roots;
pub mod signing;
pub mod task_locks;
#[cfg(test)]
mod tests;
mod verify;
pub mod views;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use disk::{Disk, Partial, Temporary};
pub use fingerprints::{FileState, Fingerprints, Folder, read_regular};
use layout::Layout;
use names::{Extension, ObjectHash};
pub use records::{FORMAT, Fault, LONGEST_RECORD, Made, OutputRecord, Record, parse, signed_by};
use signing::Trust;
pub use verify::holds;

use crate::key::Key;

/// A store: the folder `artifacts/` of a pipeline, or one shared by several.
pub struct Store {
    pub layout: Layout,
    pub disk: Disk,
    pub fingerprints: Fingerprints,
    pub trust: Trust,
}

/// What is known of an object on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    Sound,
    Missing,
    /// Other bytes, or something that is no file.
    Damaged,
}

impl Store {
    /// Opens the store at `root`; creates nothing.
    #[cfg(test)]
    pub fn open(root: &Path) -> Store {
        Store::on(Disk::default(), root)
    }

    #[cfg(test)]
    pub fn on(disk: Disk, root: &Path) -> Store {
        Store::with(disk, Layout::new(root))
    }

    /// The store of a layout, with the views of that layout's pipeline.
    pub fn at(layout: Layout) -> Store {
        Store::with(Disk::default(), layout)
    }

    fn with(disk: Disk, layout: Layout) -> Store {
        Store { fingerprints: Fingerprints::load(&layout.fingerprints()), disk, layout, trust: Trust::default() }
    }

    /// Makes the folders, with an error that says why the store cannot be written.
    pub fn prepare(&self) -> Result<()> {
        for path in [self.layout.objects(), self.layout.records(), self.layout.cache()] {
            let made = self.disk.create_folders(&path);
            // Asked for rather than tried: a file that comes and goes would change the folder's modification time, on
            // which a run with nothing to do rests (`unchanged.rs`).
            let made = made.and_then(|()| Ok(rustix::fs::access(&path, rustix::fs::Access::WRITE_OK)?));
            made.with_context(|| format!("cannot write the store at {}", path.display()))?;
        }
        Ok(())
    }

    /// Held while a run or a transfer works, so that `gc` cannot remove what it is making.
    pub fn lock_shared(&self) -> Result<File> {
        self.lock(FlockOperation::LockShared)
    }

    /// Held by `gc`: fails at once when something else uses the store.
    pub fn lock_exclusive(&self) -> Result<File> {
        self.lock(FlockOperation::NonBlockingLockExclusive)
            .context("the store is in use by another strata; try again when it has ended")
    }

    fn lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.layout.lock();
        let file = self.disk.open_lock(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match rustix::fs::flock(&file, operation) {
            // A file system without locks: what a run does is safe beside others', and what removes files is not done.
            Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) if operation == FlockOperation::LockShared => {}
            other => other.with_context(|| format!("cannot lock {}", path.display()))?,
        }
        Ok(file)
    }

    /// Saves what was learned of files where there is a store to keep it in. Looking at a pipeline must work in
    /// a folder one cannot write, and the memory is only a cache, so failing to keep it is no error.
    pub fn keep_fingerprints(&self) {
        if self.layout.cache().exists() {
            let _ = self.save_fingerprints();
        }
    }

    /// Writes what was learned of files, together with what other runs learned meanwhile.
    pub fn save_fingerprints(&self) -> Result<()> {
        self.fingerprints.save(&self.disk)
    }

    /// Whether the object is there and its bytes are those of its name. Bytes are hashed once and then
    /// remembered by size, modification time and inode.
    pub fn check(&self, output: &OutputRecord) -> ObjectState {
        let path = self.layout.object(output);
        let Ok(state) = FileState::of_regular(&path) else {
            return if path.symlink_metadata().is_ok() { ObjectState::Damaged } else { ObjectState::Missing };
        };
        if state.size != output.bytes {
            return ObjectState::Damaged;
        }
        match self.fingerprints.hash(&path, state) {
            Ok(hash) if hash == output.object.to_hex() => ObjectState::Sound,
            Ok(_) => ObjectState::Damaged,
            Err(_) => ObjectState::Missing,
        }
    }

    /// Writes an object through `write`: the half of publishing it that does not wait for the disk.
    pub fn write_object(
        &self,
        extension: Option<&Extension>,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<Unnamed<'_>> {
        let mut temporary = Temporary::create(&self.disk, &self.layout.objects())?;
        let mut hashing =
            HashingWriter { inner: BufWriter::new(&mut temporary), hasher: blake3::Hasher::new(), bytes: 0 };
        let written = write(&mut hashing).and_then(|()| Ok(hashing.flush()?));
        written.with_context(|| format!("cannot write an object in {}", self.layout.objects().display()))?;
        let (hash, bytes) = (ObjectHash::from(hashing.hasher.finalize()), hashing.bytes);
        drop(hashing);
        Ok(Unnamed { temporary, hash, bytes, extension: extension.cloned() })
    }

    /// The other half: flushes the file, moves it to the object's name and remembers that its bytes are known. Writing the same
    /// bytes twice is harmless.
    pub fn name_object(&self, unnamed: Unnamed) -> Result<()> {
        let Unnamed { temporary, hash, bytes, extension } = unnamed;
        let object = OutputRecord { object: hash, extension, name: None, rows: 0, bytes, columns: BTreeMap::new() };
        let path = self.layout.object(&object);
        if let Some(folder) = path.parent() {
            self.disk.create_folders(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        }
        if self.check(&object) != ObjectState::Sound {
            self.make_way(&path)?;
            temporary.rename(&path)?;
            self.fingerprints.remember(&path, FileState::of(&path)?, &object.object.to_hex());
        }
        Ok(())
    }

    /// A folder in a file's place cannot be replaced by one.
    fn make_way(&self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let aside = self.disk.set_aside(path, &self.layout.damaged());
            aside.with_context(|| format!("{} is a folder and cannot be moved away", path.display()))?;
        }
        Ok(())
    }

    /// The outputs of a finished task, when its record is there, sealed for its key, and every object it names is sound.
    pub fn finished(&self, key: Key) -> Option<Vec<OutputRecord>> {
        let outputs = records::read_outputs(&self.layout.record(key), key, &self.trust)?;
        outputs.iter().all(|output| self.check(output) == ObjectState::Sound).then_some(outputs)
    }

    /// The outputs of a task that is known to be finished and whose objects are in a remote.
    pub fn elsewhere(&self, key: Key) -> Option<Vec<OutputRecord>> {
        records::read_outputs(&self.layout.elsewhere(key), key, &self.trust)
    }

    /// Remembers the record of a task whose objects stay in a remote for now.
    pub fn keep_elsewhere(&self, key: Key, text: &[u8]) -> Result<()> {
        self.disk.create_folders(&self.layout.all_elsewhere())?;
        self.disk.replace(&self.layout.elsewhere(key), text)
    }

    /// Forgets such a record.
    pub fn forget_elsewhere(&self, key: Key) -> Result<()> {
        let path = self.layout.elsewhere(key);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Makes a task's record one of this store's, once all of its objects are here.
    pub fn bring_here(&self, key: Key) -> Result<()> {
        let from = self.layout.elsewhere(key);
        // Another task with this key, or another run, may have brought it.
        if !from.exists() && self.record(key).is_some() {
            return Ok(());
        }
        let text = read_regular(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let path = self.layout.record(key);
        self.make_way(&path)?;
        self.disk.replace(&path, &text)?;
        self.forget_elsewhere(key)
    }

    /// The file in which an object comes in.
    pub fn partial(&self, output: &OutputRecord) -> Result<Partial<'_>> {
        self.disk.open_partial(&self.layout.partial(), &output.object.to_hex())
    }

    /// Makes a file whose bytes are an object's that object.
    pub fn adopt(&self, partial: Partial<'_>, output: &OutputRecord) -> Result<()> {
        let path = self.layout.object(output);
        if let Some(folder) = path.parent() {
            self.disk.create_folders(folder)?;
        }
        self.make_way(&path)?;
        partial.rename(&path)?;
        self.fingerprints.remember(&path, FileState::of(&path)?, &output.object.to_hex());
        Ok(())
    }

    /// A sound record and its text, as it lies here.
    pub fn record_with_text(&self, key: Key) -> Option<(Record, Vec<u8>)> {
        let text = read_regular(&self.layout.record(key)).ok()?;
        Some((records::parse(&text, key, &self.trust).ok()?, text))
    }

    /// The record of a task, where it is there and sound.
    pub fn record(&self, key: Key) -> Option<Record> {
        self.examine(key).ok().flatten()
    }

    /// The record of a task; none where nothing lies in its place.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn examine(&self, key: Key) -> Result<Option<Record>, Fault> {
        let path = self.layout.record(key);
        match read_regular(&path) {
            Ok(text) => records::parse(&text, key, &self.trust).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::Unreadable(error.to_string())),
        }
    }

    pub fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.layout.record(record.document.key());
        self.make_way(&path)?;
        self.disk.replace(&path, &record.to_text(self.trust.signer.as_ref())?)
    }

    /// Every object, temporary files left out.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn objects(&self) -> Result<Vec<std::path::PathBuf>> {
        let mut found = gc::files_below(&self.layout.objects())?;
        found.retain(|path| !disk::is_temporary(path));
        Ok(found)
    }

    /// Keys of every record, unordered.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let folder = self.layout.records();
        let mut keys = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(keys),
            Err(error) => return Err(error).with_context(|| format!("listing {}", folder.display())),
        };
        for entry in entries {
            let name = entry?.file_name();
            let key: Option<Key> =
                name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| name.parse().ok());
            keys.extend(key);
        }
        Ok(keys)
    }
}

/// An object whose bytes are written, and not yet flushed and named.
pub struct Unnamed<'s> {
    temporary: Temporary<'s>,
    pub hash: ObjectHash,
    pub bytes: u64,
    extension: Option<Extension>,
}

struct HashingWriter<W> {
    inner: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
