//! Hashes of files, remembered by size, modification time and inode.
//!
//! Hashing 64 GB of weights takes a minute; noticing that nothing touched them takes a microsecond. The memory
//! is a cache: a line a file in `cache/fingerprints`, replaced whole, and safe to lose or to delete.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;

use super::disk::Disk;

/// What tells a file apart from the same path with other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    pub size: u64,
    modified: i128,
    inode: u64,
}

impl FileState {
    pub fn of(path: &Path) -> io::Result<FileState> {
        Ok(FileState::from_metadata(&std::fs::metadata(path)?))
    }

    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.modified.to_le_bytes());
        bytes[24..].copy_from_slice(&self.inode.to_le_bytes());
        bytes
    }

    /// Whether the file changed within the last tick of the file system's clock (10 ms on slow ones).
    pub fn just_changed(&self) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as i128 - self.modified < 20_000_000
    }

    fn from_metadata(metadata: &Metadata) -> FileState {
        let modified = metadata.mtime() as i128 * 1_000_000_000 + metadata.mtime_nsec() as i128;
        FileState { size: metadata.len(), modified, inode: metadata.ino() }
    }
}

pub struct Fingerprints {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    files: HashMap<PathBuf, (FileState, String)>,
    changed: bool,
}

impl Fingerprints {
    pub fn load(path: &Path) -> Fingerprints {
        let files = read(path);
        Fingerprints { path: path.to_path_buf(), known: Mutex::new(Known { files, changed: false }) }
    }

    /// blake3 of a file's bytes in hex, from memory when the file is as it was.
    pub fn hash(&self, path: &Path, state: FileState) -> io::Result<String> {
        if let Ok(known) = self.known.lock()
            && let Some((then, hash)) = known.files.get(path)
            && *then == state
        {
            return Ok(hash.clone());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(path)?;
        let hash = hasher.finalize().to_hex().to_string();
        // A file that changed while it was hashed is not remembered, nor is one that changed just before, as another
        // change within the clock's tick would leave the same time: the next look hashes it again.
        if FileState::of(path)? == state && !state.just_changed() {
            self.remember(path, state, &hash);
        }
        Ok(hash)
    }

    /// Whether this is what was remembered of a path in this state.
    pub fn recalls(&self, path: &Path, hash: &str) -> bool {
        let Ok(known) = self.known.lock() else { return false };
        known
            .files
            .get(path)
            .is_some_and(|(then, remembered)| remembered == hash && FileState::of(path).is_ok_and(|now| now == *then))
    }

    pub fn remember(&self, path: &Path, state: FileState, hash: &str) {
        if let Ok(mut known) = self.known.lock() {
            known.files.insert(path.to_path_buf(), (state, hash.to_string()));
            known.changed = true;
        }
    }

    /// Makes the next look hash the file's bytes again.
    pub fn forget(&self, path: &Path) {
        if let Ok(mut known) = self.known.lock() {
            known.files.remove(path);
        }
    }

    /// Writes what was learned, together with what other runs wrote meanwhile.
    pub fn save(&self, disk: &Disk) -> Result<()> {
        let Ok(mut known) = self.known.lock() else { return Ok(()) };
        if !known.changed {
            return Ok(());
        }
        let mut files = read(&self.path);
        files.extend(known.files.iter().map(|(path, entry)| (path.clone(), entry.clone())));
        let mut lines = Vec::new();
        for (path, (state, hash)) in &files {
            let Some(path) = path.to_str().filter(|path| !path.contains('\n')) else { continue };
            let mut line = String::new();
            let _ = write!(line, "{hash} {} {} {} {path}", state.size, state.modified, state.inode);
            lines.push(line);
        }
        lines.sort();
        lines.push(String::new());
        disk.replace(&self.path, lines.join("\n").as_bytes())?;
        known.changed = false;
        Ok(())
    }
}

fn read(path: &Path) -> HashMap<PathBuf, (FileState, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<(PathBuf, (FileState, String))> {
    let mut words = line.splitn(5, ' ');
    let hash = words.next()?.to_string();
    let size = words.next()?.parse().ok()?;
    let modified = words.next()?.parse().ok()?;
    let inode = words.next()?.parse().ok()?;
    let path = PathBuf::from(words.next()?);
    Some((path, (FileState { size, modified, inode }, hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_file_is_hashed_again_and_memory_survives_a_reload() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, cache) = (folder.path().join("weights"), folder.path().join("cache"));
        std::fs::write(&file, b"one").expect("write");
        std::thread::sleep(std::time::Duration::from_millis(30));
        let first = Fingerprints::load(&cache);
        let before = first.hash(&file, FileState::of(&file).expect("state")).expect("hash");
        first.save(&Disk::default()).expect("save");
        // A planted wrong hash shows that the memory is used, and a changed file that it is not.
        let text = std::fs::read_to_string(&cache).expect("cache").replace(&before, &"0".repeat(64));
        std::fs::write(&cache, text).expect("write");
        let second = Fingerprints::load(&cache);
        assert_eq!(second.hash(&file, FileState::of(&file).expect("state")).expect("hash"), "0".repeat(64));
        std::fs::write(&file, b"two!").expect("write");
        let after = second.hash(&file, FileState::of(&file).expect("state")).expect("hash");
        assert_eq!(after, blake3::hash(b"two!").to_hex().to_string());
    }
}
