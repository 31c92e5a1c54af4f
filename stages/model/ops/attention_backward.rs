//! The reverse of causal self-attention. With P = softmax(scale q kᵀ) and D the row sums of P * (d vᵀ):
//! dv = Pᵀ d, dS = P * (d vᵀ - D), dq = scale dS k, dk = scale dSᵀ q. P is computed again, block by block of
//! query rows, rather than kept (as in Dao et al. 2022). With a soft-cap, dS takes the slope of the cap as a factor.

use std::ops::Range;

use gemmkit::{Parallelism, gemm_unchecked};
use rayon::prelude::*;

use super::{HeadShape, Scores, Shared, fix_summation_order, vectorized};

const QUERY_BLOCK: usize = 64;

/// Gradients at q, k and v (after the rotary embedding) from `d` at the output, all packed as in
/// [`super::attention`]. The three are overwritten in the rows of the sequences, and zero elsewhere.
///
/// # Panics
/// When the lengths do not fit the shape, or a sequence reaches beyond the rows.
pub fn attention_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: HeadShape,
    sequences: &[Range<usize>],
    scores: Scores,
    d: &[f32],
) -> [Vec<f32>; 3] {
    let (wide, narrow, dim) = (shape.queries(), shape.keys(), shape.dim);
    let tokens = q.len() / wide;
    assert_eq!((q.len(), d.len()), (tokens * wide, tokens * wide), "attention_backward: queries");
    assert_eq!((k.len(), v.len()), (tokens * narrow, tokens * narrow), "attention_backward: keys and values");
    assert!(sequences.windows(2).all(|pair| pair[0].end <= pair[1].start), "attention_backward: sequences in order");
    assert!(sequences.iter().all(|rows| rows.end <= tokens), "attention_backward: {tokens} rows");
    fix_summation_order();
    let mut gradients = [vec![0f32; q.len()], vec![0f32; k.len()], vec![0f32; v.len()]];
    let [dq, dk, dv] = gradients.each_mut().map(|gradient| Shared(gradient.as_mut_ptr()));
    let group = shape.heads / shape.kv_heads;
    // A job is a key and value head of one sequence, with all the query heads that read it: they sum into it
    // in their order.
    let jobs: Vec<(&Range<usize>, usize)> =
        sequences.iter().flat_map(|rows| (0..shape.kv_heads).map(move |head| (rows, head))).collect();
    jobs.into_par_iter().with_max_len(1).for_each(|(rows, kv_head)| {
        let pieces = if scores.soft_cap.is_some() { 3 } else { 2 };
        let mut memory = vec![0f32; pieces * QUERY_BLOCK.min(rows.len()) * rows.len()];
        let kv = rows.start * narrow + kv_head * dim;
        for head in kv_head * group..(kv_head + 1) * group {
            for start in (0..rows.len()).step_by(QUERY_BLOCK) {
                let end = (start + QUERY_BLOCK).min(rows.len());
                let at = (rows.start + start) * wide + head * dim;
                let strides = (wide as isize, narrow as isize);
                // SAFETY: the columns of one key and value head, and of its query heads, in the rows of one
                // sequence are this job's alone, and all lie within the checked lengths.
                unsafe {
                    query_block(
                        [q[at..].as_ptr(), k[kv..].as_ptr(), v[kv..].as_ptr(), d[at..].as_ptr()],
                        [dq.get().add(at), dk.get().add(kv), dv.get().add(kv)],
                        (start, end, dim),
                        strides,
                        scores,
                        &mut memory,
                    );
                }
            }
        }
    });
    gradients
}

/// Query rows start..end of one head against the keys that they see.
///
/// # Safety
/// The pointers are valid for those rows of `dim` values at the strides of queries and keys.
unsafe fn query_block(
    [q, k, v, d]: [*const f32; 4],
    [dq, dk, dv]: [*mut f32; 3],
    (start, end, dim): (usize, usize, usize),
    (wide, narrow): (isize, isize),
    scores: Scores,
    memory: &mut [f32],
) {
    let first_key = scores.first_seen(start);
    let (rows, keys, below) = (end - start, end - first_key, first_key as isize * narrow);
    let (p, rest) = memory.split_at_mut(rows * keys);
    let (ds, slopes) = rest.split_at_mut(rows * keys);
    let (across, scale) = (keys as isize, scores.scale);
    // SAFETY: rows of keys that lie before those up to `end`.
    let (k, v, dk, dv) = unsafe { (k.offset(below), v.offset(below), dk.offset(below), dv.offset(below)) };
    // SAFETY: (rows x inner) (inner x columns), each operand within the views that the caller vouches for.
    let product = |m,
                   inner,
                   n,
                   alpha,
                   a: (*const f32, isize, isize),
                   b: (*const f32, isize, isize),
                   beta,
                   c: (*mut f32, isize)| unsafe {
        gemm_unchecked(m, inner, n, alpha, a.0, a.1, a.2, b.0, b.1, b.2, beta, c.0, c.1, 1, Parallelism::Serial);
    };
    product(rows, dim, keys, 1.0, (q, wide, 1), (k, 1, narrow), 0.0, (p.as_mut_ptr(), across));
    product(rows, dim, keys, 1.0, (d, wide, 1), (v, 1, narrow), 0.0, (ds.as_mut_ptr(), across));
    for (row, p) in p.chunks_exact_mut(keys).enumerate() {
        let slopes = scores.soft_cap.is_some().then(|| &mut slopes[row * keys..(row + 1) * keys]);
        scores.weigh(p, start + row, first_key, slopes);
    }
    for (p, ds) in p.chunks(ROWS * keys).zip(ds.chunks_mut(ROWS * keys)) {
        let mut totals = [0.0; ROWS];
        row_sums(p, ds, keys, &mut totals);
        let rows = p.chunks_exact(keys).zip(ds.chunks_exact_mut(keys)).zip(totals);
        rows.for_each(|((p, ds), total)| softmax_backward(p, total, ds));
    }
    if scores.soft_cap.is_some() {
        // Hidden keys have ds = 0, and the slope of another row.
        ds.iter_mut().zip(slopes).for_each(|(ds, slope)| *ds *= *slope);
    }
    product(keys, rows, dim, 1.0, (p.as_ptr(), 1, across), (d, wide, 1), 1.0, (dv, narrow));
    product(rows, keys, dim, scale, (ds.as_ptr(), across, 1), (k, narrow, 1), 0.0, (dq, wide));
    product(keys, rows, dim, scale, (ds.as_ptr(), 1, across), (q, wide, 1), 1.0, (dk, narrow));
}

