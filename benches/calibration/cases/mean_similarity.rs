//! The cosine of two groups' means.

use anyhow::Result;
use strata_stages::statistics::random::Random;

use super::states::{give, of_states, times, visible};
use super::{Counts, Measure, Seen, Size, sections};
use crate::bench::Bench;
use crate::population::Population;

pub fn means_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    means(size, seed, 0.0, None)
}

pub fn means_orthogonal(size: Size, seed: u64) -> Result<Vec<Seen>> {
    means(size, seed, 1.0, None)
}

pub fn means_opposed(size: Size, seed: u64) -> Result<Vec<Seen>> {
    means(size, seed, 1.0, Some(-0.5))
}

/// Two datasets whose means have this length, in units of what is visible, and this cosine; without one, 0.
pub fn means(size: Size, seed: u64, length: f64, wanted: Option<f64>) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 85);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base"], &["a", "b"], sections(of_states("datasets")))?;
    let (first, other) = (population.axis(&mut random), population.axis(&mut random));
    let along: f64 = first.iter().zip(&other).map(|(a, b)| a * b).sum();
    let mut orthogonal: Vec<f64> = other.iter().zip(&first).map(|(b, a)| b - along * a).collect();
    let norm = orthogonal.iter().map(|value| value * value).sum::<f64>().sqrt();
    orthogonal.iter_mut().for_each(|value| *value /= norm);
    let truth = wanted.unwrap_or(0.0);
    let second: Vec<f64> =
        first.iter().zip(&orthogonal).map(|(a, b)| truth * a + (1.0 - truth * truth).sqrt() * b).collect();
    let unit = 2.0 * length * visible(&population, size);
    for (dataset, axis) in [("a", &first), ("b", &second)] {
        give(&mut bench, &population, dataset, size.n, &[("base", times(axis, unit))], &mut random, seed)?;
    }
    let rows = bench.table("mean_similarity", &[])?;
    let mut counts = Counts::default();
    let Some(row) = rows.0.first() else { return Ok(counts.0) };
    let measure = if wanted.is_none() { Measure::Rejects } else { Measure::Power };
    counts.small(measure, "", row.number("p_value"));
    if length > 0.0 {
        counts.covers("", row.number("ci_low"), row.number("ci_high"), truth);
        for column in ["cosine", "plain"] {
            counts.add(Measure::Bias, column, row.number(column) - truth);
        }
    }
    Ok(counts.0)
}
