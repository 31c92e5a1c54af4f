//! Quadratic forms of many vectors at once.

use super::products::{dot, products};

/// w M wᵀ for each row w of the row-major `weights` [., n], of a symmetric M [n, n].
pub fn quadratic_forms(weights: &[f64], matrix: &[f64], n: usize) -> Vec<f64> {
    let images = products(weights, matrix, n);
    weights.chunks_exact(n).zip(images.chunks_exact(n)).map(|(weights, image)| dot(weights, image)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_known_matrix() {
        assert_eq!(quadratic_forms(&[1.0, 0.0, 1.0, 1.0, 2.0, -1.0], &[2.0, 1.0, 1.0, 3.0], 2), [2.0, 7.0, 7.0]);
    }
}
