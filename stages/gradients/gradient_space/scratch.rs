//! Numbers in memory, or in a scratch file where they are too many.

use std::borrow::Cow;
use std::fs::{File, OpenOptions, remove_file};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result};

pub enum Numbers {
    Memory(Vec<f32>),
    /// A file of the system's temporary folder that has no name any more, so that it goes with the process.
    Scratch(File),
}

impl Numbers {
    /// # Errors
    /// When no scratch file can be made.
    pub fn new(count: usize, in_memory: bool) -> Result<Numbers> {
        if in_memory {
            return Ok(Numbers::Memory(vec![0.0; count]));
        }
        let folder = std::env::temp_dir();
        let mut attempt = 0;
        let file = loop {
            let path = folder.join(format!("strata-{}-{attempt}", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => break remove_file(&path).map(|()| file),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => break Err(error),
            }
        };
        Ok(Numbers::Scratch(file.with_context(|| format!("making a scratch file in {}", folder.display()))?))
    }

    /// # Errors
    /// When the scratch file cannot be written.
    pub fn put(&mut self, at: usize, values: &[f32]) -> Result<()> {
        match self {
            Numbers::Memory(numbers) => numbers[at..at + values.len()].copy_from_slice(values),
            Numbers::Scratch(file) => {
                // SAFETY: every f32 is four bytes.
                let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
                file.write_all_at(bytes, 4 * at as u64).with_context(|| {
                    let folder = std::env::temp_dir();
                    format!("writing scratch to {} (TMPDIR names another folder)", folder.display())
                })?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the scratch file cannot be read.
    pub fn copy(&self, at: usize, out: &mut [f32]) -> Result<()> {
        match self {
            Numbers::Memory(numbers) => out.copy_from_slice(&numbers[at..at + out.len()]),
            Numbers::Scratch(file) => {
                // SAFETY: every four bytes are an f32.
                let bytes = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), size_of_val(out)) };
                file.read_exact_at(bytes, 4 * at as u64).context("reading scratch")?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the scratch file cannot be read.
    pub fn get(&self, range: Range<usize>) -> Result<Cow<'_, [f32]>> {
        match self {
            Numbers::Memory(numbers) => Ok(Cow::Borrowed(&numbers[range])),
            Numbers::Scratch(_) => {
                let mut values = vec![0.0; range.len()];
                self.copy(range.start, &mut values)?;
                Ok(Cow::Owned(values))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_memory_and_from_a_file() {
        for in_memory in [true, false] {
            let mut numbers = Numbers::new(10, in_memory).unwrap();
            numbers.put(6, &[6.0, 7.0, 8.0, f32::NEG_INFINITY]).unwrap();
            numbers.put(0, &[0.0, 1.0, 2.0]).unwrap();
            assert_eq!(*numbers.get(1..3).unwrap(), [1.0, 2.0]);
            let mut some = [0.0; 3];
            numbers.copy(7, &mut some).unwrap();
            assert_eq!(some, [7.0, 8.0, f32::NEG_INFINITY]);
        }
        assert!(Numbers::new(10, false).unwrap().get(0..1).is_err(), "nothing was written");
    }
}
