//! The disposable side of the store: folders of links that give objects the names people use.
//!
//! Where a node's folder lies is `layout::view`'s to say. Links are relative, and each is replaced atomically.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::disk::is_temporary;
use super::layout::view;
use super::names::ObjectHash;
use super::{FileState, OutputRecord, Store};
use crate::graph::Graph;

/// How many parts lie in one folder. Those beyond the first thousand lie in folders below, which readers of `**/*.parquet` find.
const PARTS: usize = 1000;
/// What those folders' names begin with. No Hive folder's does: it has a column's name and `=`.
const PARTS_FOLDER: &str = "parts-";

/// The names under which a folder shows these outputs.
pub fn names(outputs: &[OutputRecord]) -> impl Iterator<Item = String> + '_ {
    outputs.iter().enumerate().map(|(index, output)| match (&output.name, &output.extension) {
        (Some(name), _) => name.as_str().to_string(),
        (None, Some(extension)) => format!("{}part-{index:05}.{}", part_folder(index), extension.as_str()),
        (None, None) => format!("{}part-{index:05}", part_folder(index)),
    })
}

/// Sorted by their paths, as DuckDB and Polars read them, the parts are in their order.
fn part_folder(index: usize) -> String {
    match index / PARTS {
        0 => String::new(),
        folder => format!("{PARTS_FOLDER}{folder:05}/"),
    }
}

/// The folders that these outputs are shown in, relative to the node's own; that one is the empty path.
pub fn folders(outputs: &[OutputRecord]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::from([PathBuf::new()]);
    let flat = |output: &OutputRecord| output.name.as_ref().is_none_or(|name| !name.is_nested());
    if outputs.len() > PARTS || !outputs.iter().all(flat) {
        for name in names(outputs) {
            folders.extend(Path::new(&name).ancestors().skip(1).map(Path::to_path_buf));
        }
    }
    folders
}

/// Makes the folder show exactly these outputs. Returns whether anything had to change. A folder that nobody
/// touched since it was last made to show them is believed by its modification time, and so is each that lies in it.
pub fn show(store: &Store, folder: &Path, outputs: &[OutputRecord]) -> Result<bool> {
    let folder_path = store.layout.view_root().join(folder);
    let mut hasher = blake3::Hasher::new();
    for output in outputs {
        hasher.update(output.object.to_hex().as_bytes()).update(output.file_name().as_bytes());
    }
    let shown = hasher.finalize().to_hex();
    let below = |folder: &PathBuf| if folder == Path::new("") { folder_path.clone() } else { folder_path.join(folder) };
    let folders: Vec<PathBuf> = folders(outputs).iter().map(below).collect();
    if folders.iter().all(|folder| store.fingerprints.recalls(folder, &shown)) {
        return Ok(false);
    }
    let changed = relink(store, folder, outputs)?;
    if changed {
        let shown = store.layout.shown();
        let made = store.disk.create_folders(shown.parent().unwrap_or(Path::new("")));
        made.and_then(|()| store.disk.touch(&shown)).with_context(|| format!("cannot write {}", shown.display()))?;
    }
    for folder in folders {
        if let Ok(state) = FileState::of(&folder) {
            store.fingerprints.remember(&folder, state, &shown);
        }
    }
    Ok(changed)
}

fn relink(store: &Store, folder: &Path, outputs: &[OutputRecord]) -> Result<bool> {
    let folder_path = &store.layout.view_root().join(folder);
    let mut changed = false;
    let mut wanted = BTreeSet::new();
    for (output, name) in outputs.iter().zip(names(outputs)) {
        let link = folder_path.join(&name);
        let depth = store.layout.view_depth() + folder.components().count() + Path::new(&name).components().count() - 1;
        let target = (0..depth).map(|_| Component::ParentDir.as_os_str()).collect::<PathBuf>();
        let target = target.join(output.object_path());
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            if link.symlink_metadata().is_ok() && !is_link(&link) && !is_copy(&link, output) {
                bail!("{} is in the way: it is not a link of this store's. Move it elsewhere", link.display());
            }
            let replaced = store.disk.replace_link(&link, &target, &store.layout.cache());
            replaced.with_context(|| format!("cannot write {}", link.display()))?;
            changed = true;
        }
        wanted.insert(PathBuf::from(name));
    }
    for found in files_below(folder_path)? {
        if !wanted.contains(&found) && is_link(&folder_path.join(&found)) {
            remove(store, &folder_path.join(&found))?;
            changed = true;
            remove_empty(store, folder_path, found.parent().unwrap_or(Path::new("")));
        }
    }
    Ok(changed)
}

