//! The reverse of root mean square normalisation. With s = 1 / sqrt(mean(x²) + eps) and g = d * weight:
//! dx = s g - x s³ mean(g x), dweight = Σ over rows of d x s.

use rayon::prelude::*;

use super::{LANES, vectorized};

/// dx [rows, width] += the gradient at the norm's input `x`, from `d` at its output.
pub fn rms_norm_backward_add(x: &[f32], weight: &[f32], eps: f32, d: &[f32], dx: &mut [f32]) {
    assert_eq!((x.len(), d.len()), (dx.len(), dx.len()), "rms_norm_backward_add: lengths");
    let width = weight.len();
    let rows = dx.par_chunks_mut(width).zip(x.par_chunks(width)).zip(d.par_chunks(width)).with_min_len(16);
    rows.for_each(|((dx, x), d)| row_backward(x, weight, eps, d, dx));
}

/// dweight [width] += the sum over rows, in their order.
pub fn rms_norm_weight_gradient_add(x: &[f32], eps: f32, d: &[f32], dweight: &mut [f32]) {
    let width = dweight.len();
    for (x, d) in x.chunks_exact(width).zip(d.chunks_exact(width)) {
        weight_row(x, eps, d, dweight);
    }
}

vectorized! {
    avx512:
    /// One row.
    pub fn row_backward(x: &[f32], weight: &[f32], eps: f32, d: &[f32], dx: &mut [f32]) {
        let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
        let (chunks, d_chunks, w_chunks) = (x.as_chunks::<LANES>(), d.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
        let mut lanes = [0f32; LANES];
        for ((x, d), w) in chunks.0.iter().zip(d_chunks.0).zip(w_chunks.0) {
            for i in 0..LANES {
                lanes[i] += x[i] * d[i] * w[i];
            }
        }
        let rest = chunks.1.iter().zip(d_chunks.1).zip(w_chunks.1).map(|((x, d), w)| x * d * w);
        let along = (lanes.iter().sum::<f32>() + rest.sum::<f32>()) / x.len() as f32 * scale * scale * scale;
        for (((dx, x), d), weight) in dx.iter_mut().zip(x).zip(d).zip(weight) {
            *dx += scale * (d * weight) - x * along;
        }
    }
}

vectorized! {
    avx512:
    /// One row's share of the weight's gradient.
    pub fn weight_row(x: &[f32], eps: f32, d: &[f32], dweight: &mut [f32]) {
        let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
        for ((dweight, x), d) in dweight.iter_mut().zip(x).zip(d) {
            *dweight += d * (x * scale);
        }
    }
}

/// Over 16 lanes, so that the order of the sum is the same for every vector width.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
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
                    let scale = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / width as f64 + 1e-6).sqrt();
                    (0..width).map(|i| x[i] * scale * weight[i] * d[i] as f64).sum::<f64>()
                };
                x.chunks(width).zip(d.chunks(width)).map(row_loss).sum::<f64>()
            };
            let wide: Vec<f64> = weight.iter().map(|w| *w as f64).collect();
            let mut dx = vec![0.0; x.len()];
            rms_norm_backward_add(&x, &weight, 1e-6, &d, &mut dx);
            assert!(worst_relative(&dx, &derivative(&x, |x| loss(x, &wide)), 1.0) < 2e-6);

            let wide: Vec<f64> = x.iter().map(|x| *x as f64).collect();
            let mut dweight = vec![0.0; width];
            rms_norm_weight_gradient_add(&x, 1e-6, &d, &mut dweight);
            assert!(worst_relative(&dweight, &derivative(&weight, |weight| loss(&wide, weight)), 1.0) < 2e-6);
        }
    }
}
