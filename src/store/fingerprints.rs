//! Hashes of files, remembered by size, times and inode.
//!
//! Hashing 64 GB of weights takes a minute; noticing that nothing touched them takes a microsecond. The memory
//! is a cache: a line a file in `cache/fingerprints`, replaced whole, and safe to lose or to delete.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;

use super::LONGEST_RECORD;
use super::disk::Disk;

/// What tells a file apart from the same path with other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    pub size: u64,
    modified: i128,
    /// When the file or what is said of it last changed. Bytes can be written and the modification time set back; this
    /// shows it.
    changed: i128,
    inode: u64,
}

impl FileState {
    pub fn of(path: &Path) -> io::Result<FileState> {
        Ok(FileState::from_metadata(&std::fs::metadata(path)?))
    }

    /// The state of a file of the user's, links followed. A pipe or a device has no end.
    ///
    /// # Errors
    /// When it cannot be looked at or is no regular file.
    pub fn of_input(path: &Path) -> io::Result<FileState> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a folder" } else { "a pipe or a device" };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a file")));
        }
        Ok(FileState::from_metadata(&metadata))
    }

    /// The state of a file and of nothing else: not of a folder, a link, a pipe or a device.
    ///
    /// # Errors
    /// When it cannot be looked at or is no regular file.
    pub fn of_regular(path: &Path) -> io::Result<FileState> {
        let metadata = std::fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(FileState::from_metadata(&metadata))
    }

    pub fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.modified.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.changed.to_le_bytes());
        bytes[40..].copy_from_slice(&self.inode.to_le_bytes());
        bytes
    }

    /// Whether the file changed within the last tick of the file system's clock (10 ms on slow ones).
    pub fn just_changed(&self) -> bool {
        self.just_changed_before(std::time::SystemTime::now())
    }

    /// The same for a time that was asked for once.
    pub fn just_changed_before(&self, now: std::time::SystemTime) -> bool {
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as i128 - self.modified.max(self.changed) < 20_000_000
    }

    fn from_metadata(metadata: &Metadata) -> FileState {
        let modified = metadata.mtime() as i128 * 1_000_000_000 + metadata.mtime_nsec() as i128;
        let changed = metadata.ctime() as i128 * 1_000_000_000 + metadata.ctime_nsec() as i128;
        FileState { size: metadata.len(), modified, changed, inode: metadata.ino() }
    }
}

