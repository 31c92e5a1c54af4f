//! The shortest way to say that nothing is stale.
//!
//! A run that finds everything fresh writes down every file that this rests on, with one hash over their sizes, times and
//! inodes. While the files are as they were, everything is still fresh, and a run need not parse, plan or hash anything.
//! What is written down is a cache: without it, the run plans as usual.

mod rests_on;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use strata_stages::Stage;

use self::rests_on::RestsOn;
use crate::graph::From;
use crate::plan::Plan;
use crate::run::{Counts, Summary};
use crate::store::layout::{Layout, view};
use crate::store::views;

/// That everything was fresh, and when it still is: the first line of the file, before the names of records and objects.
#[derive(Serialize, Deserialize)]
struct AllFresh {
    /// How many tasks each stage had.
    stages: Vec<(String, usize)>,
    /// The hash of the states of all that it rests on.
    states: String,
    rests_on: RestsOn,
}

impl AllFresh {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        self.rests_on.write_names(&mut bytes);
        Ok(bytes)
    }

    fn parse(bytes: &[u8]) -> Option<AllFresh> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let mut all: AllFresh = serde_json::from_slice(&bytes[..end]).ok()?;
        all.rests_on.read_names(&bytes[end + 1..])?;
        Some(all)
    }
}

/// The summary of a run with nothing to do, when everything was fresh and no file has changed since.
pub fn recall(layout: &Layout, pipeline: &Path, stages: &[&'static Stage]) -> Option<Summary> {
    let started = std::time::Instant::now();
    let before = AllFresh::parse(&std::fs::read(layout.unchanged(pipeline).ok()?).ok()?)?;
    // Another program may plan otherwise.
    if !before.rests_on.files.contains(&std::env::current_exe().ok()?)
        || before.rests_on.states(layout)?.hash != before.states
    {
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
    let rests_on = rests_on(plan, pipeline)?;
    let Some(states) = rests_on.states(layout).filter(|states| !states.just_changed) else { return Ok(()) };
    let mut stages = BTreeMap::<String, usize>::new();
    for (id, state) in plan.states() {
        *stages.entry(plan.graph.node(id).stage.name.to_string()).or_default() += state.tasks();
    }
    let all_fresh = AllFresh { stages: stages.into_iter().collect(), states: states.hash, rests_on };
    disk.replace(&layout.unchanged(pipeline)?, &all_fresh.to_bytes()?)
}

/// Every file and folder that could make a task stale by changing.
fn rests_on(plan: &Plan, pipeline: &Path) -> Result<RestsOn> {
    let layout = &plan.store.layout;
    // The program itself, since its stages' versions and plans are in it.
    let own = [std::env::current_exe()?, std::path::absolute(pipeline)?, layout.shown()];
    let mut files = BTreeSet::from(own);
    if !plan.graph.lock.pins.is_empty() {
        // What is pinned there says which snapshots are read.
        files.insert(std::path::absolute(plan.graph.lock.path())?);
    }
    let mut folders = BTreeSet::new();
    let mut read = BTreeSet::new();
    let (mut records, mut outputs) = (Vec::new(), Vec::new());
    for (id, state) in plan.states() {
        let node = plan.graph.node(id);
        for input in &node.inputs {
            for from in input.from.each() {
                if let From::Files { files: named, .. } = from {
                    read.extend(named.iter().map(|(_, path)| path));
                }
            }
        }
        records.extend(state.done());
        files.extend(state.elsewhere().into_iter().map(|(_, key, _)| layout.elsewhere(key)));
        let shown = state.outputs().unwrap_or_default();
        // A node without a part has no folder.
        if !state.is_here() || shown.is_empty() {
            continue;
        }
        outputs.extend(shown);
        // A link changes when it is put in another's place, which its folder shows; what it leads to is an object.
        let folder = view(node.stage, &node.bindings);
        folders.extend(views::folders(shown).into_iter().map(|below| folder.join(below)));
    }
    for path in read {
        let path = std::path::absolute(path)?;
        // The folder too: a shard or a chat template that is added to a model changes it.
        files.extend(path.parent().map(Path::to_path_buf));
        files.insert(path);
    }
    Ok(RestsOn::new(files, folders, records, &outputs))
}
