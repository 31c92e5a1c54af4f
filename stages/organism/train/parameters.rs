//! A model's parameters as one vector, with the names and shapes of its parts: what the optimizer, the gradient
//! and the checkpoint share.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::model::ops::HeadShape;
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

    /// Names and shapes in the order of the vector. The output head is the embedding matrix.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, queries, keys, wide) =
            (self.hidden_size, self.heads.queries(), self.heads.keys(), self.intermediate_size);
        let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![self.vocabulary, d])];
        for layer in 0..self.layers {
            let parts = [
                ("input_layernorm.weight", vec![d]),
                ("self_attn.q_proj.weight", vec![queries, d]),
                ("self_attn.q_proj.bias", vec![queries]),
                ("self_attn.k_proj.weight", vec![keys, d]),
                ("self_attn.k_proj.bias", vec![keys]),
                ("self_attn.v_proj.weight", vec![keys, d]),
                ("self_attn.v_proj.bias", vec![keys]),
                ("self_attn.o_proj.weight", vec![d, queries]),
                ("post_attention_layernorm.weight", vec![d]),
                ("mlp.gate_proj.weight", vec![wide, d]),
                ("mlp.up_proj.weight", vec![wide, d]),
                ("mlp.down_proj.weight", vec![d, wide]),
            ];
            tensors.extend(parts.map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)));
        }
        tensors.push(("model.norm.weight".to_string(), vec![d]));
        tensors
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
        for (name, shape) in config.tensors() {
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
        for (name, shape) in config.tensors() {
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
