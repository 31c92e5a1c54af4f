//! Causal self-attention over packed sequences, with grouped key and value heads (Ainslie et al. 2023).
//!
//! Queries go in blocks of rows, and a block's scores are computed only against the keys that its last row
//! may see: for long sequences half of the products are never made, and with a window all those before it.

use std::cell::RefCell;
use std::ops::Range;

use gemmkit::{Parallelism, gemm_unchecked};
use rayon::prelude::*;

use super::{Scores, Shared, fix_summation_order};

/// The heads of a packed q [tokens, heads * dim] and k, v [tokens, kv_heads * dim].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
}

impl HeadShape {
    /// Width of the queries.
    pub fn queries(&self) -> usize {
        self.heads * self.dim
    }

    /// Width of the keys, and of the values.
    pub fn keys(&self) -> usize {
        self.kv_heads * self.dim
    }
}

const QUERY_BLOCK: usize = 64;

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// out [tokens, heads * dim] = softmax(scale * q kᵀ) v for each sequence and head, a token seeing itself and
/// those before it, as far back as `scores` says, which also gives the scale and a soft-cap. Sequences are row ranges that do not overlap; rows outside all of them are not written.
///
/// # Panics
/// When the lengths do not fit the shape, or a sequence reaches beyond the rows.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: HeadShape,
    sequences: &[Range<usize>],
    scores: Scores,
    out: &mut [f32],
) {
    let (tokens, wide, narrow) = (q.len() / shape.queries(), shape.queries(), shape.keys());
    assert_eq!((q.len(), out.len()), (tokens * wide, tokens * wide), "attention: queries and output");
    assert_eq!((k.len(), v.len()), (tokens * narrow, tokens * narrow), "attention: keys and values");
    assert!(sequences.windows(2).all(|pair| pair[0].end <= pair[1].start), "attention: sequences in order");
    assert!(sequences.iter().all(|rows| rows.end <= tokens), "attention: {tokens} rows");
    fix_summation_order();
    let group = shape.heads / shape.kv_heads;
    let out = Shared(out.as_mut_ptr());
    let jobs: Vec<(&Range<usize>, usize)> =
        sequences.iter().flat_map(|rows| (0..shape.heads).map(move |head| (rows, head))).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(rows, head)| {
        let query = &q[rows.start * wide + head * shape.dim..];
        let kv = rows.start * narrow + head / group * shape.dim;
        // SAFETY: the columns of one head in the rows of one sequence are this job's alone.
        let out = unsafe { out.get().add(rows.start * wide + head * shape.dim) };
        SCORES.with_borrow_mut(|memory| {
            // SAFETY: the views start within the slices and end with their sequence's last row, checked above.
            unsafe { one_head(query, &k[kv..], &v[kv..], shape, rows.len(), scores, memory, out) };
        });
    });
}

