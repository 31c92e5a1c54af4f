//! Where results live: immutable objects named by their bytes, records named by their task's key.
//!
//! Everything is written to a temporary name in the same folder, flushed, and renamed. A kill at any instant
//! leaves the old state or the new one and at worst a temporary file, which `clean` removes. There is no
//! database and no index that must be right: what this module remembers of files can be deleted at any time.

mod fingerprints;
mod records;
pub mod views;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

pub use fingerprints::{FileState, Fingerprints};
pub use records::{OutputRecord, Record};

use crate::key::Key;

/// A store: the folder `artifacts/` of a pipeline, or one shared by several.
pub struct Store {
    root: PathBuf,
    pub fingerprints: Fingerprints,
}

/// What is known of an object on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    Sound,
    Missing,
    Damaged,
}

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Opens the store at `root`; creates nothing.
    pub fn open(root: &Path) -> Store {
        Store { root: root.to_path_buf(), fingerprints: Fingerprints::load(&root.join("cache/fingerprints")) }
    }

    /// Makes the folders, with an error that says why the store cannot be written.
    pub fn prepare(&self) -> Result<()> {
        for folder in ["objects", "records", "cache"] {
            let path = self.root.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("cannot write the store at {}", path.display()))?;
        }
        let probe = self.root.join("records").join(temporary_name());
        File::create(&probe).with_context(|| format!("cannot write the store at {}", self.root.display()))?;
        fs::remove_file(&probe)?;
        Ok(())
    }

    /// Held while a run or a transfer works, so that `clean` cannot remove what it is making.
    pub fn lock_shared(&self) -> Result<File> {
        self.lock(rustix::fs::FlockOperation::LockShared)
    }

    /// Held by `clean`: fails at once when something else uses the store.
    pub fn lock_exclusive(&self) -> Result<File> {
        self.lock(rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .context("the store is in use by another strata; try again when it has ended")
    }

    fn lock(&self, operation: rustix::fs::FlockOperation) -> Result<File> {
        let path = self.root.join("cache/lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        rustix::fs::flock(&file, operation)?;
        Ok(file)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Saves what was learned of files where there is a store to keep it in. Looking at a pipeline must work in
    /// a folder one cannot write, and the memory is only a cache, so failing to keep it is no error.
    pub fn keep_fingerprints(&self) {
        if self.root.join("cache").exists() {
            let _ = self.fingerprints.save();
        }
    }

    /// `objects/ab/abcd….parquet`, relative to the root.
    pub fn object_name(hash: &str, extension: &str) -> PathBuf {
        let folder = Path::new("objects").join(&hash[..2.min(hash.len())]);
        folder.join(if extension.is_empty() { hash.to_string() } else { format!("{hash}.{extension}") })
    }

    pub fn object_path(&self, output: &OutputRecord) -> PathBuf {
        self.root.join(Store::object_name(&output.object, &output.extension))
    }

    /// Whether the object is there and its bytes are those of its name. Bytes are hashed once and then
    /// remembered by size, modification time and inode.
    pub fn check(&self, output: &OutputRecord) -> ObjectState {
        let path = self.object_path(output);
        let Ok(state) = FileState::of(&path) else { return ObjectState::Missing };
        if state.size != output.bytes {
            return ObjectState::Damaged;
        }
        match self.fingerprints.hash(&path, state) {
            Ok(hash) if hash == output.object => ObjectState::Sound,
            Ok(_) => ObjectState::Damaged,
            Err(_) => ObjectState::Missing,
        }
    }

    /// Writes an object through `write` and returns its hash and size. Writing the same bytes twice is harmless.
    pub fn publish(
        &self,
        extension: &str,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<(String, u64)> {
        let objects = self.root.join("objects");
        let temporary = Temporary::create(&objects)?;
        let mut hashing =
            HashingWriter { inner: BufWriter::new(&temporary.file), hasher: blake3::Hasher::new(), bytes: 0 };
        write(&mut hashing)?;
        hashing.flush()?;
        let (hash, bytes) = (hashing.hasher.finalize().to_hex().to_string(), hashing.bytes);
        drop(hashing);
        self.settle(temporary, &hash, bytes, extension)?;
        Ok((hash, bytes))
    }

    /// Moves a complete temporary file to the object's name and remembers that its bytes are known.
    fn settle(&self, temporary: Temporary, hash: &str, bytes: u64, extension: &str) -> Result<()> {
        let path = self.root.join(Store::object_name(hash, extension));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let already = OutputRecord { object: hash.into(), extension: extension.into(), bytes, ..Default::default() };
        if self.check(&already) != ObjectState::Sound {
            temporary.file.sync_all().context("flushing an object")?;
            temporary.rename(&path)?;
            self.fingerprints.remember(&path, FileState::of(&path)?, hash);
        }
        Ok(())
    }

    pub fn records_path(&self) -> PathBuf {
        self.root.join("records")
    }

    pub fn record_path(&self, key: Key) -> PathBuf {
        self.records_path().join(format!("{key}.json"))
    }

    /// The outputs of a finished task, when its record is there and every object it names is sound.
    pub fn finished(&self, key: Key) -> Option<Vec<OutputRecord>> {
        let outputs = records::read_outputs(&self.record_path(key))?;
        outputs.iter().all(|output| self.check(output) == ObjectState::Sound).then_some(outputs)
    }

    pub fn record(&self, key: Key) -> Option<Record> {
        records::read(&self.record_path(key))
    }

    pub fn write_record(&self, key: Key, record: &Record) -> Result<()> {
        replace(&self.record_path(key), &serde_json::to_vec_pretty(record)?)
    }

    /// Keys of every record, unordered.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let folder = self.root.join("records");
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

/// A file under a temporary name, removed again unless renamed.
struct Temporary {
    file: File,
    path: PathBuf,
    renamed: bool,
}

fn temporary_name() -> String {
    format!(".tmp-{}-{}", std::process::id(), TEMPORARY.fetch_add(1, Ordering::Relaxed))
}

impl Temporary {
    /// Created with the permissions that the umask leaves, so that a group that shares a store can read it.
    fn create(folder: &Path) -> Result<Temporary> {
        fs::create_dir_all(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        let path = folder.join(temporary_name());
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Temporary { file, path, renamed: false })
    }

    fn rename(mut self, to: &Path) -> Result<()> {
        fs::rename(&self.path, to).with_context(|| format!("cannot write {}", to.display()))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done about a failure here; `clean` removes what is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces a small file atomically.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = Temporary::create(folder)?;
    (&temporary.file).write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    temporary.file.sync_data()?;
    temporary.rename(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(store: &Store, bytes: &[u8]) -> OutputRecord {
        let written = store.publish("bin", |out| Ok(out.write_all(bytes)?));
        let (object, bytes) = written.expect("a writable store");
        OutputRecord { object, extension: "bin".into(), bytes, ..Default::default() }
    }

    #[test]
    fn damage_and_absence_are_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path());
        let output = publish(&store, b"some bytes");
        assert_eq!(store.check(&output), ObjectState::Sound);
        fs::write(store.object_path(&output), b"same bytes").expect("write");
        assert_eq!(store.check(&output), ObjectState::Damaged);
        publish(&store, b"some bytes");
        assert_eq!(store.check(&output), ObjectState::Sound, "publishing again repairs");
        fs::remove_file(store.object_path(&output)).expect("remove");
        assert_eq!(store.check(&output), ObjectState::Missing);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path());
        let failed = store.publish("bin", |out| {
            out.write_all(b"half")?;
            anyhow::bail!("stop")
        });
        assert!(failed.is_err());
        let left = fs::read_dir(folder.path().join("objects")).expect("objects").count();
        assert_eq!(left, 0);
    }
}