/// Removes the table folders of nodes that the pipeline no longer has, when its set of nodes changed.
///
/// # Errors
/// When a link cannot be removed.
pub fn prune(store: &Store, graph: &Graph) -> Result<()> {
    let keep: BTreeSet<PathBuf> = graph.nodes().map(|(_, node)| view(node.stage, &node.bindings)).collect();
    let mut hasher = blake3::Hasher::new();
    for folder in &keep {
        hasher.update(folder.as_os_str().as_encoded_bytes()).update(b"\n");
    }
    let (nodes, remembered) = (hasher.finalize().to_hex(), store.layout.nodes());
    if fs::read_to_string(&remembered).is_ok_and(|before| before == nodes.as_str()) {
        return Ok(());
    }
    remove_others(store, &keep)?;
    // What a node that is gone was shown with keeps nothing any more.
    let labels: BTreeSet<PathBuf> = graph.nodes().map(|(_, node)| store.layout.latest(&node.label())).collect();
    for entry in fs::read_dir(store.layout.latest_folder()).into_iter().flatten() {
        let path = entry?.path();
        // Another run may be about to give a temporary file its name.
        if !labels.contains(&path) && !is_temporary(&path) {
            remove(store, &path)?;
        }
    }
    store.disk.replace(&remembered, nodes.as_bytes())
}

fn remove_others(store: &Store, keep: &BTreeSet<PathBuf>) -> Result<()> {
    let tables = store.layout.tables();
    for file in files_below(&tables)? {
        let folder = file.parent().unwrap_or(Path::new(""));
        let is_of_parts =
            folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PARTS_FOLDER.as_bytes()));
        let node = tables.join(if is_of_parts { folder.parent().unwrap_or(Path::new("")) } else { folder });
        let kept = node.strip_prefix(store.layout.view_root()).is_ok_and(|folder| keep.contains(folder));
        if !kept && is_link(&tables.join(&file)) {
            remove(store, &tables.join(&file))?;
            remove_empty(store, &tables, folder);
        }
    }
    Ok(())
}

