//! The length of a gradient that is given as a sum of outer products.

use crate::model::ops::{Matrix, linear_new, weight_gradient_add};

/// ‖Σ_t d_t x_tᵀ‖² of one example's x [tokens, inputs] and d [tokens, out]. With few tokens it is
/// Σ_{s,t} (d_s · d_t)(x_s · x_t), and the gradient is never made; with many, making it is cheaper.
pub fn squared_norm(x: &[f32], d: &[f32], inputs: usize, out: usize) -> f64 {
    let tokens = x.len() / inputs;
    if tokens * (inputs + out) <= inputs * out {
        let of_x = linear_new(x, Matrix::of(x, tokens, inputs), None);
        let of_d = linear_new(d, Matrix::of(d, tokens, out), None);
        of_x.iter().zip(&of_d).map(|(x, d)| *x as f64 * *d as f64).sum::<f64>().max(0.0)
    } else {
        let mut gradient = vec![0.0; inputs * out];
        weight_gradient_add(x, d, out, inputs, &mut gradient);
        gradient.iter().map(|g| *g as f64 * *g as f64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::values;

    #[test]
    fn both_ways_are_the_length_of_the_sum_of_outer_products() {
        for tokens in [1, 9, 10, 11, 200] {
            let (inputs, out) = (24, 17);
            let (x, d) = (values(tokens * inputs, 1), values(tokens * out, 2));
            let mut expected = 0f64;
            for o in 0..out {
                for i in 0..inputs {
                    let g: f64 = (0..tokens).map(|t| d[t * out + o] as f64 * x[t * inputs + i] as f64).sum();
                    expected += g * g;
                }
            }
            let found = squared_norm(&x, &d, inputs, out);
            assert!((found - expected).abs() < 1e-6 * expected, "{tokens} tokens: {found} {expected}");
        }
    }
}
