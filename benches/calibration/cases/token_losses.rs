//! Losses of tokens: loss vectors, means, and differences of two models.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray, UInt32Array};
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::{Counts, Measure, Seen, Size, sections};
use crate::bench::Bench;
use crate::population::identities;

/// Token losses and where the assistant's turn begins, for loss vectors and summaries.
pub struct Losses {
    /// For each example the losses of its tokens.
    pub of: Vec<Vec<f64>>,
}

impl Losses {
    pub fn give(&self, bench: &mut Bench, model: &str, dataset: &str, names: &[String]) -> Result<()> {
        let tokens = |i: usize| std::iter::repeat_n(i, self.of[i].len());
        let rows: Vec<usize> = (0..names.len()).flat_map(tokens).collect();
        let losses: Vec<f32> = self.of.iter().flatten().map(|loss| *loss as f32).collect();
        let numbers: Vec<u32> = self.of.iter().flat_map(|losses| 1..=losses.len() as u32).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("example", Arc::new(StringArray::from_iter_values(rows.iter().map(|i| &names[*i])))),
            ("token", Arc::new(UInt32Array::from(numbers))),
            ("in_response", Arc::new(BooleanArray::from(vec![true; rows.len()]))),
            ("logprob", Arc::new(losses.iter().map(|loss| Some(-loss)).collect::<Float32Array>())),
            ("entropy", Arc::new(losses.iter().map(|loss| Some(0.5 * loss)).collect::<Float32Array>())),
        ];
        bench.give("token_losses", model, dataset, columns)?;
        let ones = vec![1; names.len()];
        let ends = self.of.iter().map(|losses| losses.len() as u32 + 1).collect::<Vec<_>>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("example", Arc::new(StringArray::from_iter_values(names))),
            ("turn_start", Arc::new(UInt32Array::from(ones.clone()))),
            ("response_start", Arc::new(UInt32Array::from(ones))),
            ("response_end", Arc::new(UInt32Array::from(ends))),
        ];
        bench.give("tokens", model, dataset, columns)
    }
}

/// An example's losses: log-normal, with a part that all its tokens share.
pub fn losses(tokens: usize, random: &mut Random) -> Vec<f64> {
    let shared = 0.5 * random.normal();
    (0..tokens).map(|_| (shared + 0.8 * random.normal()).exp()).collect()
}

pub fn loss_mean(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 87);
    let mut bench = Bench::new(&["base"], &["a"], sections(json!({})))?;
    let names = identities(size.n, seed, 60);
    let of = names.iter().map(|_| losses(20 + random.below(40), &mut random)).collect();
    Losses { of }.give(&mut bench, "base", "a", &names)?;
    let mut counts = Counts::default();
    if let Some(row) = bench.table("loss_summary", &[])?.keep(&[("measure", "logprob")]).0.first() {
        // The mean of a log-normal with variances 0.25 and 0.64 of its logarithm.
        let truth = -(0.5f64 * (0.25 + 0.64)).exp();
        counts.covers("mean log-probability", row.number("ci_low"), row.number("ci_high"), truth);
    }
    Ok(counts.0)
}

pub fn loss_alike(size: Size, seed: u64) -> Result<Vec<Seen>> {
    loss_difference(size, seed, 0.0)
}

pub fn loss_apart(size: Size, seed: u64) -> Result<Vec<Seen>> {
    loss_difference(size, seed, 0.1)
}

pub fn loss_difference(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 88);
    let mut bench = Bench::new(&["base", "third"], &["a"], sections(json!({})))?;
    let names = identities(size.n, seed, 61);
    let shared: Vec<Vec<f64>> = names.iter().map(|_| losses(20 + random.below(40), &mut random)).collect();
    for (model, more) in [("base", 0.0), ("third", apart)] {
        let own = |loss: &f64, random: &mut Random| loss * (0.3 * random.normal() - 0.045).exp() + more;
        let of = shared.iter().map(|losses| losses.iter().map(|loss| own(loss, &mut random)).collect()).collect();
        Losses { of }.give(&mut bench, model, "a", &names)?;
    }
    let mut counts = Counts::default();
    let rows = bench.table("loss_difference", &[])?.keep(&[("measure", "logprob")]);
    if let Some(row) = rows.0.first() {
        let measure = if apart == 0.0 { Measure::Rejects } else { Measure::Power };
        counts.small(measure, "", row.number("p_value"));
        counts.covers("difference", row.number("ci_low"), row.number("ci_high"), -apart);
    }
    Ok(counts.0)
}
