//! Groups of a comparison: similarity_summary and permanova.

use anyhow::Result;
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::states::{give, of_states, times, visible, zero};
use super::token_losses::{Losses, losses};
use super::{Counts, Measure, Seen, Size, sections};
use crate::bench::{Bench, Rows};
use crate::population::{Population, identities};

pub fn groups_alike(size: Size, seed: u64) -> Result<Vec<Seen>> {
    groups(size, seed, 0.0)
}

pub fn groups_apart(size: Size, seed: u64) -> Result<Vec<Seen>> {
    groups(size, seed, 1.0)
}

/// Datasets a and b, `apart` in units of [`visible`], and a third far from both.
pub fn groups(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 80);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base"], &["a", "b", "c"], sections(of_states("datasets")))?;
    let unit = 2.0 * visible(&population, size);
    for (dataset, shift) in [("a", 0.0), ("b", apart * unit), ("c", 3.0 * unit)] {
        let axis = population.axis(&mut random);
        give(&mut bench, &population, dataset, size.n, &[("base", times(&axis, shift))], &mut random, seed)?;
    }
    let mut counts = Counts::default();
    let rows = bench.table("similarity_summary", &[("dataset_a", "a"), ("dataset_b", "b")])?;
    let measure = if apart == 0.0 { Measure::Rejects } else { Measure::Power };
    pairs(&mut counts, measure, &rows);
    if apart == 0.0 && size.width > 0 {
        // The mean cosine of two independent examples of like groups without a mean is 0.
        let raw = rows.keep(&[("layer", "0"), ("centred", "false")]);
        if let Some(row) = raw.0.first() {
            counts.covers("raw mean cosine between", row.number("ci_low"), row.number("ci_high"), 0.0);
        }
        let within = bench.table("similarity_summary", &[("dataset_a", "a"), ("dataset_b", "a")])?;
        if let Some(row) = within.keep(&[("layer", "0"), ("centred", "false")]).0.first() {
            counts.covers("raw mean cosine within", row.number("ci_low"), row.number("ci_high"), 0.0);
        }
    }
    Ok(counts.0)
}

pub fn pairs(counts: &mut Counts, measure: Measure, rows: &Rows) {
    for centred in ["false", "true"] {
        let what = if centred == "true" { "centred" } else { "raw" };
        let rows = rows.keep(&[("centred", centred)]);
        let Some(first) = rows.0.first() else { continue };
        counts.small(measure, what, first.number("p_value"));
        counts.small(measure, &format!("{what}, within"), first.number("within_p_value"));
        if measure == Measure::Rejects {
            counts.small(Measure::AnyLayer, &format!("{what}, p_max"), rows.least("p_max"));
        }
    }
}

pub fn groups_paired(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 81);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base", "third"], &["a"], sections(of_states("models")))?;
    give(&mut bench, &population, "a", size.n, &[("base", zero(size)), ("third", zero(size))], &mut random, seed)?;
    let rows = bench.table("similarity_summary", &[("model_a", "base"), ("model_b", "third")])?;
    let mut counts = Counts::default();
    pairs(&mut counts, Measure::Rejects, &rows);
    Ok(counts.0)
}

pub fn permanova_alike(size: Size, seed: u64) -> Result<Vec<Seen>> {
    three_groups(size, seed, 0.0)
}

pub fn permanova_apart(size: Size, seed: u64) -> Result<Vec<Seen>> {
    three_groups(size, seed, 1.0)
}

/// Datasets a and b, and c `apart` from them in units of [`visible`].
pub fn three_groups(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 82);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base"], &["a", "b", "c"], sections(of_states("datasets")))?;
    let shift = times(&population.axis(&mut Random::new(seed, 84)), apart * visible(&population, size));
    for (dataset, shift) in [("a", zero(size)), ("b", zero(size)), ("c", shift)] {
        give(&mut bench, &population, dataset, size.n, &[("base", shift)], &mut random, seed)?;
    }
    permanova(&mut bench, if apart == 0.0 { Measure::Rejects } else { Measure::Power })
}

pub fn permanova_paired(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 83);
    let population = Population::new(size.width);
    let models = ["base", "instruct", "third"];
    let mut bench = Bench::new(&models, &["a"], sections(of_states("models")))?;
    let given: Vec<(&str, Vec<f64>)> = models.iter().map(|model| (*model, zero(size))).collect();
    give(&mut bench, &population, "a", size.n, &given, &mut random, seed)?;
    permanova(&mut bench, Measure::Rejects)
}

pub fn permanova(bench: &mut Bench, measure: Measure) -> Result<Vec<Seen>> {
    let mut counts = Counts::default();
    let rows = bench.table("permanova", &[])?;
    if let Some(first) = rows.0.first() {
        counts.small(measure, "", first.number("p_value"));
        if measure == Measure::Rejects {
            counts.small(Measure::AnyLayer, "p_max", rows.least("p_max"));
        }
    }
    Ok(counts.0)
}

pub fn short_answers(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 84);
    let mut bench = Bench::new(&["base"], &["a", "b"], sections(json!({ "similarity": { "of": ["loss"] } })))?;
    for (number, (dataset, least, most)) in [("a", 60, 80), ("b", 14, 40)].into_iter().enumerate() {
        let names = identities(size.n, seed, 50 + number as u64);
        let of = names.iter().map(|_| losses(least + random.below(most - least), &mut random)).collect();
        Losses { of }.give(&mut bench, "base", dataset, &names)?;
    }
    let mut counts = Counts::default();
    let rows = bench.table("similarity_summary", &[("dataset_a", "a"), ("dataset_b", "b")])?;
    pairs(&mut counts, Measure::Rejects, &rows);
    Ok(counts.0)
}
