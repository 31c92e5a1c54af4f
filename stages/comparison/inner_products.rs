//! Inner products of the vectors of two groups.

use rayon::prelude::*;

use crate::linear_algebra::products;
use crate::states::state_table::States;

/// Rows of which a thread computes the products at a time.
const TILE: usize = 64;

/// Row-major [examples of a, examples of b].
pub fn inner_products(a: &States, b: &States) -> Vec<f64> {
    let width = a.width.max(1);
    let tiles: Vec<Vec<f64>> = a.values.par_chunks(TILE * width).map(|rows| products(rows, &b.values, width)).collect();
    tiles.concat()
}
