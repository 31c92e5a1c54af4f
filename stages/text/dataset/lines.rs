//! Rows of JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail};

use super::row::{Content, LARGEST, Place, Row};

pub struct Lines {
    file: BufReader<File>,
    /// Lines before the next.
    line: u64,
    /// The byte at which the next begins.
    at: u64,
}

impl Lines {
    pub fn new(file: File) -> Lines {
        Lines { file: BufReader::with_capacity(1 << 20, file), line: 0, at: 0 }
    }

    /// The row that begins at this byte, of the line of this number.
    ///
    /// # Errors
    /// When the file does not have it any more.
    pub fn again(&mut self, index: u32, at: u64) -> Result<Row> {
        self.file.seek(SeekFrom::Start(at))?;
        (self.line, self.at) = (index.into(), at);
        self.next().context("the file has become shorter")?
    }

    /// A line, with what ends it; `None` at the end of the file.
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let length = self.file.by_ref().take(LARGEST + 1).read_until(b'\n', &mut line)? as u64;
        if length > LARGEST {
            bail!(
                "line {} is longer than {} MB; expected one JSON object a line (for a file that is one array, write \
                 format = \"json\")",
                self.line + 1,
                LARGEST >> 20
            );
        }
        Ok((length > 0).then_some(line))
    }
}

impl Iterator for Lines {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        loop {
            let mut line = match self.read() {
                Ok(line) => line?,
                Err(error) => return Some(Err(error)),
            };
            let at = self.at;
            self.at += line.len() as u64;
            self.line += 1;
            if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
            if !line.trim_ascii().is_empty() {
                let index = (self.line - 1) as u32;
                return Some(Ok(Row { index, place: Place::Line(self.line), at, content: Content::Line(line) }));
            }
        }
    }
}