fn remove(store: &Store, path: &Path) -> Result<()> {
    store.disk.remove_file_if_there(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes a folder below `top` if it is empty, and so on as far up as they are empty.
fn remove_empty(store: &Store, top: &Path, below: &Path) {
    for folder in below.ancestors().take_while(|folder| *folder != Path::new("")) {
        if store.disk.remove_empty_folder(&top.join(folder)).is_err() {
            break;
        }
    }
}

/// Whether a file holds just what it is shown as: a store that was copied with its links followed has such files.
fn is_copy(path: &Path, output: &OutputRecord) -> bool {
    let same_size = path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == output.bytes);
    let mut hasher = blake3::Hasher::new();
    same_size && hasher.update_mmap_rayon(path).is_ok() && ObjectHash::from(hasher.finalize()) == output.object
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

/// The links below a folder.
///
/// # Errors
/// When a folder cannot be listed.
pub fn links_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = files_below(folder)?.into_iter().map(|file| folder.join(file));
    Ok(found.filter(|file| is_link(file)).collect())
}

/// Files and links below a folder, relative to it; none where the folder is absent.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let Ok(entries) = fs::read_dir(folder.join(&relative)) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::names::{Extension, FileName};
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_view_shows_its_outputs_and_drops_the_rest() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(root.path());
        let output = |object: &str| OutputRecord {
            object: ObjectHash::try_from(object.repeat(64)).expect("64 digits"),
            extension: Some(Extension::try_from("parquet".to_string()).expect("letters")),
            name: None,
            rows: 0,
            bytes: 0,
            columns: BTreeMap::new(),
        };
        let folder = PathBuf::from("tables/tokens/model=base");
        assert!(show(&store, &folder, &[output("a"), output("b")]).expect("show"));
        assert!(!show(&store, &folder, &[output("a"), output("b")]).expect("show"), "nothing to do");
        let left = root.path().join("tables/tokens/model=base/.tmp-1-1");
        std::os::unix::fs::symlink("nowhere", &left).expect("a link");
        assert!(show(&store, &folder, &[output("a"), output("b")]).expect("show"));
        assert!(left.symlink_metadata().is_err(), "a killed run's link is gone");
        let link = root.path().join("tables/tokens/model=base/part-00001.parquet");
        let target = format!("../../../objects/bb/{}.parquet", "b".repeat(64));
        assert_eq!(fs::read_link(&link).expect("a link"), PathBuf::from(target));
        assert!(show(&store, &folder, &[output("c")]).expect("show"));
        assert!(link.symlink_metadata().is_err(), "the second part is gone");
        remove_others(&store, &BTreeSet::new()).expect("prune");
        assert!(!root.path().join("tables/tokens").exists());
    }

    #[test]
    fn parts_beyond_a_thousand_lie_in_folders_below() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(root.path());
        let output = |index: usize| OutputRecord {
            object: blake3::hash(&index.to_le_bytes()).into(),
            extension: Some(Extension::try_from("parquet".to_string()).expect("letters")),
            name: None,
            rows: 0,
            bytes: 0,
            columns: BTreeMap::new(),
        };
        let outputs: Vec<OutputRecord> = (0..2001).map(output).collect();
        let (folder, path) = (Path::new("tables/tokens/model=base"), root.path().join("tables/tokens/model=base"));
        assert!(show(&store, folder, &outputs).expect("show"));
        let count = |below: &str| fs::read_dir(path.join(below)).map_or(0, Iterator::count);
        assert_eq!([count(""), count("parts-00001"), count("parts-00002")], [1002, 1000, 1]);
        let last = path.join("parts-00002/part-02000.parquet");
        let target = PathBuf::from("../../../..").join(outputs[2000].object_path());
        assert_eq!(fs::read_link(&last).expect("a link"), target);
        let mut paths: Vec<String> = names(&outputs).collect();
        paths.sort();
        assert!(paths.into_iter().eq(names(&outputs)), "sorted by path they are in order");
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(!show(&store, folder, &outputs).expect("show"), "nothing to do");
        fs::remove_file(&last).expect("removed");
        assert!(show(&store, folder, &outputs).expect("show"), "a link that is gone from a folder below is noticed");
        prune_to(&store, [folder]).expect("prune");
        assert_eq!(count("parts-00001"), 1000, "a node that is there keeps its folders");
        assert!(show(&store, folder, &outputs[..1000]).expect("show"));
        assert_eq!(count(""), 1000, "folders that are empty go");
        show(&store, folder, &outputs).expect("show");
        prune_to(&store, []).expect("prune");
        assert!(!path.exists());
    }

    fn prune_to<const N: usize>(store: &Store, keep: [&Path; N]) -> Result<()> {
        remove_others(store, &keep.into_iter().map(Path::to_path_buf).collect())
    }

    #[test]
    fn a_file_that_is_no_link_is_replaced_only_where_it_is_the_objects_copy() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(root.path());
        let output = OutputRecord {
            object: blake3::hash(b"shown").into(),
            extension: None,
            name: Some(FileName::try_from("page.html".to_string()).expect("plain")),
            rows: 0,
            bytes: 5,
            columns: BTreeMap::new(),
        };
        let shown = root.path().join("page/page.html");
        fs::create_dir(root.path().join("page")).expect("a folder");
        fs::write(&shown, b"mine!").expect("written");
        let error = show(&store, Path::new("page"), std::slice::from_ref(&output)).expect_err("refused");
        assert!(error.to_string().contains("page.html is in the way"), "{error:#}");
        assert_eq!(fs::read(&shown).expect("as it was"), b"mine!");
        fs::write(&shown, b"shown").expect("written");
        assert!(show(&store, Path::new("page"), &[output]).expect("a copy can be a link again"));
        assert!(is_link(&shown));
    }
}
