//! An adapter's part of a linear layer, s (x Aᵀ) Bᵀ, and its reverse. The sum with x Wᵀ is never a matrix of W's size.

use super::{Matrix, linear_add, linear_backward, linear_new};

/// A [rank, in] and B [out, rank] of a low-rank update.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    pub a: Matrix<'a>,
    pub b: Matrix<'a>,
    pub scale: f32,
}

impl LowRank<'_> {
    /// y [rows, out] += s (x Aᵀ) Bᵀ.
    ///
    /// # Panics
    /// When a slice's length does not fit the shapes; so do the others.
    pub fn add_forward(&self, x: &[f32], y: &mut [f32]) {
        let mut narrow = linear_new(x, self.a, None);
        narrow.iter_mut().for_each(|value| *value *= self.scale);
        linear_add(&narrow, self.b, None, y);
    }

    /// dx [rows, in] += s (d B) A.
    pub fn add_backward(&self, d: &[f32], dx: &mut [f32]) {
        let mut narrow = vec![0.0; d.len() / self.b.out * self.b.inputs];
        linear_backward(d, self.b, false, &mut narrow);
        narrow.iter_mut().for_each(|value| *value *= self.scale);
        linear_backward(&narrow, self.a, true, dx);
    }

    /// y [out] += s B A e, e the unit vector of one input: the update of an embedding's row.
    pub fn add_column(&self, input: usize, y: &mut [f32]) {
        let mut narrow = vec![0.0; self.a.out];
        for (rank, value) in narrow.iter_mut().enumerate() {
            self.a.values.widen(rank * self.a.inputs + input, std::slice::from_mut(value));
            *value *= self.scale;
        }
        linear_add(&narrow, self.b, None, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn forward_reverse_and_column_agree_with_f64() {
        let (rows, inputs, rank, out) = (5, 33, 3, 17);
        let (x, d) = (values(rows * inputs, 1), values(rows * out, 2));
        let (a, b) = (values(rank * inputs, 3), values(out * rank, 4));
        let update = LowRank { a: Matrix::of(&a, rank, inputs), b: Matrix::of(&b, out, rank), scale: 0.7 };
        // The update as a matrix of W's size.
        let entry = |o: usize, i: usize| -> f64 {
            0.7f32 as f64 * (0..rank).map(|r| b[o * rank + r] as f64 * a[r * inputs + i] as f64).sum::<f64>()
        };
        let mut y = vec![1.0; rows * out];
        update.add_forward(&x, &mut y);
        let expected =
            reference(rows, out, |r, o| 1.0 + (0..inputs).map(|i| x[r * inputs + i] as f64 * entry(o, i)).sum::<f64>());
        assert!(worst_relative(&y, &expected, 4.0) < 3e-6);
        let mut dx = vec![1.0; rows * inputs];
        update.add_backward(&d, &mut dx);
        let expected =
            reference(rows, inputs, |r, i| 1.0 + (0..out).map(|o| d[r * out + o] as f64 * entry(o, i)).sum::<f64>());
        assert!(worst_relative(&dx, &expected, 4.0) < 3e-6);
        let mut row = vec![1.0; out];
        update.add_column(7, &mut row);
        assert!(worst_relative(&row, &reference(1, out, |_, o| 1.0 + entry(o, 7)), 1.0) < 3e-6);
    }
}
