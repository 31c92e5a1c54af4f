//! A lock for each task, so that of several runs on one store one computes it.
//!
//! A task's lock is a byte of the file `cache/tasks`, at a place that its key says. The system holds it for the run that has
//! the file open, and lets go of it when that run ends, however it ends: the dead hold nothing, and nothing has to time out. No
//! byte is written, so there is nothing that piles up or has to be removed.
//!
//! Where the file system has no locks, or the file cannot be opened, nobody is seen to hold anything: two runs may then compute
//! the same task, which takes time and gives the same objects and the same record.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::Store;
use crate::key::Key;

/// The locks of a run. They end with it.
pub struct TaskLocks {
    file: Option<File>,
}

// Of the open file where the system has that, so that two runs in one process hold different locks; else of the process.
#[cfg(target_os = "linux")]
const SET: libc::c_int = libc::F_OFD_SETLK;
#[cfg(target_os = "linux")]
const GET: libc::c_int = libc::F_OFD_GETLK;
#[cfg(not(target_os = "linux"))]
const SET: libc::c_int = libc::F_SETLK;
#[cfg(not(target_os = "linux"))]
const GET: libc::c_int = libc::F_GETLK;

impl Store {
    pub fn task_locks(&self) -> TaskLocks {
        TaskLocks { file: self.disk.open_lock(&self.layout.task_locks()).ok() }
    }
}

impl TaskLocks {
    /// Takes a task's lock; returns whether no other run holds it.
    pub fn take(&self, key: Key) -> bool {
        match self.call(SET, key, libc::F_WRLCK as _) {
            // How the system says that another holds it; any other error is a file system without locks.
            Err(error) => error.raw_os_error() != Some(libc::EAGAIN),
            Ok(_) => true,
        }
    }

    /// Whether another run holds a task's lock.
    pub fn is_held_elsewhere(&self, key: Key) -> bool {
        self.call(GET, key, libc::F_WRLCK as _).is_ok_and(|found| found != libc::F_UNLCK as libc::c_short)
    }

    pub fn release(&self, key: Key) {
        // What could not be released is when the run ends.
        let _ = self.call(SET, key, libc::F_UNLCK as _);
    }

    /// Asks the system for what is done to the byte of a key; returns the kind of lock that it answers with.
    fn call(&self, command: libc::c_int, key: Key, kind: libc::c_short) -> std::io::Result<libc::c_short> {
        let Some(file) = &self.file else { return Ok(libc::F_UNLCK as _) };
        // SAFETY: a struct of integers, for which all zeros is a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_whence) = (kind, libc::SEEK_SET as _);
        (lock.l_start, lock.l_len) = (place(key) as libc::off_t, 1);
        // SAFETY: the descriptor is open for the call, and the struct outlives it.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, &mut lock) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(lock.l_type),
        }
    }
}

/// Where a key's byte lies: 60 bits of it, as a file's offset has 63 on every system. Two tasks of one place would wait for each
/// other, and nothing else.
fn place(key: Key) -> u64 {
    key.leading_bits() >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_released_or_its_holder_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path());
        store.prepare().expect("a store");
        let (one, two, keys) = (store.task_locks(), store.task_locks(), ["a", "b"].map(Key::of_text));
        assert!(one.take(keys[0]) && one.take(keys[0]), "one's own is no other's");
        assert!(!two.take(keys[0]) && two.is_held_elsewhere(keys[0]) && !one.is_held_elsewhere(keys[0]));
        assert!(two.take(keys[1]) && one.is_held_elsewhere(keys[1]), "another task's lock is another");
        one.release(keys[0]);
        assert!(!two.is_held_elsewhere(keys[0]) && two.take(keys[0]) && !one.take(keys[0]));
        drop(two);
        assert!(keys.iter().all(|key| one.take(*key)));
        assert_eq!(store.layout.task_locks().metadata().expect("a file").len(), 0);
    }

    #[test]
    fn without_the_file_nobody_holds_anything() {
        let folder = tempfile::tempdir().expect("a folder");
        let locks = Store::open(&folder.path().join("absent")).task_locks();
        let key = Key::of_text("a");
        assert!(locks.take(key) && !locks.is_held_elsewhere(key));
        locks.release(key);
    }
}
