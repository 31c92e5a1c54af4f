//! A finished node is shown, and the keys its view was made from are remembered, so that an explanation has something
//! to compare with. A finished node whose objects are not all here shows nothing: what its view showed is out of date.

use anyhow::Result;

use crate::graph::NodeId;
use crate::key::Key;
use crate::plan::{NodeState, Plan};
use crate::store::{Store, layout, views};

/// Shows a node of a plan if it is finished.
///
/// # Errors
/// When its view cannot be written.
pub fn show(plan: &Plan, id: NodeId) -> Result<()> {
    let NodeState::Finished { tasks, outputs, elsewhere } = plan.state(id) else { return Ok(()) };
    let node = plan.graph.node(id);
    if !elsewhere.is_empty() {
        return views::show(plan.store, &layout::view(node.stage, &node.bindings), &[]).map(drop);
    }
    let latest = plan.store.layout.latest(&node.label());
    // What `gc` keeps is read from there: it is written again where it was deleted.
    if views::show(plan.store, &layout::view(node.stage, &node.bindings), outputs)? || !latest.exists() {
        let lines: Vec<String> = tasks.iter().map(Key::to_string).collect();
        plan.store.disk.replace(&latest, lines.join("\n").as_bytes())?;
    }
    Ok(())
}

/// The keys of the state in which a node was last shown; empty where there is none.
pub fn read(store: &Store, label: &str) -> Vec<Key> {
    let text = std::fs::read_to_string(store.layout.latest(label)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
