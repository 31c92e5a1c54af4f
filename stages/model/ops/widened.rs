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

impl Matrix<'_> {
    /// Calls `with` on about so many weights at a time, whole rows, and the first of these rows. A product within it, on the
    /// same thread, has weights of its own.
    pub(super) fn each_widened(self, values: usize, mut with: impl FnMut(&[f32], usize)) {
        let Matrix { out, inputs, .. } = self;
        let rows = (values / inputs.max(1)).next_multiple_of(64).clamp(64, out.next_multiple_of(64));
        let mut widened = WIDENED.take();
        if widened.len() < rows.min(out) * inputs {
            widened = vec![0.0; rows.min(out) * inputs];
        }
        for first in (0..out).step_by(rows) {
            let part = &mut widened[..rows.min(out - first) * inputs];
            part.par_chunks_mut(inputs * ROWS).enumerate().for_each(|(i, part)| {
                self.widen((first + i * ROWS) * inputs, part);
            });
            with(part, first);
        }
        WIDENED.set(widened);
    }
}
