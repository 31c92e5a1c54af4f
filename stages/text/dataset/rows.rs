//! Rows of a dataset file, in chunks: JSON lines, a JSON array, CSV or Parquet.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cell::cell;
use super::json;
use super::parquet_rows::ParquetRows;
use super::reading::Format;
use super::row::{CHUNK, Content, Place, Row, numbered};
use super::written;
use crate::contract::file::open;

pub struct Rows {
    path: PathBuf,
    format: Box<dyn Iterator<Item = Result<Row>>>,
}

impl Rows {
    /// # Errors
    /// When the file cannot be opened, or has no header or array.
    pub fn open(path: &Path, format: Format) -> Result<Rows> {
        let file = open(path).with_context(|| format!("opening the dataset {}", path.display()))?;
        let rows: Result<Box<dyn Iterator<Item = Result<Row>>>> = match format {
            Format::Jsonl => Ok(Box::new(Lines { lines: BufReader::with_capacity(1 << 20, file), line: 0 })),
            Format::Json => array(file).map(|rows| Box::new(rows) as _),
            Format::Csv => csv_rows(file).map(|rows| Box::new(rows) as _),
            Format::Parquet => ParquetRows::open(file).map(|rows| Box::new(rows) as _),
        };
        Ok(Rows { path: path.into(), format: rows.with_context(|| path.display().to_string())? })
    }

    /// Conversations of pipeline.toml, each as a row with the column `messages`.
    pub fn written(conversations: Vec<Value>) -> Rows {
        let rows = conversations.into_iter().enumerate().map(|(i, messages)| numbered(i, written::row(&messages)));
        Rows { path: PathBuf::from("pipeline.toml"), format: Box::new(rows) }
    }

    /// The next rows, none at the end of the file.
    pub fn chunk(&mut self) -> Result<Vec<Row>> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < CHUNK && bytes < CHUNK_BYTES {
            let Some(row) = self.format.next() else { break };
            let row = row.with_context(|| self.path.display().to_string())?;
            bytes += row.content.bytes();
            rows.push(row);
        }
        Ok(rows)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `data/a.jsonl:17`, as terminals and editors link it.
    pub fn place(&self, place: Place) -> String {
        match place {
            Place::Line(line) => format!("{}:{line}", self.path.display()),
            Place::Row(row) => format!("{}, row {row} (the first is 0)", self.path.display()),
        }
    }
}

/// Bytes of the longest line of JSON lines: some hundred times a long book.
const LINE: u64 = 256 << 20;

/// Bytes of rows that are read at once, but for the last of them.
const CHUNK_BYTES: usize = 64 << 20;

struct Lines {
    lines: BufReader<File>,
    line: u64,
}

impl Iterator for Lines {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        loop {
            let mut line = Vec::new();
            match self.lines.by_ref().take(LINE + 1).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(length) if length as u64 > LINE => {
                    let error = format!(
                        "line {} is longer than {} MB; expected one JSON object a line (for a file that is one array, write \
                         format = \"json\")",
                        self.line + 1,
                        LINE >> 20
                    );
                    return Some(Err(anyhow::Error::msg(error)));
                }
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(error.into())),
            }
            if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
            if !line.trim_ascii().is_empty() {
                let index = (self.line - 1) as u32;
                return Some(Ok(Row { index, place: Place::Line(self.line), content: Content::Line(line) }));
            }
        }
    }
}

fn array(file: File) -> Result<impl Iterator<Item = Result<Row>>> {
    let rows = match json::read(BufReader::new(file)) {
        Ok(Value::Array(rows)) => rows,
        Ok(Value::Object(fields)) => {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            bail!("expected a JSON array of objects, found an object with the keys: {}", keys.join(", "));
        }
        Ok(other) => bail!("expected a JSON array of objects, found {}", cell(&other)),
        Err(error) if error.to_string().starts_with("trailing characters") => {
            bail!(
                "expected one JSON array, found more after it ({error}); for one object a line, write format = \"jsonl\""
            )
        }
        Err(error) => bail!("expected a JSON array of objects: {error}"),
    };
    Ok(rows.into_iter().enumerate().map(|(i, row)| match row {
        Value::Object(columns) => numbered(i, columns),
        other => bail!("row {i} (the first is 0): expected an object, found {}", cell(&other)),
    }))
}

fn csv_rows(file: File) -> Result<impl Iterator<Item = Result<Row>>> {
    let mut reader = csv::ReaderBuilder::new().from_reader(BufReader::new(file));
    let header = reader.headers().context("line 1, the header")?.clone();
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
    if let Some(name) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        bail!("line 1, the header: there are two columns \"{}\"", name.1);
    }
    Ok(reader.into_records().enumerate().map(move |(index, record)| {
        let record = record.map_err(csv_error)?;
        let line = record.position().map_or(0, |position| position.line());
        let columns = names.iter().cloned().zip(record.iter().map(|text| Value::String(text.into()))).collect();
        Ok(Row { index: index as u32, place: Place::Line(line), content: Content::Columns(columns) })
    }))
}

fn csv_error(error: csv::Error) -> anyhow::Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(pos), expected_len, len } => {
            anyhow::anyhow!("line {}: {len} fields, where the header has {expected_len}", pos.line())
        }
        _ => error.into(),
    }
}
