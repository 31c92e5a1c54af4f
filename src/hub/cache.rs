//! The Hugging Face cache on disk, as `huggingface_hub` lays it out, so that both use what the other fetched.
//!
//! ```text
//! models--org--name/blobs/HASH                       a file's bytes, HASH.incomplete while they come
//! models--org--name/snapshots/COMMIT/config.json     a link to a blob
//! models--org--name/refs/main                        the commit that a revision was
//! models--org--name/.no_exist/COMMIT/NAME            a file that a commit is known not to have
//! models--org--name/trees/COMMIT.json                all files of a commit, which newer versions of the library keep
//! .locks/models--org--name/HASH.lock                 held by who fetches a blob
//! ```
//!
//! A blob has its name only once its bytes are whole. It is no store of ours: others write here too, and files stay writable for them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use strata_stages::contract::file::{CONFIGURATION, read};

use super::Use;
use super::names::{Commit, Content, FileName, Revision};

/// One repository's folder of the cache.
pub struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub fn of(root: &Path, asked: &Use) -> Cache {
        let name = format!("{}--{}", asked.kind.plural(), asked.id.flat());
        Cache { folder: root.join(&name), locks: root.join(".locks").join(name) }
    }

    pub fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.folder.join("snapshots").join(commit.as_str())
    }

    /// What a revision was when it was last fetched.
    pub fn commit_of(&self, revision: &Revision) -> Option<Commit> {
        let mut text = String::new();
        File::open(self.folder.join("refs").join(revision.path())).ok()?.take(64).read_to_string(&mut text).ok()?;
        Commit::new(text.trim()).ok()
    }

    /// Whether a commit is known not to have a file.
    pub fn is_known_absent(&self, commit: &Commit, name: &FileName) -> bool {
        self.folder.join(".no_exist").join(commit.as_str()).join(name.path()).is_file()
    }

    /// The names of all files of a commit, where another program wrote them down.
    pub fn tree(&self, commit: &Commit) -> Option<Vec<String>> {
        let path = self.folder.join("trees").join(format!("{}.json", commit.as_str()));
        let tree: Value = serde_json::from_slice(&read(&path, CONFIGURATION).ok()?).ok()?;
        Some(tree.get("files")?.as_object()?.keys().cloned().collect())
    }

    pub fn note_revision(&self, revision: &Revision, commit: &Commit) -> Result<()> {
        if self.commit_of(revision).as_ref() == Some(commit) || revision.as_commit().is_some() {
            return Ok(());
        }
        put(&self.folder.join("refs").join(revision.path()), commit.as_str().as_bytes())
    }

    pub fn note_absent(&self, commit: &Commit, name: &FileName) -> Result<()> {
        if self.is_known_absent(commit, name) {
            return Ok(());
        }
        put(&self.folder.join(".no_exist").join(commit.as_str()).join(name.path()), b"")
    }

    pub fn has_blob(&self, content: &Content) -> bool {
        self.blob(content).is_file()
    }

    fn blob(&self, content: &Content) -> PathBuf {
        self.folder.join("blobs").join(content.as_str())
    }

    /// Gives a blob the name of a file of a commit.
    pub fn link(&self, commit: &Commit, name: &FileName, content: &Content) -> Result<()> {
        let link = self.snapshot(commit).join(name.path());
        if link.is_file() {
            return Ok(());
        }
        let up = "../".repeat(2 + name.depth());
        let make = || {
            let folder = link.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            // Beside the folder of the commit: who lists that meets no name but the files' own.
            let temporary = self.folder.join(temporary("link"));
            symlink(format!("{up}blobs/{}", content.as_str()), &temporary)?;
            fs::rename(&temporary, &link).inspect_err(|_| drop(fs::remove_file(&temporary)))
        };
        make().with_context(|| format!("cannot write {}", link.display()))
    }

    /// Who fetches a blob holds its lock, in other programs too; `None` where another holds it. A file system without locks gives
    /// one all the same.
    pub fn lock(&self, content: &Content) -> Result<Option<File>> {
        let path = self.locks.join(format!("{}.lock", content.as_str()));
        let open = || {
            fs::create_dir_all(&self.locks)?;
            OpenOptions::new().create(true).truncate(false).write(true).open(&path)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            _ => Ok(Some(file)),
        }
    }

    /// The file into which a blob's bytes come, with those that came before.
    pub fn incoming(&self, content: &Content) -> Result<Incoming> {
        let blob = self.blob(content);
        let path = blob.with_file_name(format!("{}.incomplete", content.as_str()));
        let open = || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Incoming { file, path, blob })
    }
}

/// A blob on its way.
pub struct Incoming {
    file: File,
    path: PathBuf,
    blob: PathBuf,
}

impl Incoming {
    /// Reads what is there; what is written comes after it.
    pub fn read_to(&mut self, out: &mut impl Write) -> Result<u64> {
        self.file.seek(SeekFrom::Start(0)).and_then(|_| io::copy(&mut self.file, out)).with_context(|| self.what())
    }

    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).with_context(|| self.what())
    }

    /// Makes it empty.
    pub fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).with_context(|| self.what())
    }

    /// Gives it its name, flushed.
    pub fn adopt(self) -> Result<()> {
        let renamed = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.blob));
        renamed.with_context(|| format!("cannot write {}", self.blob.display()))
    }

    fn what(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

/// Writes a small file whole.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(temporary("new"));
    let write = || {
        fs::create_dir_all(folder)?;
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A name that no other program has.
fn temporary(what: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!(".strata-{what}-{}-{now:x}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}
