//! The keys that each node's view was last made from, so that `explain` has something to compare with.

use std::path::PathBuf;

use anyhow::Result;

use crate::key::Key;
use crate::store::{Store, replace};

fn path(store: &Store, label: &str) -> PathBuf {
    let name = &blake3::hash(label.as_bytes()).to_hex()[..32];
    store.root().join("cache/latest").join(name)
}

/// Remembers a node's keys, one a task, in order.
pub fn write(store: &Store, label: &str, keys: &[Key]) -> Result<()> {
    let lines: Vec<String> = keys.iter().map(Key::to_string).collect();
    replace(&path(store, label), lines.join("\n").as_bytes())
}

/// The keys of the node's last finished state; empty where there is none.
pub fn read(store: &Store, label: &str) -> Vec<Key> {
    let text = std::fs::read_to_string(path(store, label)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
