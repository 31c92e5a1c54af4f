//! Where simulated hidden states come from: normal, with a spectrum that falls off as real ones' does.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, StringArray, UInt32Array};
use strata_stages::statistics::random::Random;
use strata_stages::table::vector_array;

use crate::bench::Bench;

/// Hidden states of D numbers: what an example is under every model, what a model adds of its own, and shifts.
pub struct Population {
    /// Standard deviation of each coordinate: 1 / sqrt(k) of the k-th, times sqrt(D) over the root of their sum.
    pub spread: Vec<f64>,
}

/// The share of an example's variance that each model adds of its own.
pub const OWN: f64 = 0.25;

impl Population {
    pub fn new(width: usize) -> Population {
        let raw: Vec<f64> = (1..=width).map(|k| (k as f64).powf(-0.5)).collect();
        let scale = (width as f64 / raw.iter().map(|value| value * value).sum::<f64>()).sqrt();
        Population { spread: raw.iter().map(|value| value * scale).collect() }
    }

    pub fn width(&self) -> usize {
        self.spread.len()
    }

    /// A unit vector in no coordinate's favour.
    pub fn axis(&self, random: &mut Random) -> Vec<f64> {
        let mut axis: Vec<f64> = (0..self.width()).map(|_| random.normal()).collect();
        let norm = axis.iter().map(|value| value * value).sum::<f64>().sqrt();
        axis.iter_mut().for_each(|value| *value /= norm);
        axis
    }

    /// What n examples have in common under every model: [n, D].
    pub fn examples(&self, n: usize, random: &mut Random) -> Vec<f64> {
        (0..n).flat_map(|_| self.spread.iter().map(|spread| spread * random.normal()).collect::<Vec<_>>()).collect()
    }

    /// A model's states of these examples: with its own variation and its own shift.
    pub fn states(&self, examples: &[f64], shift: &[f64], random: &mut Random) -> Vec<f32> {
        let rows = examples.chunks_exact(self.width());
        let own = OWN.sqrt();
        rows.flat_map(|row| {
            let of = row.iter().zip(&self.spread).zip(shift);
            of.map(|((value, spread), shift)| (value + own * spread * random.normal() + shift) as f32)
                .collect::<Vec<_>>()
        })
        .collect()
    }

    /// The standard deviation of a model's states along a direction.
    pub fn along(&self, direction: &[f32]) -> f64 {
        let variance: f64 = direction.iter().zip(&self.spread).map(|(u, s)| (f64::from(*u) * s).powi(2)).sum();
        ((1.0 + OWN) * variance).sqrt()
    }
}

/// Identities of n examples, as hashes are.
pub fn identities(n: usize, seed: u64, dataset: u64) -> Vec<String> {
    (0..n as u64)
        .map(|i| {
            let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(i), 1_000 + dataset);
            format!("{:08x}{:08x}", random.below(1 << 32) as u32, random.below(1 << 32) as u32)
        })
        .collect()
}

/// Gives hidden states at the position `last`, layers 0 and up.
pub fn give_states(bench: &mut Bench, model: &str, dataset: &str, names: &[String], layers: &[Vec<f32>]) -> Result<()> {
    let (n, width) = (names.len(), layers[0].len() / names.len());
    let examples = layers.iter().flat_map(|_| names.iter().cloned());
    let numbers = (0..layers.len() as u32).flat_map(|layer| std::iter::repeat_n(layer, n));
    let rows = n * layers.len();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("example", Arc::new(StringArray::from_iter_values(examples))),
        ("position", Arc::new(StringArray::from(vec!["last"; rows]))),
        ("layer", Arc::new(UInt32Array::from_iter_values(numbers))),
        ("site", Arc::new(StringArray::from(vec!["residual"; rows]))),
        ("vector", vector_array(layers.concat(), width)?),
    ];
    bench.give("hidden_states", model, dataset, columns)
}
