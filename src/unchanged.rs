//! The shortest way to say that nothing is stale.
//!
//! A run that ends with everything fresh leaves a list of every file that this verdict rests on, with one hash
//! over their sizes, modification times and inodes. While they all stand as they stood, the verdict stands, and
//! a run need not parse, plan or hash anything. The list is a cache: without it, the run plans as usual.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::graph::From;
use crate::plan::Plan;
use crate::run::{Counts, Summary};
use crate::store::{FileState, replace, views};

#[derive(Serialize, Deserialize)]
struct Verdict {
    /// Tasks of each stage, all of them fresh.
    stages: Vec<(String, usize)>,
    /// Of the states of `files`, in order.
    states: String,
    files: Vec<PathBuf>,
}

fn path(root: &Path, pipeline: &Path) -> Result<PathBuf> {
    let pipeline = std::path::absolute(pipeline)?;
    let name = &blake3::hash(pipeline.as_os_str().as_encoded_bytes()).to_hex()[..32];
    Ok(root.join("cache/unchanged").join(name))
}

/// The hash of all files' states; `None` when one is missing. Asking for them is nearly all that a run with nothing to
/// do takes, so that a few threads share it.
fn states(files: &[PathBuf]) -> Option<String> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
    let share = files.len().div_ceil(threads).max(256);
    let look = |files: &[PathBuf]| -> Option<Vec<[u8; 32]>> {
        files.iter().map(|file| Some(FileState::of(file).ok()?.to_bytes())).collect()
    };
    let found: Vec<Option<Vec<[u8; 32]>>> = std::thread::scope(|scope| {
        let looking: Vec<_> = files.chunks(share).map(|files| scope.spawn(move || look(files))).collect();
        looking.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    let mut hasher = blake3::Hasher::new();
    for states in found {
        hasher.update(states?.as_flattened());
    }
    Some(hasher.finalize().to_hex().to_string())
}

/// The summary of a run with nothing to do, when the last one's verdict still stands.
pub fn recall(root: &Path, pipeline: &Path) -> Option<Summary> {
    let started = std::time::Instant::now();
    let text = std::fs::read(path(root, pipeline).ok()?).ok()?;
    let verdict: Verdict = serde_json::from_slice(&text).ok()?;
    if states(&verdict.files)? != verdict.states {
        return None;
    }
    let mut summary = Summary::default();
    for (name, tasks) in verdict.stages {
        let stage = strata_stages::stage(&name)?.name;
        summary.stages.insert(stage, Counts { planned: tasks, cached: tasks, ..Default::default() });
    }
    summary.seconds = started.elapsed().as_secs_f64();
    Some(summary)
}

/// Keeps the verdict of a run in which every node of the plan is finished.
pub fn remember(plan: &Plan, pipeline: &Path) -> Result<()> {
    let root = plan.store.root();
    // The program itself, since its stages' versions and plans are in it.
    let mut files = vec![std::env::current_exe()?, std::path::absolute(pipeline)?];
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for (node, state) in plan.graph.nodes.iter().zip(&plan.states) {
        *counts.entry(node.node.stage.to_string()).or_default() += state.tasks.len();
        for input in &node.inputs {
            if let From::Files { files: named, .. } = &input.from {
                for (_, path) in named {
                    // The folder too: a shard or a chat template that is added to a model changes it.
                    files.extend(path.parent().map(Path::to_path_buf));
                    files.push(path.clone());
                }
            }
        }
        let outputs = state.outputs.as_deref().unwrap_or_default();
        let folder = views::folder(node.node.stage, &node.node.bindings, outputs.iter().any(|o| !o.name.is_empty()));
        // A link's state is its object's; that no other link was added is what `views::changes` says.
        let folder = root.join(folder);
        files.extend(views::names(outputs).map(|name| folder.join(name)));
    }
    let shown = views::changes(root);
    if !shown.exists() {
        std::fs::write(&shown, b"")?;
    }
    files.push(shown);
    // Records are replaced whole, which their folder shows.
    files.push(plan.store.records_path());
    files.sort();
    files.dedup();
    // A file this young may change again under the same time.
    if files.iter().any(|file| FileState::of(file).is_ok_and(|state| state.young())) {
        return Ok(());
    }
    let Some(states) = states(&files) else { return Ok(()) };
    let verdict = Verdict { stages: counts.into_iter().collect(), states, files };
    replace(&path(root, pipeline)?, &serde_json::to_vec(&verdict)?)
}
