//! Rows of a dataset file, in chunks: JSON lines, a JSON array, CSV or Parquet. What is in memory is a chunk, whatever the
//! file's size.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::array::Array;
use super::csv_rows::CsvRows;
use super::lines::Lines;
use super::parquet_rows::ParquetRows;
use super::reading::Format;
use super::row::{CHUNK, CHUNK_BYTES, Found, Place, Row, numbered};
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
        Rows::over(path, |file| {
            Ok(match format {
                Format::Jsonl => Box::new(Lines::new(file)),
                Format::Json => Box::new(Array::open(file)?),
                Format::Csv => Box::new(CsvRows::open(file)?),
                Format::Parquet => Box::new(ParquetRows::open(file)?),
            })
        })
    }

    /// Rows that were read before, in their order; what lies between is not read.
    ///
    /// # Errors
    /// As for [`Rows::open`].
    pub fn again(path: &Path, format: Format, found: Vec<Found>) -> Result<Rows> {
        Rows::over(path, |file| {
            Ok(match format {
                Format::Jsonl => {
                    let mut lines = Lines::new(file);
                    Box::new(found.into_iter().map(move |Found { index, at, .. }| lines.again(index, at)))
                }
                Format::Json => {
                    let mut array = Array::open(file)?;
                    Box::new(found.into_iter().map(move |Found { index, at, .. }| array.again(index, at)))
                }
                Format::Csv => {
                    let mut rows = CsvRows::open(file)?;
                    Box::new(found.into_iter().map(move |Found { index, at, .. }| rows.again(index, at)))
                }
                Format::Parquet => Box::new(ParquetRows::again(file, found)?),
            })
        })
    }

    fn over(
        path: &Path,
        rows: impl FnOnce(std::fs::File) -> Result<Box<dyn Iterator<Item = Result<Row>>>>,
    ) -> Result<Rows> {
        let file = open(path).with_context(|| format!("opening the dataset {}", path.display()))?;
        Ok(Rows { path: path.into(), format: rows(file).with_context(|| path.display().to_string())? })
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
