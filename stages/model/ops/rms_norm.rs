//! Root mean square normalisation (Zhang & Sennrich 2019): x / sqrt(mean(x²) + eps) * weight.

use rayon::prelude::*;

use super::{LANES, vectorized};

/// out [rows, width] = each row of `x` over its root mean square, times `weight` [width].
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "rms_norm: output length");
    let width = weight.len();
    out.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(16).for_each(|(out, x)| {
        normalize(x, weight, eps, out);
    });
}

/// [`rms_norm`] into new memory.
pub fn rms_norm_new(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    rms_norm(x, weight, eps, &mut out);
    out
}

vectorized! {
    avx512:
    /// One row.
    pub fn normalize(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let scale = 1.0 / (sum_of_squares(x) / x.len() as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = weight * (x * scale);
        }
    }
}

/// Over 16 lanes, so that the order of the sum is the same for every vector width.
#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agrees_with_f64() {
        for (rows, width) in [(1, 3), (5, 64), (40, 896), (2, 3585)] {
            let (x, weight) = (values(rows * width, 1), values(width, 2));
            let expected = reference(rows, width, |r, i| {
                let row = &x[r * width..(r + 1) * width];
                let square = row.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / width as f64;
                row[i] as f64 / (square + 1e-6).sqrt() * weight[i] as f64
            });
            let error = worst_relative(&rms_norm_new(&x, &weight, 1e-6), &expected, 1.0);
            assert!(error < 1e-6, "{rows}x{width}: {error:e}");
        }
    }
}
