//! States under models, as the stages of `hidden_states` would have them.

use anyhow::Result;
use serde_json::{Value, json};
use strata_stages::statistics::random::Random;

use super::{LAYERS, Size};
use crate::bench::Bench;
use crate::population::{Population, give_states, identities};

/// Gives one dataset's states under models with these shifts, the same at every layer.
pub fn give(
    bench: &mut Bench,
    population: &Population,
    dataset: &str,
    n: usize,
    shifts: &[(&str, Vec<f64>)],
    random: &mut Random,
    seed: u64,
) -> Result<()> {
    let number = dataset.bytes().map(u64::from).sum();
    let names = identities(n, seed, number);
    let mut layers: Vec<Vec<Vec<f32>>> = vec![Vec::new(); shifts.len()];
    let below = population.examples(n, random);
    for _ in 0..LAYERS {
        // Layers are alike, as they are in a residual stream.
        let examples: Vec<f64> =
            below.iter().zip(population.examples(n, random)).map(|(below, own)| 0.8 * below + 0.6 * own).collect();
        for (states, (_, shift)) in layers.iter_mut().zip(shifts) {
            states.push(population.states(&examples, shift, random));
        }
    }
    for ((model, _), states) in shifts.iter().zip(&layers) {
        give_states(bench, model, dataset, &names, states)?;
    }
    Ok(())
}

pub fn times(vector: &[f64], factor: f64) -> Vec<f64> {
    vector.iter().map(|value| value * factor).collect()
}

pub fn zero(size: Size) -> Vec<f64> {
    vec![0.0; size.width]
}

/// A shift that paired examples show with fair power: the length of a model's own variation over the root of n, times 3.
pub fn visible(population: &Population, size: Size) -> f64 {
    3.0 * crate::population::OWN.sqrt() * (population.width() as f64 / size.n as f64).sqrt()
}

/// The section of a comparison of these states.
pub fn of_states(across: &str) -> Value {
    json!({ "similarity": { "of": ["hidden_state"], "across": across, "layers": [0, 1, 2] } })
}
