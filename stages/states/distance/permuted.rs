//! The cosine distance of two groups' means when their labels are permuted. Every permutation moves the two means to
//! either side of the pooled one, by the sum of the first group's centred vectors. Its squared length comes from the
//! vectors, or from their inner products where these are fewer numbers.

use crate::linear_algebra::{centre, dot, products};
use crate::statistics::label_sums::{squared_sums, sums, within};
use crate::statistics::labels::Labels;
use crate::statistics::row_sums::Panels;

/// The vectors of two groups, centred on their common mean m.
pub struct Pooled {
    sizes: [f64; 2],
    /// |m|^2
    mean_square: f64,
    /// Each centred vector's inner product with m.
    along: Vec<f64>,
    form: Form,
    /// Whether the vectors differ by more than the rounding of f32.
    pub varies: bool,
}

/// What the squared length of a sum of centred vectors comes from.
enum Form {
    /// The vectors themselves, [n, width].
    Vectors(Panels),
    /// Their inner products [n, n].
    Products(Panels),
}

impl Pooled {
    /// Of `a` and `b`, row-major vectors of `width` numbers, with their inner products within a, within b and between.
    pub fn new(a: &[f64], b: &[f64], width: usize, [of_a, of_b, between]: [&[f64]; 3]) -> Pooled {
        let (n_a, n_b) = (a.len() / width, b.len() / width);
        let n = n_a + n_b;
        let mut pooled = vec![0.0; n * n];
        for (row, out) in pooled.chunks_exact_mut(n).enumerate() {
            if row < n_a {
                out[..n_a].copy_from_slice(&of_a[row * n_a..(row + 1) * n_a]);
                out[n_a..].copy_from_slice(&between[row * n_b..(row + 1) * n_b]);
            } else {
                out[..n_a].iter_mut().enumerate().for_each(|(i, out)| *out = between[i * n_b + row - n_a]);
                out[n_a..].copy_from_slice(&of_b[(row - n_a) * n_b..(row - n_a + 1) * n_b]);
            }
        }
        let with_mean: Vec<f64> = pooled.chunks_exact(n).map(|row| row.iter().sum::<f64>() / n as f64).collect();
        let mean_square = with_mean.iter().sum::<f64>() / n as f64;
        let scatter: f64 = (0..n).map(|i| pooled[i * n + i] - 2.0 * with_mean[i] + mean_square).sum();
        let squares: f64 = (0..n).map(|i| pooled[i * n + i]).sum();
        let form = match width < n {
            true => {
                let mut vectors = [a, b].concat();
                centre(&mut vectors, width);
                Form::Vectors(Panels::new(&vectors, width))
            }
            false => {
                for (row, own) in pooled.chunks_exact_mut(n).zip(&with_mean) {
                    row.iter_mut().zip(&with_mean).for_each(|(value, other)| *value -= own + other - mean_square);
                }
                Form::Products(Panels::new(&pooled, n))
            }
        };
        Pooled {
            sizes: [n_a as f64, n_b as f64],
            mean_square,
            along: with_mean.iter().map(|product| product - mean_square).collect(),
            form,
            varies: scatter > 1e-12 * squares,
        }
    }

    /// As [`Pooled::new`], without the inner products: of vectors that are more than their numbers.
    pub fn of_many(a: &[f64], b: &[f64], width: usize) -> Pooled {
        let mut vectors = [a, b].concat();
        let squares = dot(&vectors, &vectors);
        let mean = centre(&mut vectors, width);
        Pooled {
            sizes: [a, b].map(|group| (group.len() / width) as f64),
            mean_square: dot(&mean, &mean),
            along: products(&vectors, &mean, width),
            varies: dot(&vectors, &vectors) > 1e-12 * squares,
            form: Form::Vectors(Panels::new(&vectors, width)),
        }
    }

