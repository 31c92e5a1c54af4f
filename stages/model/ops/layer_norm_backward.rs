//! The reverse of layer normalisation. With s = 1 / sqrt(variance + eps), n = (x - mean) s and g = d * weight:
//! dx = s (g - mean(g) - n mean(g n)), dweight = Σ over rows of d n.

use rayon::prelude::*;

use super::layer_norm::mean_and_scale;
use super::{LANES, vectorized};

/// dx [rows, width] += the gradient at the norm's input `x`, from `d` at its output.
pub fn layer_norm_backward_add(x: &[f32], weight: &[f32], eps: f32, d: &[f32], dx: &mut [f32]) {
    assert_eq!((x.len(), d.len()), (dx.len(), dx.len()), "layer_norm_backward_add: lengths");
    let width = weight.len();
    let rows = dx.par_chunks_mut(width).zip(x.par_chunks(width)).zip(d.par_chunks(width)).with_min_len(16);
    rows.for_each(|((dx, x), d)| layer_row_backward(x, weight, eps, d, dx));
}

/// dweight [width] += the sum over rows, in their order. The bias' gradient is [`super::bias_gradient_add`].
pub fn layer_norm_weight_gradient_add(x: &[f32], eps: f32, d: &[f32], dweight: &mut [f32]) {
    let width = dweight.len();
    for (x, d) in x.chunks_exact(width).zip(d.chunks_exact(width)) {
        layer_weight_row(x, eps, d, dweight);
    }
}

vectorized! {
    /// One row.
    pub fn layer_row_backward(x: &[f32], weight: &[f32], eps: f32, d: &[f32], dx: &mut [f32]) {
        let (mean, scale) = mean_and_scale(x, eps);
        let (chunks, d_chunks, w_chunks) = (x.as_chunks::<LANES>(), d.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
        let (mut sums, mut alongs) = ([0f32; LANES], [0f32; LANES]);
        for ((x, d), w) in chunks.0.iter().zip(d_chunks.0).zip(w_chunks.0) {
            for i in 0..LANES {
                let g = d[i] * w[i];
                sums[i] += g;
                alongs[i] += g * ((x[i] - mean) * scale);
            }
        }
        let (mut sum, mut along) = (sums.iter().sum::<f32>(), alongs.iter().sum::<f32>());
        for ((x, d), w) in chunks.1.iter().zip(d_chunks.1).zip(w_chunks.1) {
            sum += d * w;
            along += d * w * ((x - mean) * scale);
        }
        let (sum, along) = (sum / x.len() as f32, along / x.len() as f32);
        for (((dx, x), d), weight) in dx.iter_mut().zip(x).zip(d).zip(weight) {
            *dx += scale * (d * weight - sum - (x - mean) * scale * along);
        }
    }

    /// One row's share of the weight's gradient.
    pub fn layer_weight_row(x: &[f32], eps: f32, d: &[f32], dweight: &mut [f32]) {
        let (mean, scale) = mean_and_scale(x, eps);
        for ((dweight, x), d) in dweight.iter_mut().zip(x).zip(d) {
            *dweight += d * ((x - mean) * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    #[test]
    fn agrees_with_differences_in_f64() {
        for (rows, width) in [(1, 3), (4, 37)] {
            let (x, weight, d) = (values(rows * width, 1), values(width, 2), values(rows * width, 3));
            let loss = |x: &[f64], weight: &[f64]| {
                let row_loss = |(x, d): (&[f64], &[f32])| {
                    let mean = x.iter().sum::<f64>() / width as f64;
                    let scale = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64 + 1e-6).sqrt();
                    (0..width).map(|i| (x[i] - mean) * scale * weight[i] * d[i] as f64).sum::<f64>()
                };
                x.chunks(width).zip(d.chunks(width)).map(row_loss).sum::<f64>()
            };
            let wide: Vec<f64> = weight.iter().map(|w| *w as f64).collect();
            let mut dx = vec![0.0; x.len()];
            layer_norm_backward_add(&x, &weight, 1e-6, &d, &mut dx);
            assert!(worst_relative(&dx, &derivative(&x, |x| loss(x, &wide)), 1.0) < 5e-6);

            let wide: Vec<f64> = x.iter().map(|x| *x as f64).collect();
            let mut dweight = vec![0.0; width];
            layer_norm_weight_gradient_add(&x, 1e-6, &d, &mut dweight);
            assert!(worst_relative(&dweight, &derivative(&weight, |weight| loss(&wide, weight)), 1.0) < 2e-6);
        }
    }
}
