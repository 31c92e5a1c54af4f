//! The loss of a batch and its gradient: embedding, blocks, final norm, tied output head, and back.

use super::documents::{Batch, Document};
use super::parameters::{Config, EPS, Parameters, ROPE_THETA};
use crate::model::ops::{
    Matrix, RotaryTable, bias_gradient_add, cross_entropy_backward, linear_backward, linear_new, rms_norm_backward_add,
    rms_norm_new, rms_norm_weight_gradient_add, weight_gradient_add,
};
use crate::model::reverse::{Block, Linear, Module, Norm, Packing, Watch, record, reverse};

/// Rows of logits at a time.
const HEAD_ROWS: usize = 512;

pub struct Transformer {
    config: Config,
    rotary: RotaryTable,
}

impl Transformer {
    /// For documents up to the longest of these.
    pub fn new(config: Config, documents: &[Document]) -> Transformer {
        let half = config.heads.dim / 2;
        let frequency = |i: usize| 1.0 / ROPE_THETA.powf((2 * i) as f32 / (2 * half) as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let longest = documents.iter().map(|document| document.ids.len()).max().unwrap_or(0);
        Transformer { config, rotary: RotaryTable::new(&frequencies, longest) }
    }

    /// The mean cross-entropy of the batch's targets in nats, its gradient added to `gradient`, which is laid
    /// out as the parameters are.
    pub fn loss_and_gradient(&mut self, parameters: &Parameters, batch: &Batch, gradient: &mut [f32]) -> f64 {
        let (width, vocabulary) = (self.config.hidden_size, self.config.vocabulary);
        let packing = Packing { sequences: &batch.sequences, rotary: &self.rotary };
        let embeddings = parameters.get("model.embed_tokens.weight");
        let mut states = Vec::with_capacity(batch.ids.len() * width);
        for id in &batch.ids {
            states.extend_from_slice(&embeddings[*id as usize * width..(*id as usize + 1) * width]);
        }
        let mut tapes = Vec::with_capacity(self.config.layers);
        for layer in 0..self.config.layers {
            let (out, tape) = record(&block(parameters, layer), states, packing);
            states = out;
            tapes.push(tape);
        }

        // Only rows with a target go through the final norm and the head.
        let picked: Vec<f32> =
            batch.rows.iter().flat_map(|row| &states[row * width..(row + 1) * width]).copied().collect();
        let norm = parameters.get("model.norm.weight");
        let normed = rms_norm_new(&picked, norm, EPS);
        let head = Matrix::of(embeddings, vocabulary, width);
        let mut d_normed = vec![0.0; normed.len()];
        let weight = 1.0 / batch.targets.len() as f32;
        let mut loss = 0.0;
        let embedding_range = parameters.range("model.embed_tokens.weight");
        for first in (0..batch.targets.len()).step_by(HEAD_ROWS) {
            let last = (first + HEAD_ROWS).min(batch.targets.len());
            let part = &normed[first * width..last * width];
            let mut logits = linear_new(part, head, None);
            loss += cross_entropy_backward(&mut logits, &batch.targets[first..last], &vec![weight; last - first]);
            linear_backward(&logits, head, false, &mut d_normed[first * width..last * width]);
            weight_gradient_add(part, &logits, vocabulary, width, &mut gradient[embedding_range.clone()]);
        }
        rms_norm_weight_gradient_add(&picked, EPS, &d_normed, &mut gradient[parameters.range("model.norm.weight")]);
        let mut d_picked = vec![0.0; picked.len()];
        rms_norm_backward_add(&picked, norm, EPS, &d_normed, &mut d_picked);

        let mut d = vec![0.0; states.len()];
        for (row, d_row) in batch.rows.iter().zip(d_picked.chunks_exact(width)) {
            d[row * width..(row + 1) * width].copy_from_slice(d_row);
        }
        for (layer, tape) in tapes.into_iter().enumerate().rev() {
            let mut watch = Collect { parameters, layer, gradient };
            d = reverse(&block(parameters, layer), tape, d, packing, true, &mut watch)
                .expect("the gradient at the input was asked for");
        }
        let d_embeddings = &mut gradient[embedding_range];
        for (id, d_row) in batch.ids.iter().zip(d.chunks_exact(width)) {
            let at = *id as usize * width;
            d_embeddings[at..at + width].iter_mut().zip(d_row).for_each(|(sum, d)| *sum += d);
        }
        loss
    }
}

/// Adds every gradient of a block into its place in the vector.
struct Collect<'a> {
    parameters: &'a Parameters,
    layer: usize,
    gradient: &'a mut [f32],
}

impl Collect<'_> {
    fn part(&mut self, name: &str) -> &mut [f32] {
        let range = self.parameters.range(&format!("model.layers.{}.{name}", self.layer));
        &mut self.gradient[range]
    }
}

impl Watch for Collect<'_> {
    fn wants(&self, _module: Module) -> bool {
        true
    }

    fn linear(&mut self, module: Module, x: &[f32], d: &[f32]) {
        let weight = format!("model.layers.{}.{}.weight", self.layer, module.name());
        let shape = &self.parameters.tensors[&weight].shape;
        let range = self.parameters.range(&weight);
        weight_gradient_add(x, d, shape[0], shape[1], &mut self.gradient[range]);
        if matches!(module, Module::Query | Module::Key | Module::Value) {
            bias_gradient_add(d, self.part(&format!("{}.bias", module.name())));
        }
    }

    fn norm(&mut self, norm: Norm, x: &[f32], d: &[f32]) {
        let name = match norm {
            Norm::Attention => "input_layernorm.weight",
            Norm::FeedForward => "post_attention_layernorm.weight",
        };
        rms_norm_weight_gradient_add(x, EPS, d, self.part(name));
    }
}

fn block(parameters: &Parameters, layer: usize) -> Block<'_> {
    let get = |name: &str| parameters.get(&format!("model.layers.{layer}.{name}"));
    let linear = |module: Module, bias: bool| {
        let name = format!("model.layers.{layer}.{}.weight", module.name());
        let shape = &parameters.tensors[&name].shape;
        Linear {
            weight: Matrix::of(parameters.get(&name), shape[0], shape[1]),
            bias: bias.then(|| get(&format!("{}.bias", module.name()))),
        }
    };
    Block {
        attention_norm: get("input_layernorm.weight"),
        query: linear(Module::Query, true),
        key: linear(Module::Key, true),
        value: linear(Module::Value, true),
        output: linear(Module::Output, false),
        feed_forward_norm: get("post_attention_layernorm.weight"),
        gate: linear(Module::Gate, false),
        up: linear(Module::Up, false),
        down: linear(Module::Down, false),
        heads: parameters.config.heads,
        eps: EPS,
    }
}
