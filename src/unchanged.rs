//! The shortest way to say that nothing is stale.
//!
//! A run that finds everything fresh writes down every file that this rests on, with one hash over their sizes,
//! modification times and inodes. While the files are as they were, everything is still fresh, and a run need not parse,
//! plan or hash anything. What is written down is a cache: without it, the run plans as usual.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use strata_stages::Stage;

use crate::graph::From;
use crate::plan::Plan;
use crate::run::{Counts, Summary};
use crate::store::layout::{Layout, view};
use crate::store::{FileState, Folder, views};

/// That everything was fresh, and when it still is.
#[derive(Serialize, Deserialize)]
struct AllFresh {
    /// How many tasks each stage had.
    stages: Vec<(String, usize)>,
    /// The hash of the states that `files` were in, in order.
    states: String,
    files: Vec<PathBuf>,
}

/// The hash of all files' states; `None` when one is missing. Asking for them is nearly all that a run with nothing to
/// do takes, so a few threads share it.
fn states(files: &[PathBuf]) -> Option<String> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
    let share = files.len().div_ceil(threads).max(256);
    let look = |files: &[PathBuf]| -> Option<Vec<[u8; 48]>> {
        let mut found = Vec::with_capacity(files.len());
        for group in files.chunk_by(|a, b| a.parent() == b.parent()) {
            // The folder of the records is found once, instead of a thousand times.
            if group.len() < 32 {
                for file in group {
                    found.push(FileState::of(file).ok()?.to_bytes());
                }
                continue;
            }
            let folder = Folder::open(group[0].parent()?).ok()?;
            for file in group {
                found.push(folder.state(Path::new(file.file_name()?)).ok()?.to_bytes());
            }
        }
        Some(found)
    };
    let found: Vec<Option<Vec<[u8; 48]>>> = std::thread::scope(|scope| {
        let looking: Vec<_> = files.chunks(share).map(|files| scope.spawn(move || look(files))).collect();
        looking.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    let mut hasher = blake3::Hasher::new();
    for states in found {
        hasher.update(states?.as_flattened());
    }
    Some(hasher.finalize().to_hex().to_string())
}

/// The summary of a run with nothing to do, when everything was fresh and no file has changed since.
pub fn recall(layout: &Layout, pipeline: &Path, stages: &[&'static Stage]) -> Option<Summary> {
    let started = std::time::Instant::now();
    let text = std::fs::read(layout.unchanged(pipeline).ok()?).ok()?;
    let before: AllFresh = serde_json::from_slice(&text).ok()?;
    // Another program may plan otherwise.
    if !before.files.contains(&std::env::current_exe().ok()?) || states(&before.files)? != before.states {
        return None;
    }
    let mut summary = Summary::default();
    for (name, tasks) in before.stages {
        let stage = stages.iter().find(|stage| stage.name == name)?;
        summary.stages.insert(stage.name, Counts { planned: tasks, cached: tasks, ..Default::default() });
    }
    summary.seconds = started.elapsed().as_secs_f64();
    Some(summary)
}

/// Writes down that every node of the plan is finished. A file that was just changed prevents that: another change
/// within one tick of the file system's clock could not be told from it.
///
/// # Errors
/// When the store cannot be written.
pub fn remember(plan: &Plan, pipeline: &Path) -> Result<()> {
    let (layout, disk) = (&plan.store.layout, &plan.store.disk);
    let shown = layout.shown();
    if !shown.exists() {
        let made = disk.create_folders(shown.parent().unwrap_or(Path::new("")));
        made.and_then(|()| disk.touch(&shown)).with_context(|| format!("cannot write {}", shown.display()))?;
    }
    let files = files(plan, pipeline)?;
    if files.iter().any(|file| FileState::of(file).is_ok_and(|state| state.just_changed())) {
        return Ok(());
    }
    let Some(states) = states(&files) else { return Ok(()) };
    let mut stages = BTreeMap::<String, usize>::new();
    for (id, state) in plan.states() {
        *stages.entry(plan.graph.node(id).stage.name.to_string()).or_default() += state.tasks();
    }
    let all_fresh = AllFresh { stages: stages.into_iter().collect(), states, files };
    disk.replace(&layout.unchanged(pipeline)?, &serde_json::to_vec(&all_fresh)?)
}

/// Every file and folder that could make a task stale by changing.
fn files(plan: &Plan, pipeline: &Path) -> Result<Vec<PathBuf>> {
    let layout = &plan.store.layout;
    // The program itself, since its stages' versions and plans are in it.
    let own = [std::env::current_exe()?, std::path::absolute(pipeline)?, layout.shown()];
    let mut files = BTreeSet::from(own);
    let mut read = BTreeSet::new();
    for (id, state) in plan.states() {
        let node = plan.graph.node(id);
        for input in &node.inputs {
            for from in input.from.each() {
                if let From::Files { files: named, .. } = from {
                    read.extend(named.iter().map(|(_, path)| path));
                }
            }
        }
        files.extend(state.done().into_iter().map(|key| layout.record(key)));
        files.extend(state.elsewhere().into_iter().map(|(_, key, _)| layout.elsewhere(key)));
        if !state.is_here() {
            continue;
        }
        // A link's state is its object's; that no other link was added is what `shown` says.
        let folder = layout.view_root().join(view(node.stage, &node.bindings));
        files.extend(views::names(state.outputs().unwrap_or_default()).map(|name| folder.join(name)));
    }
    for path in read {
        let path = std::path::absolute(path)?;
        // The folder too: a shard or a chat template that is added to a model changes it.
        files.extend(path.parent().map(Path::to_path_buf));
        files.insert(path);
    }
    Ok(files.into_iter().collect())
}
