//! Separation and departure: three models of one distribution, or shifted.

use anyhow::Result;
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::states::{give, times, visible};
use super::{Counts, Measure, Seen, Size, sections};
use crate::bench::{Bench, Rows};
use crate::population::Population;

pub fn separation_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    separation(size, seed, 0.0, 0.0)
}

pub fn separation_target(size: Size, seed: u64) -> Result<Vec<Seen>> {
    separation(size, seed, 1.0, 0.0)
}

pub fn separation_both(size: Size, seed: u64) -> Result<Vec<Seen>> {
    separation(size, seed, 1.0, 0.5)
}

/// `target` and `third` in units of [`visible`].
pub fn separation(size: Size, seed: u64, target: f64, third: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 77);
    let population = Population::new(size.width);
    let axis = population.axis(&mut random);
    let unit = visible(&population, size);
    let shifts = [0.0, target * unit, third * unit];
    let models = ["base", "instruct", "third"];
    let mut bench = Bench::new(&models, &["a"], sections(json!({})))?;
    let given: Vec<(&str, Vec<f64>)> = models.iter().copied().zip(shifts.map(|shift| times(&axis, shift))).collect();
    give(&mut bench, &population, "a", size.n, &given, &mut random, seed)?;
    let mut counts = Counts::default();
    for kind in ["mean_difference", "svd"] {
        let chosen = [("kind", kind), ("component", "1")];
        let directions = bench.table("directions", &[])?.keep(&chosen);
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let what = format!("{kind}, {} and {}", models[a], models[b]);
            let pair = [("model_a", models[a]), ("model_b", models[b])];
            let rows = bench.table("separation", &pair)?.keep(&chosen);
            let null = shifts[a] == shifts[b];
            let Some(first) = rows.0.first() else { continue };
            let measure = if null { Measure::Rejects } else { Measure::Power };
            counts.small(measure, &what, first.number("p_value"));
            if null {
                counts.small(Measure::AnyLayer, &format!("{what}, p_holm"), rows.least("p_holm"));
                counts.small(Measure::AnyLayer, &format!("{what}, p_max"), rows.least("p_max"));
                let departs = bench.table("departure", &pair)?.keep(&chosen);
                if let Some(row) = departs.0.first() {
                    counts.share(Measure::AnyLayer, &format!("{what}, departure"), !row.number("layer").is_nan());
                }
            }
            // The true score along the directions that were fitted, an equal share of the examples on each.
            let layer = directions.keep(&[("layer", "0")]);
            let crossed = Rows(layer.0.iter().filter(|row| row.number("fold") > 0.0).cloned().collect());
            let fitted = if crossed.0.is_empty() { layer } else { crossed };
            let scores = fitted.0.iter().map(|row| {
                let u = row.vector("vector");
                let along: f64 = u.iter().zip(&axis).map(|(u, axis)| f64::from(*u) * axis).sum();
                (along * (shifts[b] - shifts[a]), 2.0 * population.along(u))
            });
            let (shift, spread) = scores.fold((0.0, 0.0), |sum, (shift, spread)| (sum.0 + shift, sum.1 + spread));
            counts.covers(&format!("{what}, score"), first.number("ci_low"), first.number("ci_high"), shift / spread);
            let difference = shift / fitted.0.len() as f64;
            counts.add(Measure::Bias, &format!("{what}, difference"), first.number("difference") - difference);
        }
    }
    Ok(counts.0)
}
