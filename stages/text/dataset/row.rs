//! A row of a dataset file, as far as it can be read in sequence.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::cell::cell;
use super::json;

/// Rows read at once: what is held in memory, and what is converted in parallel.
pub const CHUNK: usize = 4096;

/// A row as far as it can be read in sequence.
#[derive(Debug)]
pub struct Row {
    /// 0-based: the line in JSON lines, else the row.
    pub index: u32,
    pub place: Place,
    pub content: Content,
}

/// Where a row is, for messages.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// 1-based.
    Line(u64),
    /// 0-based, in files that have no lines.
    Row(u64),
}

#[derive(Debug)]
pub enum Content {
    /// A line still to be parsed.
    Line(Vec<u8>),
    Columns(Map<String, Value>),
}

/// A row of a file without lines.
pub fn numbered(index: usize, columns: Map<String, Value>) -> Result<Row> {
    Ok(Row { index: index as u32, place: Place::Row(index as u64), content: Content::Columns(columns) })
}

impl Content {
    /// How many bytes of text it has.
    pub fn bytes(&self) -> usize {
        match self {
            Content::Line(line) => line.len(),
            Content::Columns(columns) => columns.values().map(text_bytes).sum(),
        }
    }

    /// The row's columns.
    ///
    /// # Errors
    /// When a line of JSON lines is not an object.
    pub fn columns(self) -> Result<Map<String, Value>> {
        let line = match self {
            Content::Columns(columns) => return Ok(columns),
            Content::Line(line) => line,
        };
        match json::parse(&line) {
            Ok(Value::Object(columns)) => Ok(columns),
            Ok(Value::Array(_)) => {
                bail!(
                    "expected one JSON object a line, found a list; for a file that is one array, write format = \"json\""
                )
            }
            Ok(other) => bail!("expected one JSON object a line, found {}", cell(&other)),
            Err(error) if line.trim_ascii() == b"[" => {
                bail!(
                    "expected one JSON object a line, found the start of a list; for a file that is one array, write format = \"json\" ({error})"
                )
            }
            Err(error) => {
                let what = error.to_string();
                // serde_json counts lines from the start of this one.
                let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
                bail!("expected one JSON object a line; it breaks at column {}: {what}", error.column())
            }
        }
    }
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.values().map(text_bytes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => size_of::<Value>(),
    }
}
