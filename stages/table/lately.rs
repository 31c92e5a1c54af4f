//! What was made of small files lately. The tasks of a run read the same tables again and again, and the store's files never change.

use std::any::Any;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Result;

/// Bytes that are kept of all and of one; what is larger is seldom read twice.
const KEPT: usize = 32 << 20;
const LARGEST: usize = 2 << 20;

/// A file as it is, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    what: String,
}

struct Kept {
    value: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    used: u64,
}

#[derive(Default)]
struct Lately {
    kept: HashMap<Name, Kept>,
    bytes: usize,
    uses: u64,
}

static LATELY: LazyLock<Mutex<Lately>> = LazyLock::new(Mutex::default);

/// What `make` makes of a file, or made of it lately under the name `what`; `bytes` says how large it is in memory.
///
/// # Errors
/// Those of `make`.
pub fn lately<T: Any + Send + Sync>(
    path: &Path,
    what: &str,
    bytes: impl FnOnce(&T) -> usize,
    make: impl FnOnce() -> Result<T>,
) -> Result<Arc<T>> {
    // What is wrong with the file is for `make` to say.
    let Some(name) = std::fs::metadata(path).ok().and_then(|file| name(&file, what)) else {
        return make().map(Arc::new);
    };
    if let Some(known) =
        LATELY.lock().ok().and_then(|mut lately| lately.get(&name)).and_then(|known| known.downcast().ok())
    {
        return Ok(known);
    }
    let made = Arc::new(make()?);
    let bytes = bytes(&made);
    if bytes <= LARGEST
        && let Ok(mut lately) = LATELY.lock()
    {
        lately.keep(name, Arc::clone(&made) as Arc<dyn Any + Send + Sync>, bytes);
    }
    Ok(made)
}

/// None of a file that changed within the last tick of the file system's clock: another change could leave the same times.
fn name(file: &Metadata, what: &str) -> Option<Name> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::new(file.ctime().try_into().unwrap_or_default(), file.ctime_nsec() as u32);
    (now.saturating_sub(changed) > Duration::from_millis(20)).then(|| Name {
        device: file.dev(),
        inode: file.ino(),
        size: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
        what: what.to_string(),
    })
}

impl Lately {
    fn get(&mut self, name: &Name) -> Option<Arc<dyn Any + Send + Sync>> {
        self.uses += 1;
        let kept = self.kept.get_mut(name)?;
        kept.used = self.uses;
        Some(Arc::clone(&kept.value))
    }

    fn keep(&mut self, name: Name, value: Arc<dyn Any + Send + Sync>, bytes: usize) {
        if self.bytes + bytes > KEPT {
            self.forget_half();
        }
        let kept = Kept { value, bytes, used: self.uses };
        self.bytes += bytes;
        if let Some(before) = self.kept.insert(name, kept) {
            self.bytes -= before.bytes;
        }
    }

    /// Forgets what was not used for longest.
    fn forget_half(&mut self) {
        let mut used: Vec<(u64, usize)> = self.kept.values().map(|kept| (kept.used, kept.bytes)).collect();
        used.sort_unstable();
        let mut left = self.bytes;
        let until = used.iter().find(|(_, bytes)| {
            left -= bytes;
            left <= KEPT / 2
        });
        let until = until.map_or(u64::MAX, |(used, _)| *used);
        self.kept.retain(|_, kept| kept.used > until);
        self.bytes = self.kept.values().map(|kept| kept.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        std::thread::sleep(Duration::from_millis(40));
        let made = std::cell::Cell::new(0);
        let read = |what: &str| {
            let make = || {
                made.set(made.get() + 1);
                Ok(std::fs::read_to_string(&path)?)
            };
            lately(&path, what, String::len, make).map(|text| text.to_string())
        };
        assert_eq!((read("text").unwrap(), read("text").unwrap(), made.get()), ("one".into(), "one".into(), 1));
        read("more").unwrap();
        assert_eq!(made.get(), 2, "other things are made of the same file");
        std::fs::write(&path, "two").unwrap();
        assert_eq!((read("text").unwrap(), read("text").unwrap()), ("two".into(), "two".into()));
        assert_eq!(made.get(), 4, "a file that just changed may change again within the clock's tick");
        std::fs::remove_file(&path).unwrap();
        assert!(read("text").is_err());
    }

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let name =
            |inode: u64| Name { device: 0, inode, size: 0, modified: (0, 0), changed: (0, 0), what: String::new() };
        let mut lately = Lately::default();
        for inode in 0..100 {
            lately.keep(name(inode), Arc::new(inode), KEPT / 64);
            assert!(lately.get(&name(0)).is_some() && lately.bytes <= KEPT);
        }
        assert!(lately.get(&name(1)).is_none() && lately.get(&name(99)).is_some());
    }
}
