//! Causal self-attention over packed sequences, with grouped key and value heads (Ainslie et al. 2023).
//!
//! Queries go in blocks of rows, and a block's scores are computed only against the keys that its last row
//! may see: for long sequences half of the products are never made, and with a window all those before it.

use std::cell::RefCell;
use std::ops::Range;

use gemmkit::{Parallelism, gemm_unchecked};
use rayon::prelude::*;

use super::{Scores, Shared, Spans, fix_summation_order};

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

/// Values are added up in blocks of so many keys, which no product divides further. So a row's sums do not depend on how many keys
/// follow those that it sees.
const KEY_BLOCK: usize = 512;

/// What a head needs beside the packed rows.
#[derive(Default)]
struct Memory {
    scores: Vec<f32>,
    /// Of a sequence whose rows do not lie together.
    keys: Vec<f32>,
    values: Vec<f32>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// out [tokens, heads * dim] = softmax(scale * q kᵀ) v for each sequence and head, a token seeing itself and
/// those before it, as far back as `scores` says, which also gives the scale and a soft-cap. A span whose sequence began elsewhere
/// sees those rows of k and v too, and its rows have the same bits as those of the whole sequence. Rows outside all spans are not written.
///
/// # Panics
/// When the lengths do not fit the shape, or a sequence reaches beyond the rows.
pub fn attention(q: &[f32], k: &[f32], v: &[f32], shape: HeadShape, spans: Spans, scores: Scores, out: &mut [f32]) {
    let (tokens, wide, narrow) = (q.len() / shape.queries(), shape.queries(), shape.keys());
    assert_eq!((q.len(), out.len()), (tokens * wide, tokens * wide), "attention: queries and output");
    assert_eq!((k.len(), v.len()), (tokens * narrow, tokens * narrow), "attention: keys and values");
    assert!(spans.rows.windows(2).all(|pair| pair[0].end <= pair[1].start), "attention: sequences in order");
    let all = (0..spans.rows.len()).flat_map(|i| spans.all(i));
    assert!(all.into_iter().all(|rows| rows.end <= tokens), "attention: {tokens} rows");
    fix_summation_order();
    let group = shape.heads / shape.kv_heads;
    let out = Shared(out.as_mut_ptr());
    let jobs: Vec<(usize, usize)> =
        (0..spans.rows.len()).flat_map(|span| (0..shape.heads).map(move |head| (span, head))).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(span, head)| {
        let (rows, first) = (&spans.rows[span], spans.position(span));
        let query = &q[rows.start * wide + head * shape.dim..];
        let column = head / group * shape.dim;
        // SAFETY: the columns of one head in the rows of one sequence are this job's alone.
        let out = unsafe { out.get().add(rows.start * wide + head * shape.dim) };
        MEMORY.with_borrow_mut(|Memory { scores: weights, keys, values }| {
            let positions = first..first + rows.len();
            let (key, value, stride) = match spans.before(span) {
                [] => (&k[rows.start * narrow + column..], &v[rows.start * narrow + column..], narrow),
                _ => {
                    let columns = column..column + shape.dim;
                    gather(k, narrow, spans.all(span), columns.clone(), keys);
                    gather(v, narrow, spans.all(span), columns, values);
                    (&keys[..], &values[..], shape.dim)
                }
            };
            // SAFETY: the views start within the slices and end with their sequence's last row, checked above.
            unsafe { one_head(query, wide, [key, value], stride, shape.dim, positions, scores, weights, out) };
        });
    });
}

/// These columns of these rows, one after the other.
fn gather(
    from: &[f32],
    width: usize,
    rows: impl Iterator<Item = Range<usize>>,
    columns: Range<usize>,
    to: &mut Vec<f32>,
) {
    to.clear();
    rows.flatten().for_each(|row| to.extend_from_slice(&from[row * width..][columns.clone()]));
}

/// # Safety
/// The queries at `positions` of a sequence lie at strides of `wide`, as `out` does, and keys and values from position 0 to
/// `positions.end` at strides of `narrow`, `dim` values each.
#[allow(clippy::too_many_arguments)]
unsafe fn one_head(
    q: &[f32],
    wide: usize,
    [k, v]: [&[f32]; 2],
    narrow: usize,
    dim: usize,
    positions: Range<usize>,
    scores: Scores,
    memory: &mut Vec<f32>,
    out: *mut f32,
) {
    let (wide, narrow) = (wide as isize, narrow as isize);
    memory.resize(memory.len().max(QUERY_BLOCK * positions.end), 0.0);
    // Blocks lie where those of the whole sequence do, so that the sums are the same.
    let first_block = positions.start / QUERY_BLOCK * QUERY_BLOCK;
    for block in (first_block..positions.end).step_by(QUERY_BLOCK) {
        let (start, end) = (block.max(positions.start), (block + QUERY_BLOCK).min(positions.end));
        let (rows, first) = (end - start, (start - positions.start) as isize * wide);
        // Keys before the first that some row sees have no part in the products.
        let first_key = scores.first_seen(block);
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
        for from in (0..keys).step_by(KEY_BLOCK) {
            let these = KEY_BLOCK.min(keys - from);
            // SAFETY: as above; out's rows start..end of this head.
            unsafe {
                gemm_unchecked(
                    rows,
                    these,
                    dim,
                    1.0,
                    weights.as_ptr().add(from),
                    keys as isize,
                    1,
                    v.as_ptr().offset(below + from as isize * narrow),
                    narrow,
                    1,
                    if from > 0 { 1.0 } else { 0.0 },
                    out.offset(first),
                    wide,
                    1,
                    Parallelism::Serial,
                );
            }
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
            attention(&q, &k, &v, shape, Spans::whole(&sequences), scores, &mut found);
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
            attention(&q, &k, &v, shape, Spans::whole(&[0..100, 100..101, 101..300]), scores, &mut all);
            let (mut alone, whole) = (vec![0.0; 199 * 64], 0..199);
            attention(
                &q[101 * 64..],
                &k[101 * 32..],
                &v[101 * 32..],
                shape,
                Spans::whole(std::slice::from_ref(&whole)),
                scores,
                &mut alone,
            );
            assert_eq!(alone, all[101 * 64..]);
        }
    }

    #[test]
    fn an_end_has_the_bits_that_it_has_in_the_whole_sequence() {
        let shape = HeadShape { heads: 4, kv_heads: 2, dim: 16 };
        let plain = Scores { scale: 0.25, soft_cap: None, window: None };
        let (q, k, v) = (values(900 * 64, 1), values(900 * 32, 2), values(900 * 32, 3));
        for scores in [plain, Scores { window: Some(30), ..plain }, Scores { window: Some(401), ..plain }] {
            let mut whole = vec![0.0; q.len()];
            attention(&q, &k, &v, shape, Spans::whole(&[0..5, 5..900]), scores, &mut whole);
            for cuts in [vec![69], vec![68, 70], vec![5 + 64, 300, 301, 700], vec![6], vec![899]] {
                let ends: Vec<usize> = [5].into_iter().chain(cuts).chain([900]).collect();
                let rows: Vec<_> = std::iter::once(0..5).chain(ends.windows(2).map(|pair| pair[0]..pair[1])).collect();
                let before: Vec<_> = (0..rows.len()).map(|i| rows[1..i.max(1)].to_vec()).collect();
                let spans = Spans { rows: &rows, before: &before };
                let mut parts = vec![0.0; q.len()];
                attention(&q, &k, &v, shape, spans, scores, &mut parts);
                assert!(parts == whole, "{ends:?} {scores:?}");
            }
        }
    }
}
