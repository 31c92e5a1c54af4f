//! Inner products of row-major vectors.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean length.
pub fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

/// Divides a vector by its length, which is returned; a zero vector stays as it is.
pub fn scale_to_unit(vector: &mut [f64]) -> f64 {
    let length = norm(vector);
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    length
}

/// All inner products [rows of a, rows of b] of the row-major `a` [., width] and `b` [., width].
pub fn products(a: &[f64], b: &[f64], width: usize) -> Vec<f64> {
    let (rows, columns) = (a.len() / width, b.len() / width);
    let mut out = vec![0.0; rows * columns];
    let a = MatRef::from_row_major_slice(a, rows, width);
    let b = MatRef::from_row_major_slice(b, columns, width);
    let target = MatMut::from_row_major_slice_mut(&mut out, rows, columns);
    matmul(target, Accum::Replace, a, b.transpose(), 1.0, Par::Seq);
    out
}

/// Weighted sums of rows, [rows of weights, width]: the row-major `weights` [., n] times the row-major `rows` [n, width].
pub fn combinations(weights: &[f64], rows: &[f64], width: usize) -> Vec<f64> {
    let n = rows.len() / width;
    let count = weights.len() / n.max(1);
    let mut out = vec![0.0; count * width];
    let weights = MatRef::from_row_major_slice(weights, count, n);
    let rows = MatRef::from_row_major_slice(rows, n, width);
    matmul(MatMut::from_row_major_slice_mut(&mut out, count, width), Accum::Replace, weights, rows, 1.0, Par::Seq);
    out
}

/// The Gram matrix [n, n] of n row-major vectors.
pub fn gram(vectors: &[f64], width: usize) -> Vec<f64> {
    products(vectors, vectors, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_the_inner_products_of_rows() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, -1.0];
        assert_eq!(products(&a, &b, 3), [-2.0, -2.0]);
        assert_eq!(combinations(&[1.0, 0.0, 2.0, -1.0], &a, 3), [1.0, 2.0, 3.0, -2.0, -1.0, 0.0]);
        assert_eq!(gram(&a, 3), [14.0, 32.0, 32.0, 77.0]);
    }

    #[test]
    fn a_zero_vector_has_no_direction() {
        let mut vectors = ([0.0, 0.0], [3.0, 4.0]);
        assert_eq!(scale_to_unit(&mut vectors.0), 0.0);
        assert_eq!(scale_to_unit(&mut vectors.1), 5.0);
        assert_eq!(vectors, ([0.0, 0.0], [0.6, 0.8]));
    }
}
