//! Eigenvalues of symmetric matrices.

use anyhow::{Result, bail};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};

use super::products::{gram, products};

/// Eigenvalues in descending order and their unit eigenvectors, one row each.
pub struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Vec<Vec<f64>>,
}

/// The `count` largest eigenvalues of a symmetric matrix [n, n].
///
/// # Errors
/// When the iteration does not converge, which finite numbers do not bring about.
pub fn symmetric_eigen(matrix: &[f64], n: usize, count: usize) -> Result<Eigen> {
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::<f64>::zeros(n, n);
    let params = Default::default();
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, params);
    let mut memory = MemBuffer::new(scratch);
    let solved = self_adjoint_evd(
        MatRef::from_row_major_slice(matrix, n, n),
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        params,
    );
    if let Err(error) = solved {
        bail!("the eigenvalues of a symmetric matrix of {n} rows did not converge: {error:?}");
    }
    let largest = (0..n).rev().take(count);
    Ok(Eigen {
        values: largest.clone().map(|i| values.column_vector()[i]).collect(),
        vectors: largest.map(|i| vectors.col(i).iter().copied().collect()).collect(),
    })
}

/// Cosines of the principal angles between the spans of two sets of orthonormal row-major vectors, in
/// descending order: the singular values of A B^T (Björck and Golub 1973).
pub fn principal_cosines(a: &[f64], b: &[f64], width: usize) -> Result<Vec<f64>> {
    let (rows, columns) = (a.len() / width, b.len() / width);
    // The Gram matrix of the shorter side has the squares as its eigenvalues.
    let cross = if rows <= columns { products(a, b, width) } else { products(b, a, width) };
    let (short, long) = (rows.min(columns), rows.max(columns));
    let squares = symmetric_eigen(&gram(&cross, long), short, short)?.values;
    Ok(squares.into_iter().map(|square| square.clamp(0.0, 1.0).sqrt()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        let eigen = symmetric_eigen(&[2.0, 1.0, 1.0, 2.0], 2, 2).unwrap();
        assert!((eigen.values[0] - 3.0).abs() < 1e-14 && (eigen.values[1] - 1.0).abs() < 1e-14);
        assert!((eigen.vectors[0][0] - eigen.vectors[0][1]).abs() < 1e-14);
        assert_eq!(symmetric_eigen(&[], 0, 3).unwrap().values.len(), 0);
    }

    #[test]
    fn principal_angles_of_planes() {
        let (sine, cosine) = 0.3f64.sin_cos();
        let plane = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let tilted = [1.0, 0.0, 0.0, 0.0, cosine, sine];
        let found = principal_cosines(&plane, &tilted, 3).unwrap();
        assert!((found[0] - 1.0).abs() < 1e-12 && (found[1] - cosine).abs() < 1e-12, "{found:?}");
        let line = principal_cosines(&tilted, &[0.0, 0.0, 1.0], 3).unwrap();
        assert!(line.len() == 1 && (line[0] - sine).abs() < 1e-12, "{line:?}");
    }
}
