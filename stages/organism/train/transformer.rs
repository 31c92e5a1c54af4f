//! The loss of a batch and its gradient: embedding, blocks, final norm, tied output head, and back.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use super::documents::{Batch, Document};
use super::parameters::{Config, EPS, Parameters, ROPE_THETA};
use crate::contract::per_block::PerBlock;
use crate::model::block::description::Description;
use crate::model::block::{BlockWeights, NormWeights, Packing, Program, Watch};
use crate::model::compute::{Affine, with_slice};
use crate::model::ops::{
    Matrix, NormKind, RotaryTable, bias_gradient_add, cross_entropy_backward, linear_backward, linear_new,
    rms_norm_backward_add, rms_norm_new, rms_norm_weight_gradient_add, weight_gradient_add,
};

/// Rows of logits at a time.
pub const HEAD_ROWS: usize = 512;

pub struct Transformer {
    description: Description,
    program: Program,
    rotary: Arc<RotaryTable>,
    /// Whatever is on the CPU needs no copy of a weight.
    resident: OnceLock<Tensor>,
}

impl Transformer {
    /// For documents up to the longest of these.
    pub fn new(config: Config, documents: &[Document]) -> Transformer {
        let half = config.heads.dim / 2;
        let frequency = |i: usize| 1.0 / ROPE_THETA.powf((2 * i) as f32 / (2 * half) as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let longest = documents.iter().map(|document| document.ids.len()).max().unwrap_or(0);
        let description = config.description();
        let program = description.block.compile(config.hidden_size);
        let rotary = Arc::new(RotaryTable::new(&frequencies, config.heads.dim, 1.0, longest));
        Transformer { description, program, rotary, resident: OnceLock::new() }
    }

    /// `weight` times the sum of the cross-entropies of the batch's targets in nats, its gradient added to
    /// `gradient`, which is laid out as the parameters are.
    ///
    /// # Errors
    /// When a step of a block fails.
    pub fn loss_and_gradient(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64> {
        let (width, vocabulary) = (self.description.hidden_size, self.description.vocabulary);
        let rotary = PerBlock::all(Some(vec![self.rotary.clone(); batch.sequences.len()]));
        let packing = Packing { sequences: batch.sequences.clone(), before: Vec::new(), rotary };
        let embeddings = parameters.get("model.embed_tokens.weight");
        let mut states = Vec::with_capacity(batch.ids.len() * width);
        for id in &batch.ids {
            states.extend_from_slice(&embeddings[*id as usize * width..(*id as usize + 1) * width]);
        }
        let mut states = Tensor::from_vec(states, (batch.ids.len(), width), &Device::Cpu)?;
        let mut tapes = Vec::with_capacity(self.description.layers);
        for layer in 0..self.description.layers {
            let (out, tape) = self.program.record(&self.block(parameters, layer), &states, &packing)?;
            states = out;
            tapes.push(tape);
        }

        // Only rows with a target go through the final norm and the head.
        let picked: Vec<f32> = with_slice(&states, |states| {
            batch.rows.iter().flat_map(|row| &states[row * width..(row + 1) * width]).copied().collect()
        })?;
        let norm = parameters.get("model.norm.weight");
        let normed = rms_norm_new(&picked, norm, EPS);
        let head = Matrix::of(embeddings, vocabulary, width);
        let mut d_normed = vec![0.0; normed.len()];
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

        let mut d = vec![0.0; batch.ids.len() * width];
        for (row, d_row) in batch.rows.iter().zip(d_picked.chunks_exact(width)) {
            d[row * width..(row + 1) * width].copy_from_slice(d_row);
        }
        for (layer, tape) in tapes.into_iter().enumerate().rev() {
            let mut watch = Collect { model: self, parameters, layer, gradient };
            let weights = self.block(parameters, layer);
            let below = self.program.reverse(&weights, tape, d, &packing, true, &mut watch)?;
            d = below.context("the gradient at the input was asked for")?;
        }
        let d_embeddings = &mut gradient[embedding_range];
        for (id, d_row) in batch.ids.iter().zip(d.chunks_exact(width)) {
            let at = *id as usize * width;
            d_embeddings[at..at + width].iter_mut().zip(d_row).for_each(|(sum, d)| *sum += d);
        }
        Ok(loss)
    }

    fn block<'a>(&'a self, parameters: &'a Parameters, layer: usize) -> BlockWeights<'a> {
        let get =
            |name: &str, kind: &str| parameters.get(&format!("{}.{kind}", self.description.in_block(layer, name)));
        let modules = self.program.modules.iter().zip(&self.program.biases).map(|(module, bias)| Affine {
            weight: Matrix::of(get(&module.name, "weight"), module.out, module.inputs),
            bias: bias.then(|| get(&module.name, "bias")),
            update: None,
            resident: &self.resident,
        });
        let norms = self.program.norms.iter().map(|(norm, _)| {
            let bias = (norm.kind == NormKind::Layer).then(|| get(norm.name, "bias"));
            NormWeights::new(norm, get(norm.name, "weight"), bias)
        });
        BlockWeights { block: layer, modules: modules.collect(), norms: norms.collect() }
    }
}

/// Adds every gradient of a block into its place in the vector.
struct Collect<'a> {
    model: &'a Transformer,
    parameters: &'a Parameters,
    layer: usize,
    gradient: &'a mut [f32],
}

impl Collect<'_> {
    fn part(&mut self, name: &str, kind: &str) -> &mut [f32] {
        let range = self.parameters.range(&format!("{}.{kind}", self.model.description.in_block(self.layer, name)));
        &mut self.gradient[range]
    }
}

impl Watch for Collect<'_> {
    fn wants(&self, _module: usize) -> bool {
        true
    }

    fn linear(&mut self, module: usize, x: &[f32], d: &[f32]) {
        let program = &self.model.program;
        let bias = program.biases[module];
        let module = &program.modules[module];
        weight_gradient_add(x, d, module.out, module.inputs, self.part(&module.name, "weight"));
        if bias {
            bias_gradient_add(d, self.part(&module.name, "bias"));
        }
    }

    fn norm(&mut self, norm: usize, x: &[f32], d: &[f32]) {
        let (norm, _) = &self.model.program.norms[norm];
        norm.kind.weight_gradient_add(x, norm.eps, d, self.part(norm.name, "weight"));
        if norm.kind == NormKind::Layer {
            bias_gradient_add(d, self.part(norm.name, "bias"));
        }
    }
}
