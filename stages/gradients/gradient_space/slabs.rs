//! How gradients are cut into slabs, each of which is made for all examples at once. The cut decides in which order products are
//! summed, so it follows from the gradients' shapes alone, whatever memory there is.

use std::ops::Range;

/// Values of all examples' gradients that are made at once: 1 GiB.
const SLICE: usize = 1 << 28;

/// Values of the layer's inputs, at all tokens, that are held while the output gradients pass: 3 GiB.
pub const HELD: usize = 3 << 28;

/// Values of the output gradients, at all tokens, that one slab needs: 512 MiB.
const STEP: usize = 1 << 27;

/// Columns that a product takes at a time.
const LANES: usize = 16;

/// A gradient [out, inputs] cut into slabs: one for each of these columns with each of these rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Slabs {
    pub columns: Vec<Range<usize>>,
    pub rows: Vec<Range<usize>>,
}

impl Slabs {
    /// For n gradients, of which those that are kept as factors have so many tokens together. An example's slab [h, w] is made from
    /// h + w numbers of each of its tokens, which is least where the slab is a square.
    pub fn new(n: usize, tokens: usize, inputs: usize, out: usize) -> Slabs {
        let size = (SLICE / n.max(1)).max(1);
        let highest = (STEP / tokens.max(1)).max(1);
        let square = size.isqrt().min(highest).min(out.max(1));
        let widest = (size / square).clamp(1, inputs.max(1));
        let width = match widest / LANES {
            lanes if lanes > 0 && widest < inputs => {
                inputs.div_ceil(inputs.div_ceil(lanes * LANES)).next_multiple_of(LANES)
            }
            _ => widest,
        };
        Slabs::of(width, (size / width).min(highest).max(1), inputs, out)
    }

    /// Slabs of so many columns and rows, the last ones smaller.
    pub fn of(width: usize, height: usize, inputs: usize, out: usize) -> Slabs {
        let cut = |length: usize, step: usize| (0..length).step_by(step).map(move |at| at..length.min(at + step));
        Slabs { columns: cut(inputs, width).collect(), rows: cut(out, height).collect() }
    }
}

/// Bytes in memory for the gradients of n examples, of so many entries each, that take so many bytes in their files: what is held of
/// these, a slab of the gradients, and three matrices of their products.
pub fn memory(bytes: f64, entries: f64, n: f64) -> f64 {
    let most = 4.0 * HELD as f64;
    let held = match bytes > most {
        // The output gradients of one slab are read while those of another are in use.
        true => most + 2.0 * 4.0 * STEP as f64,
        false => bytes,
    };
    held + 4.0 * (SLICE as f64).min(n * entries) + 3.0 * 8.0 * n * n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gradients_are_one_slab_and_large_ones_stay_within_their_bounds() {
        let small = Slabs::new(12, 600, 896, 896);
        assert_eq!((small.columns.len(), small.rows.len()), (1, 1));
        // The paper's: 3,200 examples of 305 tokens.
        let (n, tokens) = (3200, 3200 * 305);
        let Slabs { columns, rows } = Slabs::new(n, tokens, 5120, 5120);
        assert_eq!((columns.last().unwrap().end, rows.last().unwrap().end), (5120, 5120));
        let (width, height) = (columns[0].len(), rows[0].len());
        assert!(tokens * height <= STEP && n * width * height <= SLICE, "{width} columns and {height} rows");
        assert!(width >= 512 && height >= 128, "{width} columns and {height} rows");
        // Fewer tokens let the slabs be squares.
        let Slabs { columns, rows } = Slabs::new(n, 30 * n, 5120, 5120);
        assert!(columns[0].len().abs_diff(rows[0].len()) < 32, "{columns:?} {rows:?}");
        // Where a column of everything is too much already, there is no less.
        assert_eq!(Slabs::new(1 << 20, 1 << 30, 64, 3).rows.len(), 3);
    }
}
