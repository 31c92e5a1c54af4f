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

/// One output of a task. A record is input from outside (a colleague's, a damaged disk's): one whose names lead out of the
/// store cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct OutputRecord {
    /// blake3 of the file's bytes, in hex; the object's name.
    pub object: String,
    pub extension: String,
    /// The file's name in its model or corpus; empty for a table part.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
    /// For a table part, the hash of every column's values; downstream keys hold these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

/// An output as it is written.
#[derive(Deserialize)]
struct Unchecked {
    object: String,
    extension: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    rows: u64,
    bytes: u64,
    #[serde(default)]
    columns: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot be the {1} of an output")]
struct BadName(String, &'static str);

impl TryFrom<Unchecked> for OutputRecord {
    type Error = BadName;

    fn try_from(output: Unchecked) -> Result<OutputRecord, BadName> {
        let Unchecked { object, extension, name, rows, bytes, columns } = output;
        if object.len() != 64 || !object.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadName(object, "object"));
        }
        if !extension.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(BadName(extension, "extension"));
        }
        if name.starts_with('/') || name.contains("..") {
            return Err(BadName(name, "name"));
        }
        Ok(OutputRecord { object, extension, name, rows, bytes, columns })
    }
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
    Some(record.outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_store_cannot_be_read() {
        let written = |object: &str, extension: &str, name: &str| {
            let output = serde_json::json!({ "object": object, "extension": extension, "name": name, "bytes": 1 });
            serde_json::from_value::<OutputRecord>(output)
        };
        let hash = "ab".repeat(32);
        assert!(written(&hash, "parquet", "part.jsonl").is_ok());
        for (object, extension, name) in [
            ("../x", "", ""),
            (&hash[1..], "", ""),
            (hash.as_str(), "a/b", ""),
            (hash.as_str(), "", "../x"),
            (hash.as_str(), "", "/etc/x"),
        ] {
            assert!(written(object, extension, name).is_err(), "{object} {extension} {name}");
        }
    }

    #[test]
    fn an_output_is_read_as_it_was_written() {
        let columns = BTreeMap::from([("ids".to_string(), "ab".to_string())]);
        let object = "0f".repeat(32);
        let output =
            OutputRecord { object, extension: "parquet".into(), rows: 3, bytes: 9, columns, name: String::new() };
        let text = serde_json::to_string(&output).expect("JSON");
        assert!(!text.contains("name"), "{text}");
        assert_eq!(serde_json::from_str::<OutputRecord>(&text).expect("own JSON"), output);
    }
}
