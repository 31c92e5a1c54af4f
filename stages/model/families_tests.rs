//! Every family and every rotary scaling against what transformers computes (tests/golden/families.py).
//!
//! With `-- --nocapture` the largest deviation of each model is printed as a row of docs/accuracy.md.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use candle_core::Tensor;
use serde_json::Value;

use super::forward::{Start, Watched, forward};
use super::test_model::{TestModel, VOCABULARY, part};
use super::transformer::Transformer;
use super::watcher::Watcher;
use crate::contract::module::ModulePath;
use crate::contract::observer::{Factors, LossGradients, Observer, Over, Wants};
use crate::contract::sequences::Sequences;
use crate::contract::site::Site;
use crate::model::compute::with_slice;
use crate::model::ops::{entropy, weight_gradient_add};

pub const LENGTHS: [usize; 5] = [9, 2, 14, 30, 5];
const TOLERANCE: f64 = 1e-4;

/// All that a pass shows.
#[derive(Default)]
pub struct All {
    sites: Vec<Site>,
    rows: usize,
    wanted: Option<LossGradients>,
    /// [tokens, D] by site, in their order.
    pub states: Vec<Vec<f32>>,
    /// [tokens, vocabulary]
    pub logprobs: Vec<f32>,
    /// By the module's name, of each example.
    pub gradients: BTreeMap<String, Vec<Vec<f32>>>,
}

impl Observer for All {
    fn wants(&self) -> Wants {
        Wants { states: self.sites.clone(), predictions: (0..self.rows).collect() }
    }

    fn states(&mut self, _site: Site, states: &Tensor) -> Result<()> {
        self.states.push(with_slice(states, <[f32]>::to_vec)?);
        Ok(())
    }

    fn predictions(&mut self, _rows: &[usize], logprobs: &[f32], _vocabulary: usize) -> Result<()> {
        self.logprobs.extend(logprobs);
        Ok(())
    }

    fn gradients(&self) -> Option<LossGradients> {
        self.wanted.clone()
    }

    fn factors(&mut self, factors: &Factors) -> Result<()> {
        let Factors { path, inputs, out, x, d, .. } = *factors;
        for rows in factors.rows {
            let mut gradient = vec![0.0; inputs * out];
            let (x, d) = (&x[rows.start * inputs..rows.end * inputs], &d[rows.start * out..rows.end * out]);
            weight_gradient_add(x, d, out, inputs, &mut gradient);
            self.gradients.entry(path.name()).or_default().push(gradient);
        }
        Ok(())
    }
}

pub fn pass(model: &Transformer, sequences: &Sequences) -> All {
    let layers = model.description.layers;
    let mut sites: Vec<Site> = (0..=layers).map(Site::residual).collect();
    sites.push(Site::final_norm(layers));
    let wanted = Some(LossGradients { modules: model.description.modules().all(), over: Over::All });
    let mut all = All { sites, rows: sequences.tokens(), wanted, ..All::default() };
    let mut watched = Watched { sequences, watchers: vec![Watcher::new(&mut all)] };
    forward(model, &mut watched, Start::Tokens, &[]).unwrap();
    watched.watchers.into_iter().for_each(|watcher| watcher.result().unwrap());
    all
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum()
}

fn length(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// The largest deviations of a model from what is written of it: of states relative to their norms, of log-probabilities and entropies in nats, of gradients'
/// norms relative to the module's largest, and of cosines.
pub fn deviations(model: &Transformer, golden: &Value) -> [f64; 5] {
    let sequences = part(&LENGTHS);
    let found = pass(model, &sequences);
    let [mut states, mut logprobs, mut entropies, mut norms, mut cosines] = [0f64; 5];
    for (i, expected) in golden["examples"].as_array().unwrap().iter().enumerate() {
        let rows = sequences.span(i);
        assert_eq!(expected["last"].as_array().unwrap().len(), found.states.len());
        for (expected, found) in expected["last"].as_array().unwrap().iter().zip(&found.states) {
            let expected = floats(expected);
            let found = &found[(rows.end - 1) * expected.len()..rows.end * expected.len()];
            let difference = length(found.iter().zip(&expected).map(|(f, e)| *f as f64 - e));
            states = states.max(difference / length(expected.iter().copied()));
        }
        let tokens = floats(&expected["logprob"]).into_iter().zip(floats(&expected["entropy"]));
        for (t, (logprob, of_entropy)) in tokens.enumerate() {
            let row = rows.start + t;
            let of_row = &found.logprobs[row * VOCABULARY..(row + 1) * VOCABULARY];
            logprobs = logprobs.max((of_row[sequences.ids[i][t + 1] as usize] as f64 - logprob).abs());
            entropies = entropies.max((entropy(of_row) as f64 - of_entropy).abs());
        }
    }
    let expected = golden["gradients"].as_object().unwrap();
    assert!(!expected.is_empty());
    for name in expected.keys() {
        let found = found.gradients.get(name).unwrap_or_else(|| panic!("no gradient of {name}"));
        let (of_norms, of_cosines) = (floats(&expected[name]["norms"]), floats(&expected[name]["cosines"]));
        assert_eq!(found.len(), of_norms.len(), "{name}: one gradient for each example");
        let largest = of_norms.iter().fold(0.0, |most: f64, norm| most.max(*norm));
        let found_norms: Vec<f64> = found.iter().map(|gradient| dot(gradient, gradient).sqrt()).collect();
        for (found, expected) in found_norms.iter().zip(&of_norms) {
            norms = norms.max((found - expected).abs() / largest.max(1e-12));
        }
        let pairs = (0..found.len()).flat_map(|i| (i + 1..found.len()).map(move |j| (i, j)));
        for ((i, j), expected) in pairs.zip(&of_cosines) {
            // Where one is 0 but for rounding there is no direction.
            if of_norms[i].min(of_norms[j]) > 1e-6 * largest {
                let cosine = dot(&found[i], &found[j]) / (found_norms[i] * found_norms[j]);
                cosines = cosines.max((cosine - expected).abs());
            }
        }
    }
    [states, logprobs, entropies, norms, cosines]
}

/// What deviates by more than is allowed. All of it is printed.
pub fn too_far(name: &str, deviations: [f64; 5]) -> Option<String> {
    let row: Vec<String> = deviations.iter().map(|deviation| format!("{deviation:.1e}")).collect();
    println!("| {name} | {} |", row.join(" | "));
    // A NaN is too far as well.
    let near = deviations.iter().all(|deviation| *deviation < TOLERANCE);
    (!near).then(|| format!("{name}: {}", row.join(", ")))
}

/// What is written of each family.
pub fn golden() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("../../tests/golden/families.json")).unwrap()
}

#[test]
fn families_are_those_of_transformers() {
    let mut wrong = Vec::new();
    for (name, golden) in &golden() {
        let model = TestModel::of(&golden["config"]).open();
        let modules: BTreeSet<String> = model.description.modules().all().iter().map(ModulePath::name).collect();
        assert_eq!(modules.iter().collect::<BTreeSet<_>>(), golden["gradients"].as_object().unwrap().keys().collect());
        wrong.extend(too_far(name, deviations(&model, golden)));
    }
    assert!(wrong.is_empty(), "states, log-probabilities, entropies, norms, cosines:\n{}", wrong.join("\n"));
}
