//! Rows of CSV with a header. Every value is text.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use csv::{Position, Reader, StringRecord};
use serde_json::Value;

use super::row::{Content, LARGEST, Place, Row};

pub struct CsvRows {
    reader: Reader<Bounded>,
    names: Vec<String>,
    index: u32,
    record: StringRecord,
    /// Bytes that may still be read for the record.
    left: Rc<Cell<u64>>,
}

impl CsvRows {
    /// # Errors
    /// When it has no header, or one with a column twice.
    pub fn open(file: File) -> Result<CsvRows> {
        let left = Rc::new(Cell::new(LARGEST));
        let file = Bounded { file: BufReader::with_capacity(1 << 20, file), left: left.clone() };
        let mut reader = csv::ReaderBuilder::new().from_reader(file);
        let header = reader.headers().context("line 1, the header")?.clone();
        let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            bail!("line 1, the header: there are two columns \"{name}\"");
        }
        Ok(CsvRows { reader, names, index: 0, record: StringRecord::new(), left })
    }

    /// The row that begins at this byte, of this number.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn again(&mut self, index: u32, at: u64) -> Result<Row> {
        let mut position = Position::new();
        position.set_byte(at);
        self.reader.seek(position)?;
        self.index = index;
        self.read()?.context("the file has become shorter")
    }

    fn read(&mut self) -> Result<Option<Row>> {
        self.left.set(LARGEST);
        if !self.reader.read_record(&mut self.record).map_err(in_words)? {
            return Ok(None);
        }
        let (line, at) = self.record.position().map_or((0, 0), |position| (position.line(), position.byte()));
        let values = self.record.iter().map(|text| Value::String(text.into()));
        let columns = self.names.iter().cloned().zip(values).collect();
        let index = self.index;
        self.index += 1;
        Ok(Some(Row { index, place: Place::Line(line), at, content: Content::Columns(columns) }))
    }
}

impl Iterator for CsvRows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        self.read().transpose()
    }
}

/// A quote that is not closed makes one record of the rest of the file.
struct Bounded {
    file: BufReader<File>,
    left: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            let message = format!("a row is longer than {} MB; is a quote not closed?", LARGEST >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let read = self.file.read(into)?;
        self.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn in_words(error: csv::Error) -> anyhow::Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(pos), expected_len, len } => {
            anyhow::anyhow!("line {}: {len} fields, where the header has {expected_len}", pos.line())
        }
        _ => error.into(),
    }
}
