//! Weights of f16 and bf16 as f32, some rows at a time: few enough that a memory-mapped model is never copied whole.

use std::cell::Cell;

use rayon::prelude::*;

use super::Matrix;

/// Rows that a thread widens at a time.
const ROWS: usize = 16;

thread_local! {
    /// Kept from one product to the next: new memory of this size would be zeroed each time.
    static WIDENED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `with` on `len` values of any content. A product within it, on the same thread, has values of its own.
pub(super) fn with(len: usize, with: impl FnOnce(&mut [f32])) {
    let mut widened = WIDENED.take();
    if widened.len() < len {
        widened = vec![0.0; len];
    }
    with(&mut widened[..len]);
    WIDENED.set(widened);
}

/// How many of a matrix' `out` rows are about so many values.
pub(super) fn rows_widened(values: usize, inputs: usize, out: usize) -> usize {
    (values / inputs.max(1)).next_multiple_of(64).clamp(64, out.next_multiple_of(64))
}

impl Matrix<'_> {
    /// The rows from `first` on that `widened` has room for.
    pub(super) fn widen_rows(self, first: usize, widened: &mut [f32]) {
        widened.par_chunks_mut(self.inputs * ROWS).enumerate().for_each(|(i, part)| {
            self.widen((first + i * ROWS) * self.inputs, part);
        });
    }
}
