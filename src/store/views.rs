//! The disposable side of the store: folders of links that give objects the names people use.
//!
//! Where a node's folder lies is `layout::view`'s to say. Links are relative, and each is replaced atomically.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::disk::is_temporary;
use super::layout::view;
use super::names::{FileName, ObjectHash};
use super::{FileState, OutputRecord, Store};
use crate::graph::Graph;

/// The names under which a folder shows these outputs.
pub fn names(outputs: &[OutputRecord]) -> impl Iterator<Item = String> + '_ {
    outputs.iter().enumerate().map(|(index, output)| match (&output.name, &output.extension) {
        (Some(name), _) => name.as_str().to_string(),
        (None, Some(extension)) => format!("part-{index:05}.{}", extension.as_str()),
        (None, None) => format!("part-{index:05}"),
    })
}

/// Makes the folder show exactly these outputs. Returns whether anything had to change. A folder that nobody
/// touched since it was last made to show them is believed by its modification time.
pub fn show(store: &Store, folder: &Path, outputs: &[OutputRecord]) -> Result<bool> {
    let folder_path = store.layout.view_root().join(folder);
    let flat = !outputs.iter().any(|output| output.name.as_ref().is_some_and(FileName::is_nested));
    let mut hasher = blake3::Hasher::new();
    for output in outputs {
        hasher.update(output.object.to_hex().as_bytes()).update(output.file_name().as_bytes());
    }
    let shown = hasher.finalize().to_hex();
    if flat && store.fingerprints.recalls(&folder_path, &shown) {
        return Ok(false);
    }
    let changed = relink(store, folder, outputs)?;
    if changed {
        let shown = store.layout.shown();
        let made = store.disk.create_folders(shown.parent().unwrap_or(Path::new("")));
        made.and_then(|()| store.disk.touch(&shown)).with_context(|| format!("cannot write {}", shown.display()))?;
    }
    if flat && let Ok(state) = FileState::of(&folder_path) {
        store.fingerprints.remember(&folder_path, state, &shown);
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
        let folder = tables.join(file.parent().unwrap_or(Path::new("")));
        let kept = folder.strip_prefix(store.layout.view_root()).is_ok_and(|folder| keep.contains(folder));
        if !kept && is_link(&tables.join(&file)) {
            remove(store, &tables.join(&file))?;
            // Empty folders go too, as far up as they are empty.
            let mut parent = folder;
            while parent != tables && store.disk.remove_empty_folder(&parent).is_ok() {
                parent.pop();
            }
        }
    }
    Ok(())
}

fn remove(store: &Store, path: &Path) -> Result<()> {
    store.disk.remove_file_if_there(path).with_context(|| format!("cannot remove {}", path.display()))
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
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
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
    use super::super::names::Extension;
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
