//! Layer normalisation (Ba et al. 2016): (x - mean) / sqrt(variance + eps) * weight + bias.

use rayon::prelude::*;

use super::{LANES, vectorized};

/// out [rows, width] = each row of `x` less its mean, over its standard deviation, times `weight` [width], plus `bias`.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "layer_norm: output length");
    assert!(bias.is_none_or(|bias| bias.len() == weight.len()), "layer_norm: bias length");
    let width = weight.len();
    out.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(16).for_each(|(out, x)| {
        normalize_row(x, weight, eps, out);
        if let Some(bias) = bias {
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    });
}

vectorized! {
    /// One row, without the bias.
    pub fn normalize_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let (mean, scale) = mean_and_scale(x, eps);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = weight * ((x - mean) * scale);
        }
    }
}

/// A row's mean and 1 / sqrt(variance + eps).
#[inline(always)]
pub fn mean_and_scale(x: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum(x, |x| x) / x.len() as f32;
    (mean, 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32 + eps).sqrt())
}

/// Over 16 lanes, so that the order of the sum is the same for every vector width.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += term(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| term(*x)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agrees_with_f64() {
        for (rows, width) in [(1, 3), (5, 64), (40, 896), (2, 3585)] {
            let (x, weight, bias) = (values(rows * width, 1), values(width, 2), values(width, 3));
            let expected = reference(rows, width, |r, i| {
                let row = &x[r * width..(r + 1) * width];
                let mean = row.iter().map(|x| *x as f64).sum::<f64>() / width as f64;
                let square = row.iter().map(|x| (*x as f64 - mean).powi(2)).sum::<f64>() / width as f64;
                (row[i] as f64 - mean) / (square + 1e-6).sqrt() * weight[i] as f64 + bias[i] as f64
            });
            let mut found = vec![f32::NAN; x.len()];
            layer_norm(&x, &weight, Some(&bias), 1e-6, &mut found);
            let error = worst_relative(&found, &expected, 1.0);
            assert!(error < 1e-6, "{rows}x{width}: {error:e}");
        }
    }
}
