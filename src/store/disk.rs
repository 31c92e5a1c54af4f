//! Every change that a store makes to the disk.
//!
//! It is one place so that a test can make any step fail, or the program die at it (`faults.rs`). Reading goes past it.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

#[cfg(test)]
use super::faults::Faults;

#[derive(Default)]
pub struct Disk {
    #[cfg(test)]
    pub faults: Option<std::sync::Arc<Faults>>,
}

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// What the name of every temporary file begins with.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A name that no other run has, on whichever machine: in containers, many processes have one number.
fn temporary_name() -> String {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::time::SystemTime::now()));
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY_PREFIX}{}-{:016x}-{number}", std::process::id(), *RUN)
}

/// Whether a file is one that a killed run left.
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()))
}

impl Disk {
    /// Before every step; the error is the one that a test asked for.
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.step()?;
        }
        Ok(())
    }

    pub fn create_folders(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::create_dir_all(path)
    }

    /// A file that is locked, made where it is absent.
    pub fn open_lock(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        OpenOptions::new().create(true).truncate(false).write(true).open(path)
    }

    /// Makes a file empty and its modification time now.
    pub fn touch(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::write(path, b"")
    }

    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::remove_file(path)
    }

    /// Removes a file that another run may have removed meanwhile.
    pub fn remove_file_if_there(&self, path: &Path) -> io::Result<()> {
        match self.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub fn remove_empty_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::remove_dir(path)
    }

    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::remove_dir_all(path)
    }

    /// Moves what lies at a path into a folder, under a name that is free there, and returns where it is now.
    pub fn set_aside(&self, path: &Path, folder: &Path) -> io::Result<PathBuf> {
        self.create_folders(folder)?;
        let name = path.file_name().unwrap_or_default();
        let mut aside = folder.join(name);
        let mut taken = 0;
        while aside.symlink_metadata().is_ok() {
            taken += 1;
            let mut numbered = name.to_os_string();
            numbered.push(format!("-{taken}"));
            aside = folder.join(numbered);
        }
        self.rename(path, &aside)?;
        Ok(aside)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.renamed(from, to);
        }
        Ok(())
    }

    /// Makes a file that its owner alone can read, where there is none.
    pub fn create_secret(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.create_folders(path.parent().unwrap_or(Path::new(".")))?;
        self.step()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Replaces a small file whole.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut temporary = Temporary::create(self, path.parent().unwrap_or(Path::new(".")))?;
        temporary.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
        temporary.rename(path)
    }

    /// Makes `link` a link to `target`. It is made in the folder `beside` and moved from there: no reader of the link's
    /// own folder meets one that a killed run left, and no other run takes one that is about to be moved for a leftover.
    pub fn replace_link(&self, link: &Path, target: &Path, beside: &Path) -> io::Result<()> {
        self.create_folders(beside)?;
        self.create_folders(link.parent().unwrap_or(Path::new(".")))?;
        let temporary = beside.join(temporary_name());
        self.step()?;
        std::os::unix::fs::symlink(target, &temporary)?;
        self.rename(&temporary, link).inspect_err(|_| drop(self.remove_file(&temporary)))
    }
}

/// A file that is fetched bit by bit, and kept where that is cut short.
pub struct Partial<'d> {
    disk: &'d Disk,
    file: File,
    path: PathBuf,
}

impl Disk {
    /// Opens the file that a fetch goes on with; a fresh one where another process is fetching the same.
    pub fn open_partial(&self, folder: &Path, name: &str) -> Result<Partial<'_>> {
        self.create_folders(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        let open = |path: &Path| {
            self.step()?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        };
        let path = folder.join(name);
        let file = open(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let alone = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        // Renamed to its own name since it was opened, it would be the object itself.
        let same = fs::metadata(&path).is_ok_and(|there| is_same(&there, &file));
        if alone.is_ok() && same {
            return Ok(Partial { disk: self, file, path });
        }
        let path = folder.join(temporary_name());
        let file = open(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Partial { disk: self, file, path })
    }
}

fn is_same(there: &fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|open| open.ino() == there.ino() && open.dev() == there.dev())
}

impl Partial<'_> {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is there; what is written comes after it.
    pub fn hash(&mut self, hasher: &mut blake3::Hasher) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(0))?;
        io::copy(&mut self.file, hasher)
    }

    /// Makes it empty.
    pub fn restart(&mut self) -> io::Result<()> {
        self.disk.step()?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0)).map(drop)
    }

    /// Throws it away.
    pub fn remove(self) -> io::Result<()> {
        self.disk.remove_file(&self.path)
    }

    /// Gives it its name when it is whole, flushed and read-only.
    pub fn rename(self, to: &Path) -> Result<()> {
        let rename = || {
            self.disk.step()?;
            let mut permissions = self.file.metadata()?.permissions();
            permissions.set_mode(permissions.mode() & 0o444);
            self.file.set_permissions(permissions)?;
            self.file.sync_all()?;
            self.disk.rename(&self.path, to)
        };
        rename().with_context(|| format!("cannot write {}", to.display()))
    }
}

impl Write for Partial<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.step()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file under a temporary name, which nobody writes to once it has its own, removed again unless renamed.
pub struct Temporary<'d> {
    disk: &'d Disk,
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl<'d> Temporary<'d> {
    /// Created with the permissions to read that the umask leaves, so that a group that shares a store can read it and nobody
    /// changes it by mistake.
    pub fn create(disk: &'d Disk, folder: &Path) -> Result<Temporary<'d>> {
        disk.create_folders(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        let path = folder.join(temporary_name());
        let create = || {
            disk.step()?;
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(&path)
        };
        let file = create().with_context(|| format!("cannot write {}", path.display()))?;
        #[cfg(test)]
        if let Some(faults) = &disk.faults {
            faults.created(&path);
        }
        Ok(Temporary { disk, file, path, renamed: false })
    }

    /// Gives the file its name. Its bytes are flushed first: a name that survives a power cut has its bytes.
    pub fn rename(mut self, to: &Path) -> Result<()> {
        let mut rename = || {
            self.disk.step()?;
            self.file.sync_all()?;
            #[cfg(test)]
            if let Some(faults) = &self.disk.faults {
                faults.flushed(&self.path);
            }
            self.disk.rename(&self.path, to)?;
            self.renamed = true;
            io::Result::Ok(())
        };
        rename().with_context(|| format!("cannot write {}", to.display()))
    }
}

impl Write for Temporary<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.disk.step() {
            // A write that fails may have written some of its bytes.
            let _ = self.file.write_all(&bytes[..bytes.len() / 2]);
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done about a failure here; `gc` removes what is left.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}