/// The bytes of a regular file, looked at once: a record is read in four calls of the system instead of seven.
///
/// # Errors
/// When it cannot be read, is no regular file, or is longer than any record.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    // A pipe that nobody writes to would keep whoever opens it waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // Of a link, a loop is what the system says.
    let opened = |error: rustix::io::Errno| if error == rustix::io::Errno::LOOP { other() } else { error.into() };
    let file = open(path, flags, Mode::empty()).map_err(opened)?;
    let found = fstat(&file)?;
    if !FileType::from_raw_mode(found.st_mode).is_file() {
        return Err(other());
    }
    let length = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if length > LONGEST_RECORD {
        let why = format!("{length} bytes, and no record is longer than {LONGEST_RECORD}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = vec![0; length as usize];
    std::fs::File::from(file).read_exact(&mut bytes)?;
    Ok(bytes)
}

/// An open folder, in which files are looked at by their names.
pub struct Folder(rustix::fd::OwnedFd);

impl Folder {
    pub fn open(path: &Path) -> io::Result<Folder> {
        use rustix::fs::{Mode, OFlags, open};
        Ok(Folder(open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// A folder in it.
    pub fn folder(&self, name: &Path) -> io::Result<Folder> {
        use rustix::fs::{Mode, OFlags, openat};
        Ok(Folder(openat(&self.0, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// As [`FileState::of`].
    pub fn state(&self, name: &Path) -> io::Result<FileState> {
        let found = rustix::fs::statat(&self.0, name, rustix::fs::AtFlags::empty())?;
        let time = |seconds: i128, nanoseconds: i128| seconds * 1_000_000_000 + nanoseconds;
        Ok(FileState {
            size: found.st_size as u64,
            modified: time(found.st_mtime as i128, found.st_mtime_nsec as i128),
            changed: time(found.st_ctime as i128, found.st_ctime_nsec as i128),
            inode: found.st_ino,
        })
    }
}

pub struct Fingerprints {
    path: PathBuf,
    known: Mutex<Known>,
}

/// By the bytes of the path: hashing a path goes through its components.
type Files = HashMap<OsString, (FileState, String)>;

struct Known {
    files: Files,
    /// What this process learned or forgot, and no more: what it only read may be wrong by now.
    changed: HashSet<OsString>,
}

/// blake3 of a file's bytes, in memory that does not grow with the file: of two pieces one is hashed while the other is read. A
/// mapped file counts as the program's memory, and ends the program when it becomes shorter under it.
fn hash_of(path: &Path) -> io::Result<blake3::Hash> {
    const PIECE: u64 = 16 << 20;
    /// To hand fewer bytes to other threads takes longer than to hash them.
    const SMALL: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut read = |piece: &mut Vec<u8>| {
        piece.clear();
        file.by_ref().take(PIECE).read_to_end(piece)
    };
    let (mut piece, mut next, mut hasher) = (Vec::new(), Vec::new(), blake3::Hasher::new());
    read(&mut piece)?;
    if piece.len() < SMALL {
        return Ok(hasher.update(&piece).finalize());
    }
    while !piece.is_empty() {
        let (_, read) = rayon::join(|| hasher.update_rayon(&piece).count(), || read(&mut next));
        read?;
        std::mem::swap(&mut piece, &mut next);
    }
    Ok(hasher.finalize())
}

impl Fingerprints {
    pub fn load(path: &Path) -> Fingerprints {
        let files = read(path);
        Fingerprints { path: path.to_path_buf(), known: Mutex::new(Known { files, changed: HashSet::new() }) }
    }

    /// blake3 of a file's bytes in hex, from memory when the file is as it was.
    pub fn hash(&self, path: &Path, state: FileState) -> io::Result<String> {
        if let Ok(known) = self.known.lock()
            && let Some((then, hash)) = known.files.get(path.as_os_str())
            && *then == state
        {
            return Ok(hash.clone());
        }
        let hash = hash_of(path)?.to_hex().to_string();
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
            .get(path.as_os_str())
            .is_some_and(|(then, remembered)| remembered == hash && FileState::of(path).is_ok_and(|now| now == *then))
    }

    pub fn remember(&self, path: &Path, state: FileState, hash: &str) {
        if let Ok(mut known) = self.known.lock() {
            known.files.insert(path.into(), (state, hash.to_string()));
            known.changed.insert(path.into());
        }
    }

    /// Makes the next look hash the file's bytes again.
    pub fn forget(&self, path: &Path) {
        if let Ok(mut known) = self.known.lock() {
            known.files.remove(path.as_os_str());
            known.changed.insert(path.into());
        }
    }

    /// Writes what was learned, together with what other runs wrote meanwhile.
    pub fn save(&self, disk: &Disk) -> Result<()> {
        let Ok(mut known) = self.known.lock() else { return Ok(()) };
        if known.changed.is_empty() {
            return Ok(());
        }
        let mut files = read(&self.path);
        for path in &known.changed {
            match known.files.get(path) {
                Some(entry) => files.insert(path.clone(), entry.clone()),
                None => files.remove(path),
            };
        }
        let mut lines = Vec::new();
        for (path, (state, hash)) in &files {
            let Some(path) = path.to_str().filter(|path| !path.contains('\n')) else { continue };
            let mut line = String::new();
            let _ = write!(line, "{hash} {} {} {} {} {path}", state.size, state.modified, state.changed, state.inode);
            lines.push(line);
        }
        lines.sort();
        lines.push(String::new());
        disk.replace(&self.path, lines.join("\n").as_bytes())?;
        known.changed.clear();
        Ok(())
    }
}

fn read(path: &Path) -> Files {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<(OsString, (FileState, String))> {
    let mut words = line.splitn(6, ' ');
    let hash = words.next()?.to_string();
    let size = words.next()?.parse().ok()?;
    // Nanoseconds up to the year 2262, which are parsed faster than what the type could hold.
    let modified = i128::from(words.next()?.parse::<i64>().ok()?);
    let changed = i128::from(words.next()?.parse::<i64>().ok()?);
    let inode = words.next()?.parse().ok()?;
    let path = OsString::from(words.next()?);
    Some((path, (FileState { size, modified, changed, inode }, hash)))
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

    #[test]
    fn bytes_that_change_under_a_modification_time_that_is_set_back_are_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, b"one").expect("write");
        let before = FileState::of(&path).expect("state");
        let file = std::fs::File::options().write(true).open(&path).expect("a file");
        let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(&path, b"two").expect("write");
        file.set_modified(modified).expect("set");
        let after = FileState::of(&path).expect("state");
        assert!(after.modified == before.modified && after.size == before.size && after != before);
    }

    #[test]
    fn a_file_looks_the_same_from_its_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("object");
        std::fs::write(&path, b"one").expect("write");
        std::os::unix::fs::symlink("object", folder.path().join("link")).expect("a link");
        let open = Folder::open(folder.path()).expect("a folder");
        for name in ["object", "link"] {
            assert_eq!(open.state(Path::new(name)).expect("state"), FileState::of(&path).expect("state"));
        }
        assert!(open.state(Path::new("absent")).is_err());
    }

    #[test]
    fn what_one_process_forgot_another_does_not_bring_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, cache) = (folder.path().join("object"), folder.path().join("cache"));
        std::fs::write(&file, b"one").expect("write");
        let (state, disk) = (FileState::of(&file).expect("state"), Disk::default());
        let first = Fingerprints::load(&cache);
        first.remember(&file, state, "wrong");
        first.save(&disk).expect("save");
        let (other, verifier) = (Fingerprints::load(&cache), Fingerprints::load(&cache));
        verifier.forget(&file);
        verifier.save(&disk).expect("save");
        other.remember(folder.path(), state, "its own");
        other.save(&disk).expect("save");
        assert!(!Fingerprints::load(&cache).recalls(&file, "wrong"));
    }
}
