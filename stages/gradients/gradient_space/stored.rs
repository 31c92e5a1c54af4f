//! A module's gradients as they are laid down slab by slab, so that a slab of all of them is read in one piece.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::Result;

use super::scratch::Numbers;
use super::slabs::Slabs;

/// How one example's gradient is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Itself, as one of those so kept.
    Whole(usize),
    /// Its factors, at these of all tokens.
    Factors(Range<usize>),
}

/// Gradients [out, inputs] of several examples.
pub struct Stored {
    pub forms: Vec<Form>,
    pub slabs: Slabs,
    inputs: usize,
    out: usize,
    tokens: usize,
    wholes: usize,
    /// By slab of columns [tokens, columns].
    x: Numbers,
    /// By slab of rows [tokens, rows].
    d: Numbers,
    /// By slab of columns and of rows [wholes, rows, columns].
    whole: Numbers,
}

impl Stored {
    /// Room for gradients of these forms, the tokens of which follow each other, cut into these slabs; in memory where they take at
    /// most so many bytes.
    ///
    /// # Errors
    /// When there is no room for scratch.
    pub fn new(forms: Vec<Form>, slabs: Slabs, inputs: usize, out: usize, bytes: u64) -> Result<Stored> {
        let (mut tokens, mut wholes) = (0, 0);
        for form in &forms {
            match form {
                Form::Whole(_) => wholes += 1,
                Form::Factors(rows) => tokens += rows.len(),
            }
        }
        let counts = [tokens * inputs, tokens * out, wholes * inputs * out];
        let in_memory = 4 * counts.iter().sum::<usize>() as u64 <= bytes;
        let [x, d, whole] = counts.map(|count| Numbers::new(count, in_memory || count == 0));
        let (x, d, whole) = (x?, d?, whole?);
        Ok(Stored { forms, slabs, inputs, out, tokens, wholes, x, d, whole })
    }

    /// Inputs [_, inputs] at the tokens from `first` on.
    ///
    /// # Errors
    /// When scratch cannot be written.
    pub fn put_inputs(&mut self, first: usize, values: &[f32]) -> Result<()> {
        put_by_columns(&mut self.x, self.tokens, &self.slabs.columns, first, self.inputs, values)
    }

    /// Output gradients [_, out] at the tokens from `first` on.
    ///
    /// # Errors
    /// When scratch cannot be written.
    pub fn put_output_gradients(&mut self, first: usize, values: &[f32]) -> Result<()> {
        put_by_columns(&mut self.d, self.tokens, &self.slabs.rows, first, self.out, values)
    }

    /// Rows [_, inputs] of a gradient that is kept itself, from row `first` on.
    ///
    /// # Errors
    /// When scratch cannot be written.
    pub fn put_rows(&mut self, index: usize, first: usize, values: &[f32]) -> Result<()> {
        for (row, values) in (first..).zip(values.chunks_exact(self.inputs)) {
            let Some(rows) = self.slabs.rows.iter().find(|rows| rows.contains(&row)) else { continue };
            for columns in &self.slabs.columns {
                let at = self.whole_at(index, columns, rows) + (row - rows.start) * columns.len();
                self.whole.put(at, &values[columns.clone()])?;
            }
        }
        Ok(())
    }

    /// Where the gradient that is kept itself begins in a slab.
    fn whole_at(&self, index: usize, columns: &Range<usize>, rows: &Range<usize>) -> usize {
        let before = self.out * columns.start + rows.start * columns.len();
        self.wholes * before + index * rows.len() * columns.len()
    }

    /// The inputs [_, columns] at these tokens.
    ///
    /// # Errors
    /// When scratch cannot be read.
    pub fn inputs(&self, tokens: Range<usize>, columns: &Range<usize>) -> Result<Cow<'_, [f32]>> {
        let at = |token| self.tokens * columns.start + token * columns.len();
        self.x.get(at(tokens.start)..at(tokens.end))
    }

    /// The output gradients [_, rows] at these tokens.
    ///
    /// # Errors
    /// When scratch cannot be read.
    pub fn output_gradients(&self, tokens: Range<usize>, rows: &Range<usize>) -> Result<Cow<'_, [f32]>> {
        let at = |token| self.tokens * rows.start + token * rows.len();
        self.d.get(at(tokens.start)..at(tokens.end))
    }

    /// The slab [rows, columns] of a gradient that is kept itself.
    ///
    /// # Errors
    /// When scratch cannot be read.
    pub fn whole(&self, index: usize, columns: &Range<usize>, rows: &Range<usize>, out: &mut [f32]) -> Result<()> {
        self.whole.copy(self.whole_at(index, columns, rows), out)
    }

    /// The tokens of some examples that follow each other.
    pub fn tokens(&self, examples: Range<usize>) -> Range<usize> {
        let mut found: Option<Range<usize>> = None;
        for form in &self.forms[examples] {
            if let Form::Factors(rows) = form {
                found = Some(found.map_or(rows.clone(), |found| found.start..rows.end));
            }
        }
        found.unwrap_or(0..0)
    }

    /// Slabs of columns that follow each other and of which all inputs together take at most so many bytes, or one slab.
    pub fn blocks(&self, bytes: u64) -> Vec<Range<usize>> {
        let most = (bytes / 4) as usize / self.tokens.max(1);
        runs(self.slabs.columns.iter().map(Range::len), most)
    }

    /// Examples that follow each other and whose inputs in so many columns take at most so many bytes, or are one.
    pub fn groups(&self, width: usize, bytes: u64) -> Vec<Range<usize>> {
        let tokens = self.forms.iter().map(|form| match form {
            Form::Whole(_) => 0,
            Form::Factors(rows) => rows.len(),
        });
        runs(tokens, (bytes / 4) as usize / width.max(1))
    }
}

/// Runs of things of these sizes that are at most so large together, or one thing; at least one run.
fn runs(sizes: impl Iterator<Item = usize>, most: usize) -> Vec<Range<usize>> {
    let (mut runs, mut run, mut held) = (Vec::new(), 0..0, 0);
    for (i, size) in sizes.enumerate() {
        if size > 0 && held > 0 && held + size > most {
            runs.push(run.start..i);
            (run.start, held) = (i, 0);
        }
        run.end = i + 1;
        held += size;
    }
    runs.push(run);
    runs
}

/// Lays values [_, width] of the tokens from `first` on down by these columns.
fn put_by_columns(
    numbers: &mut Numbers,
    tokens: usize,
    columns: &[Range<usize>],
    first: usize,
    width: usize,
    values: &[f32],
) -> Result<()> {
    if let [all] = columns {
        return numbers.put(first * all.len(), values);
    }
    let mut part = Vec::new();
    for columns in columns {
        part.clear();
        values.chunks_exact(width).for_each(|row| part.extend_from_slice(&row[columns.clone()]));
        numbers.put(tokens * columns.start + first * columns.len(), &part)?;
    }
    Ok(())
}
