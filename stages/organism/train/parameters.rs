//! A model's parameters as one vector, with the names and shapes of its parts: what the optimizer, the gradient
//! and the checkpoint share.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::model::block::description::{Description, TensorShape};
use crate::model::family::common::Sizes;
use crate::model::family::qwen2;
use crate::model::ops::{Activation, HeadShape};
use crate::model::rotary::Rotary;
use crate::organism::shape::Shape;

pub const MAX_POSITIONS: usize = 512;
pub const ROPE_THETA: f32 = 10_000.0;
pub const EPS: f32 = 1e-6;
pub const INITIAL_STD: f32 = 0.02;

/// A model's shape, its vocabulary the tokenizer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub vocabulary: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: HeadShape,
}

impl Config {
    pub fn new(shape: &Shape, vocabulary: usize) -> Result<Config> {
        Ok(Config {
            vocabulary,
            hidden_size: shape.hidden_size,
            intermediate_size: shape.intermediate_size,
            layers: shape.layers,
            heads: HeadShape { heads: shape.heads, kv_heads: shape.kv_heads, dim: shape.hidden_size / shape.heads },
        })
    }

    /// A Qwen2 of this shape, its output head the embedding matrix.
    pub fn description(&self) -> Description {
        let &Config { vocabulary, hidden_size, intermediate_size, layers, heads } = self;
        let rotary = Rotary::new(ROPE_THETA.into());
        qwen2::describe(Sizes {
            vocabulary,
            hidden_size,
            intermediate_size,
            layers,
            heads,
            eps: EPS,
            activation: Activation::Silu,
            rotary,
            tied: true,
        })
    }
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

#[derive(Debug, Clone)]
pub struct Parameters {
    pub config: Config,
    pub values: Vec<f32>,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Parameters {
    /// All zero.
    pub fn zeros(config: Config) -> Parameters {
        let (mut tensors, mut end) = (BTreeMap::new(), 0);
        for TensorShape { name, shape } in config.description().tensors() {
            let start = end;
            end += shape.iter().product::<usize>();
            tensors.insert(name, Tensor { shape, range: start..end });
        }
        Parameters { config, values: vec![0.0; end], tensors }
    }

    /// Normal matrices, those that write to the residual stream scaled down by the number of writes
    /// (Radford et al. 2019), norms of one, biases of zero.
    pub fn random(config: Config, seed: u64) -> Parameters {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Parameters::zeros(config.clone());
        for TensorShape { name, shape } in config.description().tensors() {
            let values = parameters.get_mut(&name);
            if shape.len() == 1 {
                values.fill(if name.ends_with("bias") { 0.0 } else { 1.0 });
                continue;
            }
            let writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let std = if writes { INITIAL_STD / (2.0 * config.layers as f32).sqrt() } else { INITIAL_STD };
            values.iter_mut().for_each(|value| *value = normal(&mut rng) * std);
        }
        parameters
    }

    /// # Panics
    /// When the model has no tensor of this name; so do the others.
    pub fn range(&self, name: &str) -> Range<usize> {
        self.tensors[name].range.clone()
    }

    pub fn get(&self, name: &str) -> &[f32] {
        &self.values[self.range(name)]
    }

    pub fn get_mut(&mut self, name: &str) -> &mut [f32] {
        let range = self.range(name);
        &mut self.values[range]
    }
}

/// A standard normal number (Box & Muller 1958), the second of each pair left unused.
fn normal(rng: &mut impl RngCore) -> f32 {
    let mut uniform = || ((rng.next_u32() >> 8) as f64 + 0.5) / (1 << 24) as f64;
    let (radius, angle) = (uniform(), uniform());
    ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
}
