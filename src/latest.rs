//! A finished node is shown, and the keys its view was made from are remembered, so that an explanation has something
//! to compare with. A finished node whose objects are not all here shows nothing: what its view showed is out of date.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::graph::NodeId;
use crate::key::Key;
use crate::plan::{NodeState, Plan};
use crate::store::{OutputRecord, Store, layout, views};

/// A finished node, with all that it is shown with.
pub struct Finished {
    folder: PathBuf,
    latest: PathBuf,
    tasks: Vec<Key>,
    outputs: Vec<OutputRecord>,
}

impl Finished {
    /// A node of a plan, where it is finished and all of its objects are here.
    pub fn of(plan: &Plan, id: NodeId) -> Option<Finished> {
        let NodeState::Finished { tasks, outputs, elsewhere } = plan.state(id) else { return None };
        let node = plan.graph.node(id);
        let latest = plan.store.layout.latest(&node.label());
        let folder = layout::view(node.stage, &node.bindings);
        elsewhere.is_empty().then(|| Finished { folder, latest, tasks: tasks.clone(), outputs: outputs.clone() })
    }

    /// # Errors
    /// When its view cannot be written.
    pub fn show(&self, store: &Store) -> Result<()> {
        show_here(store, &self.folder, &self.latest, &self.tasks, &self.outputs)
    }
}

/// Shows a node of a plan if it is finished.
///
/// # Errors
/// When its view cannot be written.
pub fn show(plan: &Plan, id: NodeId) -> Result<()> {
    let NodeState::Finished { tasks, outputs, elsewhere } = plan.state(id) else { return Ok(()) };
    let node = plan.graph.node(id);
    let folder = layout::view(node.stage, &node.bindings);
    if !elsewhere.is_empty() {
        return views::show(plan.store, &folder, &[]).map(drop);
    }
    show_here(plan.store, &folder, &plan.store.layout.latest(&node.label()), tasks, outputs)
}

fn show_here(store: &Store, folder: &Path, latest: &Path, tasks: &[Key], outputs: &[OutputRecord]) -> Result<()> {
    // What `gc` keeps is read from there: it is written again where it was deleted.
    if views::show(store, folder, outputs)? || !latest.exists() {
        let lines: Vec<String> = tasks.iter().map(Key::to_string).collect();
        store.disk.replace(latest, lines.join("\n").as_bytes())?;
    }
    Ok(())
}

/// The keys of the state in which a node was last shown; empty where there is none.
pub fn read(store: &Store, label: &str) -> Vec<Key> {
    let text = std::fs::read_to_string(store.layout.latest(label)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
