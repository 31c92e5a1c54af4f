//! Directions of two datasets: unrelated, the same, or of differences that vary along axes.

use anyhow::Result;
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::states::{give, times, visible, zero};
use super::{Counts, Measure, Seen, Size, sections};
use crate::bench::Bench;
use crate::population::{Population, give_states, identities};

pub fn similarity_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Rejects, |_| [0.0, 0.0, 0.0])
}

pub fn similarity_one(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Rejects, |unit| [unit, 0.0, 0.0])
}

pub fn similarity_unrelated(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Rejects, |unit| [unit, unit, 0.0])
}

pub fn similarity_same(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Power, |unit| [0.0, 0.0, unit])
}

/// `shifts`: of the first dataset alone, of the second alone, of both.
pub fn direction_similarity(size: Size, seed: u64, measure: Measure, shifts: fn(f64) -> [f64; 3]) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 78);
    let population = Population::new(size.width);
    let [first, mut second, both] = [(); 3].map(|()| population.axis(&mut random));
    // Unrelated is orthogonal: two random axes of a small width are not quite.
    let along: f64 = first.iter().zip(&second).map(|(a, b)| a * b).sum();
    second.iter_mut().zip(&first).for_each(|(b, a)| *b -= along * a);
    let [only_first, only_second, common] = shifts(visible(&population, size));
    let sum = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f64>>();
    let mut bench = Bench::new(&["base", "instruct"], &["a", "b"], sections(json!({})))?;
    for (dataset, axis, shift) in [("a", &first, only_first), ("b", &second, only_second)] {
        let moved = sum(times(axis, shift), times(&both, common));
        give(
            &mut bench,
            &population,
            dataset,
            size.n,
            &[("base", zero(size)), ("instruct", moved)],
            &mut random,
            seed,
        )?;
    }
    let rows = bench.table("direction_similarity", &[])?;
    let mut counts = Counts::default();
    for kind in ["mean_difference", "svd"] {
        let cells = rows.keep(&[("kind", kind), ("layer", "0")]);
        let Some(first) = cells.keep(&[("component_a", "1"), ("component_b", "1")]).0.first().cloned() else {
            continue;
        };
        // Two datasets' differences vary along the same axes here, so their singular vectors are alike without a shift:
        // what is compared is not under a null hypothesis, and only shown.
        let measure = if kind == "svd" { Measure::Power } else { measure };
        let p = first.number("p_value");
        if p.is_nan() {
            counts.share(
                measure,
                &format!("{kind}, above null_high"),
                first.number("cosine").abs() > first.number("null_high"),
            );
        } else {
            counts.small(measure, kind, p);
        }
        counts.small(Measure::Power, &format!("{kind}, the largest"), cells.least("p_largest"));
    }
    Ok(counts.0)
}

/// The target moves each example by a normal amount along an axis that is its dataset's own.
pub fn similarity_varied(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 89);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base", "instruct"], &["a", "b"], sections(json!({})))?;
    let first = population.axis(&mut random);
    let mut second = population.axis(&mut random);
    let along: f64 = first.iter().zip(&second).map(|(a, b)| a * b).sum();
    second.iter_mut().zip(&first).for_each(|(b, a)| *b -= along * a);
    for (dataset, axis) in [("a", &first), ("b", &second)] {
        let names = identities(size.n, seed, u64::from(dataset.as_bytes()[0]));
        let examples = population.examples(size.n, &mut random);
        let base = population.states(&examples, &zero(size), &mut random);
        let mut target = population.states(&examples, &zero(size), &mut random);
        for row in target.chunks_exact_mut(size.width) {
            let amount = (size.width as f64).sqrt() * random.normal();
            row.iter_mut().zip(axis).for_each(|(value, axis)| *value += (amount * axis) as f32);
        }
        give_states(&mut bench, "base", dataset, &names, std::slice::from_ref(&base))?;
        give_states(&mut bench, "instruct", dataset, &names, std::slice::from_ref(&target))?;
    }
    let cells = bench.table("direction_similarity", &[])?.keep(&[("kind", "svd")]);
    let mut counts = Counts::default();
    if let Some(first) = cells.keep(&[("component_a", "1"), ("component_b", "1")]).0.first() {
        let p = first.number("p_value");
        let above = first.number("cosine").abs() > first.number("null_high");
        counts.share(Measure::AnyLayer, "svd", if p.is_nan() { above } else { p <= 0.05 });
    }
    Ok(counts.0)
}