/// Rows whose sums are taken at once: each addition to a sum waits for the last.
const ROWS: usize = 8;

vectorized! {
    avx512:
    /// Σ p * ds of up to [`ROWS`] rows of `keys` values, each in the order of its keys.
    pub fn row_sums(p: &[f32], ds: &[f32], keys: usize, totals: &mut [f32; ROWS]) {
        if p.len() == ROWS * keys {
            let mut sums = [0f64; ROWS];
            let rows: [(&[f32], &[f32]); ROWS] =
                std::array::from_fn(|row| (&p[row * keys..][..keys], &ds[row * keys..][..keys]));
            for key in 0..keys {
                for (sum, (p, ds)) in sums.iter_mut().zip(&rows) {
                    *sum += (p[key] * ds[key]) as f64;
                }
            }
            *totals = sums.map(|sum| sum as f32);
            return;
        }
        for ((p, ds), total) in p.chunks_exact(keys).zip(ds.chunks_exact(keys)).zip(totals) {
            *total = p.iter().zip(ds).map(|(p, ds)| (p * ds) as f64).sum::<f64>() as f32;
        }
    }

    /// ds, the gradient at the probabilities p of one row with Σ p * ds = `total`, becomes that at its scores. Hidden keys have
    /// p = 0.
    pub fn softmax_backward(p: &[f32], total: f32, ds: &mut [f32]) {
        for (p, ds) in p.iter().zip(ds) {
            *ds = p * (*ds - total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    fn loss(x: &[f64], shape: HeadShape, scores: Scores, tokens: usize, sequences: &[Range<usize>], d: &[f32]) -> f64 {
        let (wide, narrow, dim) = (shape.queries(), shape.keys(), shape.dim);
        let (q, rest) = x.split_at(tokens * wide);
        let (k, v) = rest.split_at(tokens * narrow);
        let mut loss = 0.0;
        for rows in sequences {
            for (row, head) in rows.clone().flat_map(|row| (0..shape.heads).map(move |head| (row, head))) {
                let kv = head / (shape.heads / shape.kv_heads) * dim;
                let first = scores.window.map_or(rows.start, |window| rows.start.max((row + 1).saturating_sub(window)));
                let weights: Vec<f64> = (first..=row)
                    .map(|key| {
                        let dot: f64 =
                            (0..dim).map(|i| q[row * wide + head * dim + i] * k[key * narrow + kv + i]).sum();
                        let score = dot * scores.scale as f64;
                        scores.soft_cap.map_or(score, |cap| cap as f64 * (score / cap as f64).tanh()).exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for (weight, key) in weights.iter().zip(first..) {
                    for i in 0..dim {
                        loss += weight / sum * v[key * narrow + kv + i] * d[row * wide + head * dim + i] as f64;
                    }
                }
            }
        }
        loss
    }

    #[test]
    fn agrees_with_differences_in_f64() {
        let plain = Scores { scale: 0.5, soft_cap: None, window: None };
        let short = (HeadShape { heads: 2, kv_heads: 1, dim: 4 }, vec![0..5, 5..6, 6..9], 9);
        let long = (HeadShape { heads: 2, kv_heads: 2, dim: 2 }, std::iter::once(0..70).collect(), 70);
        for ((shape, sequences, tokens), scores) in [
            (short.clone(), plain),
            (long.clone(), plain),
            (short.clone(), Scores { window: Some(1), ..plain }),
            (short.clone(), Scores { window: Some(3), ..plain }),
            (long.clone(), Scores { window: Some(4), ..plain }),
            (long.clone(), Scores { window: Some(66), ..plain }),
            (short, Scores { scale: 2.0, soft_cap: Some(1.5), ..plain }),
            (long, Scores { scale: 2.0, soft_cap: Some(1.5), window: Some(5) }),
        ] {
            let lengths = [shape.queries(), shape.keys(), shape.keys()].map(|width| tokens * width);
            let x = values(lengths.iter().sum(), 1);
            let (q, rest) = x.split_at(lengths[0]);
            let (k, v) = rest.split_at(lengths[1]);
            let d = values(lengths[0], 2);
            let found = attention_backward(q, k, v, shape, &sequences, scores, &d).concat();
            let expected = derivative(&x, |x| loss(x, shape, scores, tokens, &sequences, &d));
            let error = worst_relative(&found, &expected, 1.0);
            assert!(error < 3e-6, "{shape:?} {scores:?}: {error:e}");
        }
    }
}