/// # Safety
/// The slices hold `len` rows of `dim` values at strides of the packed widths, and so does `out`.
#[allow(clippy::too_many_arguments)]
unsafe fn one_head(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: HeadShape,
    len: usize,
    scores: Scores,
    memory: &mut Vec<f32>,
    out: *mut f32,
) {
    let (dim, wide, narrow) = (shape.dim, shape.queries() as isize, shape.keys() as isize);
    memory.resize(memory.len().max(QUERY_BLOCK * len), 0.0);
    for start in (0..len).step_by(QUERY_BLOCK) {
        let end = (start + QUERY_BLOCK).min(len);
        let (rows, first) = (end - start, start as isize * wide);
        // Keys before the first that some row sees have no part in the products.
        let first_key = scores.first_seen(start);
        let (keys, below) = (end - first_key, first_key as isize * narrow);
        let weights = &mut memory[..rows * keys];
        // SAFETY: as above; the weights are [rows, keys].
        unsafe {
            gemm_unchecked(
                rows,
                dim,
                keys,
                1.0,
                q.as_ptr().offset(first),
                wide,
                1,
                k.as_ptr().offset(below),
                1,
                narrow,
                0.0,
                weights.as_mut_ptr(),
                keys as isize,
                1,
                Parallelism::Serial,
            );
        }
        for (row, weights) in weights.chunks_exact_mut(keys).enumerate() {
            scores.weigh(weights, start + row, first_key, None);
        }
        // SAFETY: as above; out's rows start..end of this head.
        unsafe {
            gemm_unchecked(
                rows,
                keys,
                dim,
                1.0,
                weights.as_ptr(),
                keys as isize,
                1,
                v.as_ptr().offset(below),
                narrow,
                1,
                0.0,
                out.offset(first),
                wide,
                1,
                Parallelism::Serial,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agrees_with_f64_over_lengths_and_groups() {
        let plain = Scores { scale: 0.3, soft_cap: None, window: None };
        for ((heads, kv_heads, dim), scores) in [
            ((4, 2, 16), plain),
            ((3, 3, 8), plain),
            ((6, 1, 64), plain),
            ((4, 2, 16), Scores { window: Some(1), ..plain }),
            ((4, 2, 16), Scores { window: Some(7), ..plain }),
            ((3, 3, 8), Scores { window: Some(70), ..plain }),
            ((3, 3, 8), Scores { window: Some(200), ..plain }),
            ((4, 2, 16), Scores { scale: 2.0, soft_cap: Some(1.5), ..plain }),
            ((4, 2, 16), Scores { scale: 2.0, soft_cap: Some(1.5), window: Some(65) }),
        ] {
            let shape = HeadShape { heads, kv_heads, dim };
            let lengths = [1, 63, 64, 65, 2, 200];
            let mut at = 0;
            let sequences: Vec<_> = lengths.map(|n| (at, at += n).0..at).to_vec();
            let (q, k, v) =
                (values(at * heads * dim, 1), values(at * kv_heads * dim, 2), values(at * kv_heads * dim, 3));
            let mut found = vec![f32::NAN; q.len()];
            attention(&q, &k, &v, shape, &sequences, scores, &mut found);
            let expected = reference(at, heads * dim, |row, column| {
                let start = sequences.iter().find(|s| s.contains(&row)).unwrap().start;
                let (head, kv) = (column / dim, column / dim / (heads / kv_heads));
                let start = scores.window.map_or(start, |window| start.max((row + 1).saturating_sub(window)));
                let weights: Vec<f64> = (start..=row)
                    .map(|key| {
                        let dot: f64 = (0..dim)
                            .map(|i| {
                                q[(row * heads + head) * dim + i] as f64 * k[(key * kv_heads + kv) * dim + i] as f64
                            })
                            .sum();
                        let score = dot * scores.scale as f64;
                        scores.soft_cap.map_or(score, |cap| cap as f64 * (score / cap as f64).tanh()).exp()
                    })
                    .collect();
                let mix = weights
                    .iter()
                    .zip(start..=row)
                    .map(|(weight, key)| weight * v[(key * kv_heads + kv) * dim + column % dim] as f64);
                mix.sum::<f64>() / weights.iter().sum::<f64>()
            });
            let error = worst_relative(&found, &expected, 1.0);
            assert!(error < 1e-6, "{shape:?} {scores:?}: {error:e}");
        }
    }

    #[test]
    fn a_sequence_has_the_same_bits_alone_and_among_others() {
        let shape = HeadShape { heads: 4, kv_heads: 2, dim: 16 };
        let (q, k, v) = (values(300 * 64, 1), values(300 * 32, 2), values(300 * 32, 3));
        for window in [None, Some(30)] {
            let scores = Scores { scale: 0.25, soft_cap: None, window };
            let mut all = vec![0.0; q.len()];
            attention(&q, &k, &v, shape, &[0..100, 100..101, 101..300], scores, &mut all);
            let (mut alone, whole) = (vec![0.0; 199 * 64], 0..199);
            attention(
                &q[101 * 64..],
                &k[101 * 32..],
                &v[101 * 32..],
                shape,
                std::slice::from_ref(&whole),
                scores,
                &mut alone,
            );
            assert_eq!(alone, all[101 * 64..]);
        }
    }
}
