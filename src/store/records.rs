//! The record of a finished task: which objects came out, from what, in how long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::layout::object_path;
use super::names::{BadName, Extension, FileName, ObjectHash};
use crate::key::KeyDocument;

/// `records/<key>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub document: KeyDocument,
    #[serde(deserialize_with = "distinct")]
    pub outputs: Vec<OutputRecord>,
    pub seconds: f64,
    /// The program that made it, for the reader's information; not part of the key.
    pub program: String,
}

/// One output of a task. A record is input from outside: one whose names could lead out of the store cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// The object's name.
    pub object: ObjectHash,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The file's name in its model or corpus; none for a table part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
    #[serde(default)]
    pub rows: u64,
    pub bytes: u64,
    /// For a table part, the hash of every column's values; downstream keys hold these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

impl OutputRecord {
    /// The file's name in its model or corpus; empty for a table part.
    pub fn file_name(&self) -> &str {
        self.name.as_ref().map_or("", FileName::as_str)
    }

    /// Its object's path, relative to the root of a store or of a remote.
    pub fn object_path(&self) -> PathBuf {
        object_path(self.object, self.extension.as_ref())
    }
}

/// An object without an extension was once written with an empty one.
fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Extension>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { Extension::try_from(text).map(Some).map_err(D::Error::custom) }
}

/// Outputs of which no two would be shown under one name, nor one below another.
fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OutputRecord>, D::Error> {
    let outputs = Vec::<OutputRecord>::deserialize(deserializer)?;
    let mut names = BTreeSet::new();
    for name in outputs.iter().filter_map(|output| output.name.as_ref()) {
        if !names.insert(name.as_str()) {
            return Err(D::Error::custom(BadName::new("name", name.as_str(), "another output has it")));
        }
    }
    let folders = |name: &&str| name.match_indices('/').any(|(end, _)| names.contains(&name[..end]));
    match names.iter().copied().find(|name| folders(name)) {
        Some(name) => Err(D::Error::custom(BadName::new("name", name, "another output is named like its folder"))),
        None => Ok(outputs),
    }
}

#[derive(Deserialize)]
struct OutputsOnly {
    #[serde(deserialize_with = "distinct")]
    outputs: Vec<OutputRecord>,
}

/// A record as it lies on a disk or came from a remote.
///
/// # Errors
/// When it is not a record, or names what no output can be named.
pub fn parse(text: &[u8]) -> Result<Record, serde_json::Error> {
    serde_json::from_slice(text)
}

pub fn read(path: &Path) -> Option<Record> {
    parse(&std::fs::read(path).ok()?).ok()
}

/// The outputs alone: parsing the document of a thousand records would be most of a run that does nothing.
pub fn read_outputs(path: &Path) -> Option<Vec<OutputRecord>> {
    let record: OutputsOnly = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(record.outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn output() -> Value {
        json!({ "object": "ab".repeat(32), "extension": "parquet", "name": "part.jsonl", "rows": 3, "bytes": 1,
            "columns": { "ids": "ab" } })
    }

    fn read(outputs: Value) -> Result<Vec<OutputRecord>, serde_json::Error> {
        Ok(serde_json::from_value::<OutputsOnly>(json!({ "outputs": outputs }))?.outputs)
    }

    #[test]
    fn names_that_lead_out_of_the_store_cannot_be_read() {
        assert!(read(json!([output()])).is_ok());
        let long = "n".repeat(300);
        let hostile = ["", "/etc/x", "..", "../x", "x/../../../../NAME", "a//b", "a\\b", "a\0b", ".tmp-1-1", &long];
        for field in ["object", "extension", "name"] {
            // An extension that is empty was once how none was written.
            for text in hostile.into_iter().filter(|text| (field, *text) != ("extension", "")) {
                let mut bad = output();
                bad[field] = json!(text);
                let error = read(json!([bad])).err().map(|error| error.to_string()).unwrap_or_default();
                assert!(error.contains(&format!("cannot be the {field} of an output")), "{field} {text:?}: {error}");
            }
        }
    }

    #[test]
    fn two_outputs_cannot_have_one_place_in_a_view() {
        let named = |names: [&str; 2]| {
            let of = |name: &str| {
                let mut output = output();
                output["name"] = json!(name);
                output
            };
            read(json!([of(names[0]), of(names[1])]))
        };
        assert!(named(["a", "b"]).is_ok() && named(["a/x", "a/y"]).is_ok());
        assert!(named(["a", "a"]).is_err() && named(["a/x", "a"]).is_err() && named(["a/b", "a/b/c"]).is_err());
    }

    #[test]
    fn an_output_is_read_as_it_was_written() {
        let output: OutputRecord = serde_json::from_value(output()).expect("an output");
        let text = serde_json::to_string(&output).expect("JSON");
        assert_eq!(serde_json::from_str::<OutputRecord>(&text).expect("own JSON"), output);
        let part = OutputRecord { name: None, extension: None, ..output };
        let text = serde_json::to_string(&part).expect("JSON");
        assert!(!text.contains("name") && !text.contains("extension"), "{text}");
        assert_eq!(serde_json::from_str::<OutputRecord>(&text).expect("own JSON"), part);
    }
}
