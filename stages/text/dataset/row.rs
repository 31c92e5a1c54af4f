//! A row of a dataset file, as far as it can be read in sequence.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::cell::cell;
use super::json;

/// Rows read at once: what is held in memory, and what is converted in parallel.
pub const CHUNK: usize = 4096;

/// Bytes of the rows that are read at once, but for the last of them. What is made of them takes some times that.
pub const CHUNK_BYTES: usize = 16 << 20;

/// Bytes of the largest row: some hundred times a long book.
pub const LARGEST: u64 = 256 << 20;

/// A row as far as it can be read in sequence.
#[derive(Debug)]
pub struct Row {
    /// 0-based: the line in JSON lines, else the row.
    pub index: u32,
    pub place: Place,
    /// Where the row is found again: the byte at which it begins, and in Parquet its number.
    pub at: u64,
    pub content: Content,
}

/// Where a row that was read is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub index: u32,
    pub at: u64,
    /// Which of the row's examples.
    pub turn: u32,
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
    /// An element of a JSON array still to be parsed, and the line of the file that it begins on.
    Element(Vec<u8>, u64),
    Columns(Map<String, Value>),
}

/// A row of a file without lines.
pub fn numbered(index: usize, columns: Map<String, Value>) -> Result<Row> {
    let at = index as u64;
    Ok(Row { index: index as u32, place: Place::Row(at), at, content: Content::Columns(columns) })
}

impl Content {
    /// How many bytes of text it has.
    pub fn bytes(&self) -> usize {
        match self {
            Content::Line(text) | Content::Element(text, _) => text.len(),
            Content::Columns(columns) => columns.iter().map(|(name, value)| name.len() + text_bytes(value)).sum(),
        }
    }

    /// The row's columns.
    ///
    /// # Errors
    /// When a line of JSON lines or an element of an array is not an object.
    pub fn columns(self) -> Result<Map<String, Value>> {
        let line = match self {
            Content::Columns(columns) => return Ok(columns),
            Content::Element(text, line) => return element(&text, line),
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

fn element(text: &[u8], line: u64) -> Result<Map<String, Value>> {
    match json::parse(text) {
        Ok(Value::Object(columns)) => Ok(columns),
        Ok(other) => bail!("expected an object, found {}", cell(&other)),
        Err(error) => {
            let what = error.to_string();
            // serde_json counts lines from the start of this one.
            let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
            bail!("expected an object; it breaks in line {}: {what}", line + error.line().saturating_sub(1) as u64)
        }
    }
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + text_bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => size_of::<Value>(),
    }
}
