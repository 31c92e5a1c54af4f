//! Rows of a file that is one JSON array of objects, found one after the other by their brackets.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use anyhow::{Result, bail};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::row::{Content, LARGEST, Place, Row};

pub struct Array {
    file: BufReader<File>,
    /// The byte that is read next, and the line that it is on (from 1).
    at: u64,
    line: u64,
    index: u32,
    ended: bool,
}

impl Array {
    /// # Errors
    /// When the file does not begin with a bracket; an object's keys are in the message.
    pub fn open(file: File) -> Result<Array> {
        let mut array = Array { file: BufReader::with_capacity(1 << 20, file), at: 0, line: 1, index: 0, ended: false };
        if array.file.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            array.pass(3);
        }
        match array.blank()? {
            Some(b'[') => array.pass(1),
            Some(b'{') => bail!(array.object()?),
            Some(_) => bail!("expected a JSON array of objects, found something else at line {}", array.line),
            None => bail!("expected a JSON array of objects, found an empty file"),
        }
        if array.blank()? == Some(b']') {
            array.pass(1);
            array.end()?;
        }
        Ok(array)
    }

    /// The row that begins at this byte, of this number.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn again(&mut self, index: u32, at: u64) -> Result<Row> {
        self.file.seek(SeekFrom::Start(at))?;
        (self.at, self.index) = (at, index);
        self.element()
    }

    fn pass(&mut self, bytes: usize) {
        self.file.consume(bytes);
        self.at += bytes as u64;
    }

    /// The next byte that is no white space, which is not passed.
    fn blank(&mut self) -> Result<Option<u8>> {
        loop {
            let Some(byte) = self.file.fill_buf()?.first().copied() else { return Ok(None) };
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.line += u64::from(byte == b'\n');
            self.pass(1);
        }
    }

    /// The element that begins here, with what comes after it passed.
    fn element(&mut self) -> Result<Row> {
        let (index, line, at) = (self.index, self.line, self.at);
        let mut text = Vec::new();
        let mut within = Within::default();
        let last = loop {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                bail!("row {index} (the first is 0), which begins in line {line}: the file ends within the array");
            }
            let end = buffer.iter().position(|byte| within.ends(*byte));
            let taken = end.unwrap_or(buffer.len());
            text.extend_from_slice(&buffer[..taken]);
            self.line += buffer[..taken].iter().filter(|byte| **byte == b'\n').count() as u64;
            let last = end.map(|end| buffer[end]);
            self.pass(taken + usize::from(last.is_some()));
            if text.len() as u64 > LARGEST {
                bail!("row {index} (the first is 0), which begins in line {line}, is longer than {} MB", LARGEST >> 20);
            }
            if let Some(last) = last {
                break last;
            }
        };
        self.index += 1;
        match last {
            b',' if self.blank()? == Some(b']') => {
                bail!("line {}: expected another object after the comma, found the end of the array", self.line)
            }
            b',' => {}
            _ => self.end()?,
        }
        Ok(Row { index, place: Place::Row(index.into()), at, content: Content::Element(text, line) })
    }

    /// After the array's last bracket.
    fn end(&mut self) -> Result<()> {
        self.ended = true;
        match self.blank()? {
            None => Ok(()),
            Some(_) => bail!("expected one JSON array, found more after it, at line {}", self.line),
        }
    }

    /// What to say of a file that begins with an object: the keys of a whole one, or that it is JSON lines.
    fn object(&mut self) -> Result<String> {
        let mut keys = serde_json::Deserializer::from_reader(self.file.by_ref().take(LARGEST));
        let found = keys.deserialize_map(Keys).map_err(|error| format!("expected a JSON array of objects: {error}"));
        let keys = match found {
            Ok(keys) => keys,
            Err(error) => return Ok(error),
        };
        let lines = match self.blank()? {
            Some(_) => "; for one object a line, write format = \"jsonl\"",
            None => "",
        };
        Ok(format!("expected a JSON array of objects, found an object with the keys: {}{lines}", keys.join(", ")))
    }
}

impl Iterator for Array {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        (!self.ended).then(|| self.blank().and_then(|_| self.element())).inspect(|row| self.ended |= row.is_err())
    }
}

/// How deep in an element a byte is.
#[derive(Default)]
struct Within {
    depth: u32,
    text: bool,
    escaped: bool,
}

impl Within {
    /// Whether this byte comes after the element: a comma or the array's bracket.
    fn ends(&mut self, byte: u8) -> bool {
        if self.text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.text = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.text = true,
            b'{' | b'[' => self.depth += 1,
            b',' | b']' if self.depth == 0 => return true,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

/// The first keys of an object.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vec<String>, A::Error> {
        const SHOWN: usize = 20;
        let mut keys = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value::<IgnoredAny>()?;
            if keys.len() < SHOWN {
                keys.push(key);
            }
        }
        Ok(keys)
    }
}