    /// The distances under each permutation of the labels 0 and 1. NaN where a mean is 0.
    pub fn distances(&self, labels: &Labels) -> Vec<f64> {
        let scale = 1.0 / self.sizes[0] + 1.0 / self.sizes[1];
        let squares = match &self.form {
            Form::Vectors(vectors) => squared_sums(vectors, labels, 0..labels.len(), 0..1),
            Form::Products(inner) => within(inner, labels, 0..labels.len(), 0..1),
        };
        let along = sums(&self.along, labels, 0..labels.len(), 0..1);
        let moved = along.iter().zip(&squares);
        moved.map(|(along, square)| self.distance(scale * along, scale * scale * square)).collect()
    }

    /// The distance of m + s d and m - t d, s and t being the shares of the second and the first group, from d . m and
    /// |d|^2. Where the angle is small, 1 - cosine comes from the sine, which keeps its digits.
    fn distance(&self, along: f64, square: f64) -> f64 {
        let total = self.sizes[0] + self.sizes[1];
        let (s, t) = (self.sizes[1] / total, self.sizes[0] / total);
        let first = self.mean_square + 2.0 * s * along + s * s * square;
        let second = self.mean_square - 2.0 * t * along + t * t * square;
        let lengths = first * second;
        if first <= 0.0 || second <= 0.0 {
            return f64::NAN;
        }
        let cosine = (self.mean_square + (s - t) * along - s * t * square) / lengths.sqrt();
        if cosine <= 0.0 {
            return 1.0 - cosine;
        }
        (self.mean_square * square - along * along).max(0.0) / lengths / (1.0 + cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear_algebra::{gram, norm};
    use crate::statistics::random::Random;

    #[test]
    fn permuted_distances_are_those_of_the_permuted_means() {
        // The same through the vectors, which are fewer numbers than their products at 12 examples, and through the products.
        for width in [5, 40] {
            let mut random = Random::new(3, width as u64);
            let vectors: Vec<f64> = (0..12 * width).map(|i| random.normal() + f64::from(i % width == 0)).collect();
            let (a, b) = vectors.split_at(5 * width);
            let (within_a, within_b, between) = (gram(a, width), gram(b, width), products(a, b, width));
            let pooled = Pooled::new(a, b, width, [&within_a, &within_b, &between]);
            let of_many = Pooled::of_many(a, b, width);
            assert!(pooled.varies && of_many.varies);
            let groups: Vec<u16> = (0..12).map(|row| u16::from(row >= 5)).collect();
            let names: Vec<String> = (0..12).map(|row| row.to_string()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let labels = Labels::permuted(&groups, &names, 5, 7, 0);
            let found = pooled.distances(&labels).into_iter().zip(of_many.distances(&labels));
            for (permutation, (found, of_many)) in found.enumerate() {
                assert!((found - of_many).abs() < 1e-12, "{found} and {of_many} at width {width}");
                let first = |row: usize| labels.rows(permutation, 0).contains(&(row as u32));
                let sum = |of: bool| {
                    let mut sum = vec![0.0; width];
                    for (_, vector) in vectors.chunks_exact(width).enumerate().filter(|(row, _)| first(*row) == of) {
                        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
                    }
                    sum
                };
                let (one, other) = (sum(true), sum(false));
                let expected = 1.0 - dot(&one, &other) / (norm(&one) * norm(&other));
                assert!((found - expected).abs() < 1e-12, "{found} for {expected} at width {width}");
            }
        }
    }

    #[test]
    fn vectors_that_are_equal_do_not_vary() {
        let vectors = [0.1, 1.0 / 3.0].repeat(6);
        let (a, b) = vectors.split_at(6);
        let (within_a, within_b, between) = (gram(a, 2), gram(b, 2), products(a, b, 2));
        assert!(!Pooled::new(a, b, 2, [&within_a, &within_b, &between]).varies);
        assert!(!Pooled::of_many(a, b, 2).varies);
    }
}
