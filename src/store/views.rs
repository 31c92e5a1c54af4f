//! The disposable side of the store: folders of links that give objects the names people use.
//!
//! `tables/<stage>/model=…/dataset=…/part-00000.parquet` for tables, `models/NAME/config.json` for trained
//! models, `<stage>/<file>` for other files. Links are relative, and each is replaced atomically.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::{FileState, OutputRecord, Store, temporary_name};

/// The folder of a node's view, relative to the store's root.
pub fn folder(stage: &str, bindings: &[(&'static str, String)], files: bool) -> PathBuf {
    if stage == "train" {
        let model = bindings.iter().map(|(_, value)| value.as_str());
        return Path::new("models").join(model.collect::<PathBuf>());
    }
    let root = if files { PathBuf::from(stage) } else { Path::new("tables").join(stage) };
    bindings.iter().fold(root, |path, (name, value)| path.join(format!("{name}={value}")))
}

/// A file whose modification time says when any run last changed a view.
pub fn changes(root: &Path) -> PathBuf {
    root.join("cache/shown")
}

/// The names under which a folder shows these outputs.
pub fn names(outputs: &[OutputRecord]) -> impl Iterator<Item = String> + '_ {
    outputs.iter().enumerate().map(|(index, output)| match output.name.as_str() {
        "" => format!("part-{index:05}.{}", output.extension),
        name => name.to_string(),
    })
}

/// Makes the folder show exactly these outputs. Returns whether anything had to change. A folder that nobody
/// touched since it was last made to show them is believed by its modification time.
pub fn show(store: &Store, folder: &Path, outputs: &[OutputRecord]) -> Result<bool> {
    let folder_path = store.root().join(folder);
    let flat = outputs.iter().all(|output| !output.name.contains('/'));
    let mut hasher = blake3::Hasher::new();
    for output in outputs {
        hasher.update(output.object.as_bytes()).update(output.name.as_bytes());
    }
    let shown = hasher.finalize().to_hex();
    if flat && store.fingerprints.recalls(&folder_path, &shown) {
        return Ok(false);
    }
    let changed = relink(store.root(), folder, outputs)?;
    if changed {
        let shown = changes(store.root());
        fs::create_dir_all(shown.parent().unwrap_or(Path::new(".")))?;
        fs::write(&shown, b"").with_context(|| format!("cannot write {}", shown.display()))?;
    }
    if flat && let Ok(state) = FileState::of(&folder_path) {
        store.fingerprints.remember(&folder_path, state, &shown);
    }
    Ok(changed)
}

fn relink(root: &Path, folder: &Path, outputs: &[OutputRecord]) -> Result<bool> {
    let folder_path = &root.join(folder);
    let mut changed = false;
    let mut wanted = BTreeSet::new();
    for (output, name) in outputs.iter().zip(names(outputs)) {
        let link = folder_path.join(&name);
        let depth = folder.components().count() + Path::new(&name).components().count() - 1;
        let target = (0..depth).map(|_| Component::ParentDir.as_os_str()).collect::<PathBuf>();
        let target = target.join(Store::object_name(&output.object, &output.extension));
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            replace_link(root, &link, &target).with_context(|| format!("cannot write {}", link.display()))?;
            changed = true;
        }
        wanted.insert(PathBuf::from(name));
    }
    for found in files_below(folder_path)? {
        if !wanted.contains(&found) && is_link(&folder_path.join(&found)) {
            fs::remove_file(folder_path.join(&found))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Removes the table folders that no node of the pipeline has.
pub fn prune(root: &Path, keep: &BTreeSet<PathBuf>) -> Result<()> {
    let tables = root.join("tables");
    for file in files_below(&tables)? {
        let folder = Path::new("tables").join(file.parent().unwrap_or(Path::new("")));
        if !keep.contains(&folder) && is_link(&tables.join(&file)) {
            fs::remove_file(tables.join(&file))?;
            // Empty folders go too, as far up as they are empty.
            let mut parent = root.join(&folder);
            while parent != tables && fs::remove_dir(&parent).is_ok() {
                parent.pop();
            }
        }
    }
    Ok(())
}

/// The link is made beside the views and moved into its own, so that no reader of a table meets one that a killed
/// run left, and no other run takes one that is about to be moved for a leftover.
fn replace_link(root: &Path, link: &Path, target: &Path) -> Result<()> {
    let cache = root.join("cache");
    fs::create_dir_all(&cache)?;
    fs::create_dir_all(link.parent().unwrap_or(Path::new(".")))?;
    let temporary = cache.join(temporary_name());
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, link).inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(())
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
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
    use super::*;

    #[test]
    fn a_view_shows_its_outputs_and_drops_the_rest() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(root.path());
        let output = |object: &str| OutputRecord {
            object: object.repeat(64),
            extension: "parquet".into(),
            ..Default::default()
        };
        let folder = folder("tokens", &[("model", "base".into())], false);
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
        prune(root.path(), &BTreeSet::new()).expect("prune");
        assert!(!root.path().join("tables/tokens").exists());
    }
}
