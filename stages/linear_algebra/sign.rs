//! The sign of a vector of which only the line is determined.

use super::products::{dot, norm};

/// Fixes the sign of a unit vector: the mean difference has a non-negative projection on it, or, where that
/// is below 1e-6 of the mean's length, its entry of largest magnitude is positive.
pub fn orient(vector: &mut [f64], mean: &[f64]) {
    let along = dot(vector, mean);
    let sign = if along.abs() >= 1e-6 * norm(mean) && along != 0.0 { along } else { largest_entry(vector) };
    if sign < 0.0 {
        vector.iter_mut().for_each(|value| *value = -*value);
    }
}

/// The entry of largest magnitude, the first of equals.
pub fn largest_entry(vector: &[f64]) -> f64 {
    vector.iter().fold(0.0, |largest: f64, &value| if value.abs() > largest.abs() { value } else { largest })
}
