//! Sums over resampled examples as matrix products: [resamples, examples] x [examples, columns].

use rayon::prelude::*;

use crate::linear_algebra::products;

/// Rows of weights that are multiplied at a time; the same for any number of threads.
const ROWS: usize = 250;

/// Numbers of weights that are made at a time, where that is more than a few rows: 64 MB.
const WEIGHTS: usize = 8 << 20;

/// Rows of weights of so many examples that are made at a time.
pub fn at_once(examples: usize) -> usize {
    let rows = WEIGHTS / examples.max(1);
    if rows >= ROWS { rows - rows % ROWS } else { rows.max(8) }
}

/// Sums of columns under rows of weights. `weights` is row-major [rows, examples], `columns` row-major [columns, examples];
/// what comes back is row-major [rows, columns].
pub fn weighted_sums(weights: &[f64], columns: &[f64], examples: usize) -> Vec<f64> {
    if examples == 0 || columns.is_empty() {
        return Vec::new();
    }
    let parts: Vec<Vec<f64>> =
        weights.par_chunks(ROWS * examples).map(|rows| products(rows, columns, examples)).collect();
    parts.concat()
}

/// The same with weights of 1 and -1.
pub fn signed_sums(signs: &[i8], columns: &[f64], examples: usize) -> Vec<f64> {
    if examples == 0 || columns.is_empty() {
        return Vec::new();
    }
    let of_rows = |rows: &[i8]| {
        let weights: Vec<f64> = rows.iter().map(|sign| f64::from(*sign)).collect();
        products(&weights, columns, examples)
    };
    let parts: Vec<Vec<f64>> = signs.par_chunks(ROWS * examples).map(of_rows).collect();
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_of_weights_gives_the_sums_of_all_columns() {
        let weights: Vec<f64> = (0..600).flat_map(|row| [1.0, row as f64]).collect();
        let sums = weighted_sums(&weights, &[1.0, 2.0, 10.0, 0.5, 0.0, 1.0], 2);
        assert_eq!(sums.len(), 600 * 3);
        assert_eq!(sums[3 * 599..], [1.0 + 2.0 * 599.0, 10.0 + 0.5 * 599.0, 599.0]);
        let signs: Vec<i8> = (0..1200).map(|i| if i % 7 < 3 { -1 } else { 1 }).collect();
        let weights: Vec<f64> = signs.iter().map(|sign| f64::from(*sign)).collect();
        assert_eq!(signed_sums(&signs, &[1.0, 0.3], 2), weighted_sums(&weights, &[1.0, 0.3], 2));
    }
}
