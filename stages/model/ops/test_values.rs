//! Numbers for the tests of the ops, and the comparison with an f64 reference.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Uniform in [-1, 1).
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A row-major [rows, columns] matrix from its entries.
pub fn reference(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let entry = &entry;
    (0..rows).flat_map(|row| (0..columns).map(move |column| entry(row, column))).collect()
}

/// The largest difference in units of `scale`.
pub fn worst_relative(found: &[f32], expected: &[f64], scale: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(f, e)| ((*f as f64) - e).abs() / scale).fold(0.0, |worst: f64, d| {
        // `max` would drop a NaN, which must fail the test instead.
        if d.is_nan() { f64::INFINITY } else { worst.max(d) }
    })
}

/// Central differences of `loss` with respect to each of `x`.
pub fn derivative(x: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|x| *x as f64).collect();
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + step;
            let above = loss(&x);
            x[i] = at - step;
            let below = loss(&x);
            x[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}
