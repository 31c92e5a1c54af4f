//! The files and folders that a run with nothing to do rests on, and one hash over their states.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::store::layout::{Layout, object_folder, write_object_name, write_record_name};
use crate::store::names::{Extension, ObjectHash};
use crate::store::{FileState, Folder, OutputRecord};

/// Records and objects have names of one length, which are written as bytes: as JSON, reading those of 100,000 tasks takes as long as
/// asking for all files' states.
#[derive(Default, Serialize, Deserialize)]
pub struct RestsOn {
    pub files: Vec<PathBuf>,
    /// Relative to the views of the pipeline.
    folders: Vec<PathBuf>,
    extensions: Vec<Option<Extension>>,
    records_count: usize,
    #[serde(skip)]
    records: Vec<Key>,
    /// Each with the place of its extension.
    #[serde(skip)]
    objects: Vec<(ObjectHash, u8)>,
}

/// What all files' states were.
pub struct States {
    pub hash: String,
    /// Whether one changed so recently that another change could have left the same time.
    pub just_changed: bool,
}

/// How many are looked at by one thread before it looks for more.
const GROUP: usize = 1024;
const HASH_BYTES: usize = 32;

impl RestsOn {
    pub fn new(
        files: BTreeSet<PathBuf>,
        folders: BTreeSet<PathBuf>,
        mut records: Vec<Key>,
        outputs: &[&OutputRecord],
    ) -> RestsOn {
        let mut extensions: Vec<Option<Extension>> = Vec::new();
        let mut objects = Vec::with_capacity(outputs.len());
        for output in outputs {
            let place = extensions.iter().position(|known| *known == output.extension).unwrap_or_else(|| {
                extensions.push(output.extension.clone());
                extensions.len() - 1
            });
            objects.push((output.object, place.min(usize::from(u8::MAX)) as u8));
        }
        records.sort_unstable_by_key(|key| key.to_bytes());
        records.dedup();
        objects.sort_unstable_by_key(|(object, place)| (object.to_bytes(), *place));
        objects.dedup();
        let (files, folders) = (files.into_iter().collect(), folders.into_iter().collect());
        RestsOn { files, folders, extensions, records_count: records.len(), records, objects }
    }

    pub fn write_names(&self, out: &mut Vec<u8>) {
        self.records.iter().for_each(|key| out.extend(key.to_bytes()));
        for (object, place) in &self.objects {
            out.extend(object.to_bytes());
            out.push(*place);
        }
    }

    /// What `write_names` wrote; `None` when it is something else.
    pub fn read_names(&mut self, bytes: &[u8]) -> Option<()> {
        let (records, objects) = bytes.split_at_checked(self.records_count.checked_mul(HASH_BYTES)?)?;
        let (records, rest) = records.as_chunks::<HASH_BYTES>();
        self.records = records.iter().map(|bytes| Key::from_bytes(*bytes)).collect();
        let (objects, more) = objects.as_chunks::<{ HASH_BYTES + 1 }>();
        let object = |bytes: &[u8; HASH_BYTES + 1]| {
            let (hash, place) = bytes.split_first_chunk::<HASH_BYTES>()?;
            Some((ObjectHash::from(blake3::Hash::from_bytes(*hash)), place[0]))
        };
        self.objects = objects.iter().map(object).collect::<Option<_>>()?;
        (rest.is_empty() && more.is_empty()).then_some(())
    }

    fn len(&self) -> usize {
        self.files.len() + self.folders.len() + self.records.len() + self.objects.len()
    }

    /// The states of all of it; `None` when something is missing. Asking for them is nearly all that a run with nothing to do takes,
    /// so a few threads share it. The hash does not depend on how many.
    pub fn states(&self, layout: &Layout) -> Option<States> {
        let groups = self.len().div_ceil(GROUP);
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<Option<(blake3::Hash, bool)>>> = Mutex::new(vec![None; groups]);
        let work = || {
            let folders = Folders::open(layout)?;
            loop {
                let group = next.fetch_add(1, Ordering::Relaxed);
                if group >= groups {
                    return Some(());
                }
                let seen = self.look(group * GROUP..self.len().min((group + 1) * GROUP), &folders)?;
                found.lock().ok()?[group] = Some(seen);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4)).min(groups);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut hasher = blake3::Hasher::new();
        let mut just_changed = false;
        for group in found.into_inner().ok()? {
            let (hash, recent) = group?;
            hasher.update(hash.as_bytes());
            just_changed |= recent;
        }
        Some(States { hash: hasher.finalize().to_hex().to_string(), just_changed })
    }

    /// The hash of the states of some of it, counted through files, folders, records and objects.
    fn look(&self, range: Range<usize>, folders: &Folders) -> Option<(blake3::Hash, bool)> {
        let mut states: Vec<FileState> = Vec::with_capacity(range.len());
        let (files, rest) = share(&self.files, range);
        for group in files.chunk_by(|a, b| a.parent() == b.parent()) {
            // The folder of ten thousand datasets is found once.
            if group.len() < 32 {
                for file in group {
                    states.push(FileState::of(file).ok()?);
                }
                continue;
            }
            let folder = Folder::open(group[0].parent()?).ok()?;
            for file in group {
                states.push(folder.state(Path::new(file.file_name()?)).ok()?);
            }
        }
        let (views, rest) = share(&self.folders, rest);
        for group in views.chunk_by(|a, b| a.parent() == b.parent()) {
            // One that is opened is found once for all in it.
            let parent = group[0].parent().filter(|parent| group.len() >= 8 && *parent != Path::new(""));
            let parent = parent.map(|parent| folders.views.folder(parent)).transpose().ok()?;
            for folder in group {
                let state = match &parent {
                    Some(parent) => parent.state(Path::new(folder.file_name()?)),
                    None => folders.views.state(folder),
                };
                states.push(state.ok()?);
            }
        }
        let (records, rest) = share(&self.records, rest);
        let mut name = String::new();
        for key in records {
            name.clear();
            write_record_name(*key, &mut name);
            states.push(folders.records.state(Path::new(&name)).ok()?);
        }
        let (objects, _) = share(&self.objects, rest);
        // They are sorted by their names, so that each folder is found once.
        for group in objects.chunk_by(|a, b| a.0.to_bytes()[0] == b.0.to_bytes()[0]) {
            let folder = folders.objects.folder(Path::new(&object_folder(group[0].0))).ok()?;
            for (object, place) in group {
                let extension = self.extensions.get(usize::from(*place))?;
                name.clear();
                write_object_name(*object, extension.as_ref(), &mut name);
                states.push(folder.state(Path::new(&name)).ok()?);
            }
        }
        let mut hasher = blake3::Hasher::new();
        let now = std::time::SystemTime::now();
        let mut just_changed = false;
        for state in states {
            hasher.update(&state.to_bytes());
            just_changed |= state.just_changed_before(now);
        }
        Some((hasher.finalize(), just_changed))
    }
}

/// From these folders records, objects and views are found by short paths.
struct Folders {
    records: Folder,
    objects: Folder,
    views: Folder,
}

impl Folders {
    fn open(layout: &Layout) -> Option<Folders> {
        let open = |path: &Path| Folder::open(path).ok();
        Some(Folders {
            records: open(&layout.records())?,
            objects: open(&layout.objects())?,
            views: open(layout.view_root())?,
        })
    }
}

/// The part of a list that a range begins with, and the range counted from the list's end.
fn share<T>(list: &[T], range: Range<usize>) -> (&[T], Range<usize>) {
    let within = |at: usize| at.min(list.len());
    (&list[within(range.start)..within(range.end)], range.start - within(range.start)..range.end - within(range.end))
}
