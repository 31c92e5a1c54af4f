//! A seeded random projection of matrices that are given as sums of outer products.

use crate::contract::module::ModulePath;
use crate::model::ops::{Matrix, linear_new};
use crate::statistics::random::Random;

/// p_k(G) = l_kᵀ G r_k / √K for K pairs of random sign vectors l_k, r_k.
///
/// The entries of l_k r_kᵀ have mean 0 and covariance 1, so E\[p(G)·p(H)\] = ⟨G, H⟩ over the signs; the variance
/// falls as 1/K (Pham and Pagh 2013 for such products of signs). For G = Σ_t d_t x_tᵀ it is
/// Σ_t (l_k · d_t)(r_k · x_t) / √K, and G is never made.
pub struct Projection {
    size: usize,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Projection {
    /// For matrices [out, inputs] of this module; another module's signs are independent.
    pub fn new(size: usize, seed: u64, path: &ModulePath, out: usize, inputs: usize) -> Projection {
        let mut random = Random::new(seed, path.number as u64);
        let mut signs = |count| (0..count).map(|_| if random.coin() { 1.0 } else { -1.0 }).collect();
        Projection { size, left: signs(size * out), right: signs(size * inputs) }
    }

    /// Of each row's outer product, without the factor 1/√K: [tokens, size].
    fn of_rows(&self, x: &[f32], d: &[f32]) -> Vec<f32> {
        let of = |values: &[f32], signs: &[f32]| {
            linear_new(values, Matrix::of(signs, self.size, signs.len() / self.size), None)
        };
        let mut projected = of(d, &self.left);
        projected.iter_mut().zip(of(x, &self.right)).for_each(|(left, right)| *left *= right);
        projected
    }

    /// The projection [size] of one example's gradient Σ_t d_t x_tᵀ, from x [tokens, inputs] and d [tokens, out].
    pub fn project(&self, x: &[f32], d: &[f32]) -> Vec<f32> {
        let mut sums = vec![0f64; self.size];
        for row in self.of_rows(x, d).chunks_exact(self.size) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value as f64);
        }
        let scale = 1.0 / (self.size as f64).sqrt();
        sums.into_iter().map(|sum| (sum * scale) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::family::qwen2;
    use crate::model::ops::test_values::values;

    fn path(ordinal: usize) -> ModulePath {
        qwen2::modules(4).path(3, ordinal)
    }

    /// Over many seeds the mean of p(G)·p(H) meets ⟨G, H⟩ within four standard errors, at every size.
    #[test]
    fn inner_products_are_unbiased() {
        let (tokens, inputs, out) = (5, 12, 9);
        let of = |seed| (values(tokens * inputs, seed), values(tokens * out, seed + 100));
        let ((x, d), (y, e)) = (of(1), of(2));
        // H has a part along G, so that the product is not near 0.
        let y: Vec<f32> = y.iter().zip(&x).map(|(y, x)| 0.5 * y + x).collect();
        let e: Vec<f32> = e.iter().zip(&d).map(|(e, d)| 0.5 * e + d).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
        let exact = |x: &[f32], d: &[f32], y: &[f32], e: &[f32]| -> f64 {
            let pairs = (0..tokens).flat_map(|s| (0..tokens).map(move |t| (s, t)));
            let row = |values: &'_ [f32], t: usize, width: usize| values[t * width..(t + 1) * width].to_vec();
            pairs
                .map(|(s, t)| dot(&row(x, s, inputs), &row(y, t, inputs)) * dot(&row(d, s, out), &row(e, t, out)))
                .sum()
        };
        for size in [1, 16] {
            let draws: Vec<(f64, f64)> = (0..4000)
                .map(|seed| {
                    let projection = Projection::new(size, seed, &path(3), out, inputs);
                    let (p, q) = (projection.project(&x, &d), projection.project(&y, &e));
                    (dot(&p, &q), dot(&p, &p))
                })
                .collect();
            for (values, exact) in [
                (draws.iter().map(|draw| draw.0).collect::<Vec<_>>(), exact(&x, &d, &y, &e)),
                (draws.iter().map(|draw| draw.1).collect(), exact(&x, &d, &x, &d)),
            ] {
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
                let error = (variance / n).sqrt();
                assert!((mean - exact).abs() < 4.0 * error, "size {size}: {mean} ± {error}, exactly {exact}");
                assert!(error < 0.2 * exact, "the interval says something: {error} of {exact}");
            }
        }
    }

    #[test]
    fn a_token_alone_or_among_others_and_modules_apart() {
        let projection = Projection::new(8, 7, &path(3), 3, 4);
        let (x, d) = (values(4, 1), values(3, 2));
        let alone = projection.project(&x, &d);
        let with_nothing = projection.project(&[x.clone(), values(4, 3)].concat(), &[d.clone(), vec![0.0; 3]].concat());
        assert_eq!(alone, with_nothing);
        let other = Projection::new(8, 7, &path(0), 3, 4);
        assert_ne!(alone, other.project(&x, &d));
    }
}
