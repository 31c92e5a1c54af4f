//! Means of projections along a direction that is fixed.

use anyhow::Result;
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::states::{give, times, visible, zero};
use super::{Counts, Seen, Size, sections};
use crate::bench::Bench;
use crate::population::Population;

pub fn projection_mean(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 86);
    let population = Population::new(size.width);
    let mut bench = Bench::new(
        &["base", "instruct"],
        &["a", "b"],
        sections(
            json!({ "directions": { "datasets": ["a"], "kinds": ["mean_difference"] }, "projections": { "directions": ["a"] } }),
        ),
    )?;
    let axis = population.axis(&mut random);
    let shift = times(&axis, visible(&population, size));
    for dataset in ["a", "b"] {
        let given = [("base", zero(size)), ("instruct", shift.clone())];
        give(&mut bench, &population, dataset, size.n, &given, &mut random, seed)?;
    }
    let rows = bench.table("projection_summary", &[("dataset", "b"), ("model", "base")])?;
    let mut counts = Counts::default();
    if let Some(row) = rows.0.first() {
        counts.covers("", row.number("ci_low"), row.number("ci_high"), 0.0);
    }
    Ok(counts.0)
}
