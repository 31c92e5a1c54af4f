//! Exchanges of two models' states within examples, and what a test makes of them.

use std::ops::Range;

/// The exchanges of a test: one sign for each example, and which examples there are.
pub struct Exchanges {
    /// 1 and -1, row-major [rows, examples].
    pub signs: Vec<i8>,
    /// Of each example, ascending.
    pub folds: Vec<u32>,
}

impl Exchanges {
    pub fn rows(&self) -> usize {
        self.signs.len() / self.folds.len().max(1)
    }

    /// The signs as numbers, [`ROWS`] rows at a time.
    pub fn blocks(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        let blocks = self.signs.chunks((ROWS * self.folds.len()).max(1));
        blocks.map(|block| block.iter().map(|sign| f64::from(*sign)).collect())
    }

    /// The examples of each fold, as ranges.
    pub fn ranges(&self) -> Vec<(u32, Range<usize>)> {
        let mut ranges: Vec<(u32, Range<usize>)> = Vec::new();
        for (i, &fold) in self.folds.iter().enumerate() {
            match ranges.last_mut() {
                Some((last, range)) if *last == fold => range.end = i + 1,
                _ => ranges.push((fold, i..i + 1)),
            }
        }
        ranges
    }
}

/// Sum and sum of squares of the projected differences, one of each for every row of signs.
pub struct Sums {
    pub sums: Vec<f64>,
    pub squares: Vec<f64>,
}

/// Rows of signs that are multiplied at a time, which bounds the memory.
const ROWS: usize = 128;

/// A fold whose examples are projected.
pub struct Fold {
    /// Its own examples.
    pub range: Range<usize>,
    /// C_k: what no exchange moves.
    pub fixed: Vec<f64>,
    /// moved / n_k.
    pub share: f64,
}
