//! The forward pass, one function a layer: a pass may stop early, start in the middle, or move many blocks
//! through a layer before the next is read, without any stage knowing.

use std::ops::Range;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};

use super::compute::{self, Affine};
use super::config::Config;
use super::ops::RotaryTable;
use super::weights::{Stored, Weights, file_name};
use crate::contract::node::Part;
use crate::contract::sequences::Sequences;

/// A decoder-only transformer with its weights mapped.
pub struct Transformer {
    pub config: Config,
    pub weights: Weights,
    pub embedding: Stored,
    pub layers: Vec<Layer>,
    pub final_norm: Vec<f32>,
    pub head: Linear,
    pub device: Device,
    frequencies: Vec<f32>,
}

/// One block: x + attention(norm(x)), then x + feed_forward(norm(x)).
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub mlp_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// Where a linear layer's weight lies, and its bias.
pub struct Linear {
    pub weight: Stored,
    pub bias: Option<Vec<f32>>,
    resident: OnceLock<Tensor>,
}

/// A block's packed rows, and the rotary table that is long enough for its longest sequence.
pub struct Packing {
    pub sequences: Vec<Range<usize>>,
    pub rotary: RotaryTable,
}

/// Rows that go through the feed-forward layer together: its intermediate values, 5 times as wide as the
/// residual stream, stay small enough for the allocator to reuse.
const MLP_ROWS: usize = 512;

/// The logits of one chunk of rows hold about this many values.
const LOGITS: usize = 1 << 26;

impl Transformer {
    /// Opens the model whose config.json and safetensors files are among `parts`.
    ///
    /// # Errors
    /// When a file is missing, unreadable or damaged, the architecture is not supported, or the tensors are
    /// not exactly those that it has.
    pub fn open(parts: &[Part]) -> Result<Transformer> {
        Transformer::open_on(parts, compute::default_device()?)
    }

    /// As [`Transformer::open`], computing on `device`.
    pub fn open_on(parts: &[Part], device: Device) -> Result<Transformer> {
        let config =
            parts.iter().find(|part| file_name(part) == "config.json").context("the model has no config.json")?;
        let text =
            std::fs::read_to_string(&config.path).with_context(|| format!("reading {}", config.path.display()))?;
        let config = Config::parse(&text).with_context(|| format!("reading {}", config.path.display()))?;
        let mut weights = Weights::open(parts)?;
        let w = &mut weights;
        let width = config.hidden_size;
        let embedding = w.take_matrix("model.embed_tokens.weight", config.vocabulary, width)?;
        let layers = (0..config.layers).map(|layer| Layer::take(w, &config, layer)).collect::<Result<_>>()?;
        let final_norm = w.take_vector("model.norm.weight", width)?;
        let head = match config.tied_embeddings {
            true => Linear { weight: embedding.clone(), bias: None, resident: OnceLock::new() },
            false => Linear::take(w, "lm_head", config.vocabulary, width, false)?,
        };
        w.finish(config.tied_embeddings.then_some(("lm_head.weight", &embedding)))?;
        let frequencies = config.rotary.frequencies(config.heads.dim);
        Ok(Transformer { config, weights, embedding, layers, final_norm, head, device, frequencies })
    }

    /// A linear layer as the ops take it.
    pub fn affine<'a>(&'a self, linear: &'a Linear) -> Affine<'a> {
        Affine { weight: self.weights.matrix(&linear.weight), bias: linear.bias.as_deref(), resident: &linear.resident }
    }

    /// Where a block's sequences lie when packed.
    pub fn pack(&self, block: &Sequences) -> Packing {
        let mut start = 0;
        let sequences: Vec<Range<usize>> = block
            .ids
            .iter()
            .map(|ids| {
                let rows = start..start + ids.len();
                start = rows.end;
                rows
            })
            .collect();
        let longest = sequences.iter().map(Range::len).max().unwrap_or(0);
        Packing { sequences, rotary: RotaryTable::new(&self.frequencies, longest) }
    }

    /// The residual stream at layer 0, [tokens, D].
    ///
    /// # Errors
    /// When the block is empty or a token id lies outside the vocabulary.
    pub fn embed(&self, block: &Sequences) -> Result<Tensor> {
        let Config { vocabulary, hidden_size, .. } = self.config;
        let tokens = block.tokens();
        if tokens == 0 {
            bail!("the block has no tokens");
        }
        let rows = self.weights.matrix(&self.embedding).values;
        let mut out = vec![0.0; tokens * hidden_size];
        let ids =
            block.ids.iter().zip(&block.examples).flat_map(|(ids, example)| ids.iter().map(move |id| (id, example)));
        for (row, (id, example)) in out.chunks_exact_mut(hidden_size).zip(ids) {
            let id = *id as usize;
            if id >= vocabulary {
                bail!(
                    "example {example} has the token id {id}, but the model's vocabulary has {vocabulary} tokens: \
                     the tokenizer is not this model's"
                );
            }
            rows.widen(id * hidden_size, row);
        }
        Ok(Tensor::from_vec(out, (tokens, hidden_size), &self.device)?)
    }

