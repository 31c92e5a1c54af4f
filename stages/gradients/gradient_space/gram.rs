//! Inner products of gradients that are given as factors, exactly, without all of the gradients at once.
//!
//! ⟨G_i, G_j⟩ = Σ_{s,t} (d_s · d_t)(x_s · x_t) needs no gradient at all, but for examples of T tokens it costs T² (out +
//! inputs) where the product of two gradients costs out × inputs: a hundred times as much for T = 500. So the gradients are made
//! a few rows at a time, for all examples, and the products of these rows are summed.

use gemmkit::{MatMut, MatRef, Parallelism, gemm};
use rayon::prelude::*;

/// One example's gradient [out, inputs].
#[derive(Debug, Clone, Copy)]
pub enum Gradient<'a> {
    /// Row-major.
    Whole(&'a [f32]),
    /// The sum over tokens of d xᵀ, of x [tokens, inputs] and d [tokens, out].
    Factors { x: &'a [f32], d: &'a [f32] },
}

/// Values of the gradients that are made at once: 256 MiB.
pub const SLICE: usize = 1 << 26;

/// Examples whose products with all others a thread computes at a time.
const TILE: usize = 64;

/// Columns summed in f32 before their sum goes into f64.
const COLUMNS: usize = 4096;

/// The Gram matrix [n, n] of n gradients [out, inputs]. `step` hears how many of the `out` rows are done and
/// answers whether to go on; `None` where it said no.
pub fn gram(
    gradients: &[Gradient],
    inputs: usize,
    out: usize,
    mut step: impl FnMut(usize) -> bool,
) -> Option<Vec<f64>> {
    let n = gradients.len();
    let mut sums = vec![0f64; n * n];
    let most = (SLICE / (n * inputs).max(1)).clamp(1, out.max(1));
    let mut slice = vec![0f32; n * most * inputs];
    for first in (0..out).step_by(most) {
        if !step(first) {
            return None;
        }
        let count = most.min(out - first);
        let slice = &mut slice[..n * count * inputs];
        slice.par_chunks_mut(count * inputs).zip(gradients).for_each(|(rows, gradient)| {
            make_rows(*gradient, inputs, out, first, rows);
        });
        add_products(slice, n, count * inputs, &mut sums);
    }
    for i in 0..n {
        for j in 0..i {
            sums[i * n + j] = sums[j * n + i];
        }
    }
    Some(sums)
}

/// Rows of a gradient from row `first` on, as many as there is room for.
fn make_rows(gradient: Gradient, inputs: usize, out: usize, first: usize, rows: &mut [f32]) {
    match gradient {
        Gradient::Whole(values) => {
            let start = first * inputs;
            rows.copy_from_slice(&values[start..start + rows.len()]);
        }
        Gradient::Factors { x, d } => {
            let (tokens, count) = (x.len() / inputs, rows.len() / inputs);
            gemm(
                1.0,
                MatRef::new(&d[first..], count, tokens, 1, out as isize),
                MatRef::from_row_major(x, tokens, inputs),
                0.0,
                MatMut::from_row_major(rows, count, inputs),
                Parallelism::Serial,
            );
        }
    }
}

/// sums [n, n] += values valuesᵀ of the row-major values [n, width], on and right of the diagonal's tiles.
fn add_products(values: &[f32], n: usize, width: usize, sums: &mut [f64]) {
    sums.par_chunks_mut(TILE * n).enumerate().for_each(|(tile, sums)| {
        let first = tile * TILE;
        let (rows, columns) = (sums.len() / n, n - first);
        let mut products = vec![0f32; rows * columns];
        for start in (0..width).step_by(COLUMNS) {
            let count = COLUMNS.min(width - start);
            let values = &values[first * width + start..];
            gemm(
                1.0,
                MatRef::new(values, rows, count, width as isize, 1),
                MatRef::new(values, count, columns, 1, width as isize),
                0.0,
                MatMut::from_row_major(&mut products, rows, columns),
                Parallelism::Serial,
            );
            for (sums, products) in sums.chunks_exact_mut(n).zip(products.chunks_exact(columns)) {
                sums[first..].iter_mut().zip(products).for_each(|(sum, product)| *sum += *product as f64);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::values;

    #[test]
    fn factors_and_whole_gradients_have_the_products_of_their_sums() {
        let (inputs, out, n) = (70, 90, 150);
        let tokens = |i: usize| 1 + i % 7;
        let factors: Vec<(Vec<f32>, Vec<f32>)> =
            (0..n).map(|i| (values(tokens(i) * inputs, i as u64), values(tokens(i) * out, 900 + i as u64))).collect();
        let whole: Vec<Vec<f64>> = factors
            .iter()
            .enumerate()
            .map(|(i, (x, d))| {
                let at = |o: usize, k: usize| -> f64 {
                    (0..tokens(i)).map(|t| d[t * out + o] as f64 * x[t * inputs + k] as f64).sum()
                };
                (0..out).flat_map(|o| (0..inputs).map(move |k| (o, k))).map(|(o, k)| at(o, k)).collect()
            })
            .collect();
        let narrow: Vec<Vec<f32>> = whole.iter().map(|g| g.iter().map(|g| *g as f32).collect()).collect();
        let gradients: Vec<Gradient> = (0..n)
            .map(|i| match i % 3 {
                0 => Gradient::Whole(&narrow[i]),
                _ => Gradient::Factors { x: &factors[i].0, d: &factors[i].1 },
            })
            .collect();
        let mut steps = Vec::new();
        let found = gram(&gradients, inputs, out, |done| {
            steps.push(done);
            true
        });
        let found = found.unwrap();
        assert_eq!(steps, [0]);
        let product = |i: usize, j: usize| whole[i].iter().zip(&whole[j]).map(|(a, b)| a * b).sum::<f64>();
        for i in 0..n {
            for j in [0, 1, 63, 64, 65, 149] {
                let scale = (product(i, i) * product(j, j)).sqrt();
                let error = (found[i * n + j] - product(i, j)).abs() / scale;
                assert!(error < 1e-6, "({i}, {j}): {error:e}");
            }
        }
        assert!(gram(&gradients, inputs, out, |_| false).is_none());
    }
}
