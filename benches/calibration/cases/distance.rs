//! The distance of two datasets' means.

use anyhow::Result;
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::states::{give, times, visible};
use super::{Counts, Measure, Seen, Size, sections};
use crate::bench::Bench;
use crate::population::Population;

pub fn distance_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    distance(size, seed, 0.0)
}

pub fn distance_two(size: Size, seed: u64) -> Result<Vec<Seen>> {
    distance(size, seed, 1.0)
}

/// The means are a common vector, plus `apart` in units of [`visible`] times an axis for the second dataset.
pub fn distance(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 79);
    let population = Population::new(size.width);
    let (common, axis) = (population.axis(&mut random), population.axis(&mut random));
    let mean = times(&common, (size.width as f64).sqrt());
    let other: Vec<f64> = mean
        .iter()
        .zip(times(&axis, 2.0 * apart * visible(&population, size)))
        .map(|(mean, more)| mean + more)
        .collect();
    let truth = 1.0 - cosine(&mean, &other);
    let mut bench = Bench::new(&["base"], &["a", "b"], sections(json!({})))?;
    give(&mut bench, &population, "a", size.n, &[("base", mean)], &mut random, seed)?;
    give(&mut bench, &population, "b", size.n, &[("base", other)], &mut random, seed)?;
    let rows = bench.table("distance", &[])?;
    let mut counts = Counts::default();
    let Some(first) = rows.0.first() else { return Ok(counts.0) };
    let measure = if apart == 0.0 { Measure::Rejects } else { Measure::Power };
    counts.small(measure, "", first.number("p_value"));
    if apart == 0.0 {
        counts.small(Measure::AnyLayer, "p_max", rows.least("p_max"));
        counts.small(Measure::AnyLayer, "p_holm", rows.least("p_holm"));
    } else {
        counts.covers("", first.number("ci_low"), first.number("ci_high"), truth);
    }
    for column in ["cosine_distance", "plain_distance"] {
        counts.add(Measure::Bias, column, first.number(column) - truth);
    }
    Ok(counts.0)
}

pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