    /// Block `layer` (from 0): the residual stream at layer `layer` becomes that at `layer + 1`, [tokens, D].
    pub fn block(&self, layer: usize, hidden: &Tensor, packing: &Packing) -> Result<Tensor> {
        let Config { heads, rms_norm_eps: eps, .. } = self.config;
        let at = &self.layers[layer];
        let normal = compute::rms_norm(hidden, &at.attention_norm, eps)?;
        let query = compute::linear(&normal, self.affine(&at.query))?;
        let key = compute::linear(&normal, self.affine(&at.key))?;
        let value = compute::linear(&normal, self.affine(&at.value))?;
        drop(normal);
        let query = compute::rope(query, &packing.sequences, &packing.rotary)?;
        let key = compute::rope(key, &packing.sequences, &packing.rotary)?;
        let mixed = compute::attention(&query, &key, &value, heads, &packing.sequences)?;
        let hidden = compute::add_linear(hidden, &mixed, self.affine(&at.output))?;

        let rows = hidden.dim(0)?;
        let mut parts = Vec::new();
        for start in (0..rows).step_by(MLP_ROWS) {
            let hidden = hidden.narrow(0, start, MLP_ROWS.min(rows - start))?;
            let normal = compute::rms_norm(&hidden, &at.mlp_norm, eps)?;
            let gate = compute::linear(&normal, self.affine(&at.gate))?;
            let up = compute::linear(&normal, self.affine(&at.up))?;
            let gated = compute::swiglu(gate, &up)?;
            parts.push(compute::add_linear(&hidden, &gated, self.affine(&at.down))?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// The last layer's stream after the final norm, [tokens, D].
    pub fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        compute::rms_norm(hidden, &self.final_norm, self.config.rms_norm_eps)
    }

    /// The normed stream [tokens, D] that follows from `hidden`, the residual stream at `layer`.
    pub fn normed_from(&self, layer: usize, hidden: &Tensor, packing: &Packing) -> Result<Tensor> {
        let mut hidden = hidden.clone();
        for layer in layer..self.config.layers {
            hidden = self.block(layer, &hidden, packing)?;
        }
        self.final_norm(&hidden)
    }

    /// Next-token log-probabilities at the chosen `rows` (ascending) of the normed stream, handed to `each` as
    /// (the chunk's rows, [rows, vocabulary] row-major): the whole logits are never in memory.
    pub fn predictions(
        &self,
        normed: &Tensor,
        rows: &[usize],
        mut each: impl FnMut(&[usize], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let chunk = (LOGITS / self.config.vocabulary).clamp(16, 4096);
        for rows in rows.chunks(chunk) {
            let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
            let chosen = normed.index_select(&Tensor::new(index, &self.device)?, 0)?;
            each(rows, &compute::log_probabilities(&chosen, self.affine(&self.head))?)?;
        }
        Ok(())
    }
}

impl Layer {
    fn take(weights: &mut Weights, config: &Config, layer: usize) -> Result<Layer> {
        let Config { hidden_size: width, intermediate_size: wide, heads, mlp_bias, .. } = *config;
        let (query_bias, output_bias) = (config.query_bias, config.output_bias);
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let mut linear = |part: &str, out, inputs, bias| Linear::take(weights, &name(part), out, inputs, bias);
        Ok(Layer {
            query: linear("self_attn.q_proj", heads.queries(), width, query_bias)?,
            key: linear("self_attn.k_proj", heads.keys(), width, query_bias)?,
            value: linear("self_attn.v_proj", heads.keys(), width, query_bias)?,
            output: linear("self_attn.o_proj", width, heads.queries(), output_bias)?,
            gate: linear("mlp.gate_proj", wide, width, mlp_bias)?,
            up: linear("mlp.up_proj", wide, width, mlp_bias)?,
            down: linear("mlp.down_proj", width, wide, mlp_bias)?,
            attention_norm: weights.take_vector(&name("input_layernorm.weight"), width)?,
            mlp_norm: weights.take_vector(&name("post_attention_layernorm.weight"), width)?,
        })
    }
}

impl Linear {
    fn take(weights: &mut Weights, name: &str, out: usize, inputs: usize, bias: bool) -> Result<Linear> {
        let weight = weights.take_matrix(&format!("{name}.weight"), out, inputs)?;
        let bias = bias.then(|| weights.take_vector(&format!("{name}.bias"), out)).transpose()?;
        Ok(Linear { weight, bias, resident: OnceLock::new() })
    }
}
