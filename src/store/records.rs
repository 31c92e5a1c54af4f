//! The record of a finished task: which objects came out, from what, in how long.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::key::KeyDocument;

/// `records/<key>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub document: KeyDocument,
    pub outputs: Vec<OutputRecord>,
    pub seconds: f64,
    /// The program that made it, for the reader's information; not part of the key.
    pub program: String,
}

/// One output of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// blake3 of the file's bytes, in hex; the object's name.
    pub object: String,
    pub extension: String,
    /// The file's name in its model or corpus; empty for a table part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default)]
    pub rows: u64,
    pub bytes: u64,
    /// For a table part, the hash of every column's values; downstream keys hold these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct OutputsOnly {
    outputs: Vec<OutputRecord>,
}

pub fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The outputs alone: parsing the document of a thousand records would be most of a run that does nothing.
pub fn read_outputs(path: &Path) -> Option<Vec<OutputRecord>> {
    let record: OutputsOnly = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    record.outputs.iter().all(well_formed).then_some(record.outputs)
}

/// A record is input from outside (a colleague's, a damaged disk's): its names must stay inside the store.
fn well_formed(output: &OutputRecord) -> bool {
    let hex = output.object.len() == 64 && output.object.bytes().all(|byte| byte.is_ascii_hexdigit());
    let plain = |text: &str| !text.contains("..") && !text.starts_with('/');
    hex && plain(&output.name) && output.extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
