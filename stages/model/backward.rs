//! The backward pass: from the loss of each example down to the lowest weight matrix that some observer asked for.
//!
//! ```text
//! forward: h₀ … h_l ── kept from the lowest layer wanted ── … h_L
//! loss:    d_L from softmax - onehot at the chosen rows, in chunks of the output head
//! reverse: layer L-1 … lowest, each over groups of sequences: record the block again from h_l, then reverse it
//! ```
//!
//! Kept are the boundaries between blocks and never more than one group's values inside a block; that costs each
//! of these blocks a second forward. Sequences do not touch each other, so the rows of sequence i carry
//! the gradient of example i's own loss, whatever examples are beside it.

use std::ops::Range;

use anyhow::{Result, bail};
use candle_core::Tensor;

use super::block::{Packing, Watch};
use super::composed_loss;
use super::compute::{composes, with_slice};
use super::ops::cross_entropy_backward;
use super::predictions::Predictions;
use super::transformer::Transformer;
use crate::contract::module::ModulePath;
use crate::contract::observer::{Factors, Over};
use crate::contract::sequences::Sequences;

/// Values of a block's inside that are in memory at once, about: 256 MiB.
const VALUES: usize = 1 << 26;

/// Logits in memory at once: 192 MiB. The fewer rows, the longer the head's two products take.
const LOGITS: usize = 3 << 24;

/// Walks back from the losses to the lowest of `modules`, showing each module's factors to `each`.
/// `stream` gives the residual stream [tokens, D] at a layer, from that module's up to L.
///
/// # Errors
/// When a token id lies outside the vocabulary or a gradient is not finite.
pub fn backward(
    model: &Transformer,
    sequences: &Sequences,
    packing: &Packing,
    over: Over,
    modules: &[ModulePath],
    stream: &dyn Fn(usize) -> Result<Tensor>,
    each: &mut dyn FnMut(&Factors),
) -> Result<()> {
    let Some(lowest) = modules.first() else { return Ok(()) };
    let (top, width) = (model.description.layers, model.description.hidden_size);
    let predictions = Predictions::of(model, sequences, packing, over)?;
    let last = stream(top)?;
    let mut d = match composes(&last) {
        true => composed_loss::gradient(model, &predictions, &last)?,
        false => with_slice(&last, |stream| loss_gradient(model, &predictions, stream))?,
    };
    drop(last);
    let groups = groups(model, &packing.sequences);
    for layer in (lowest.layer..top).rev() {
        let wanted: Vec<&ModulePath> = modules.iter().filter(|path| path.layer == layer).collect();
        let below = layer > lowest.layer;
        let weights = model.block(layer);
        let stream = stream(layer)?;
        for group in &groups {
            let rows = packing.sequences[group.start].start..packing.sequences[group.end - 1].end;
            let values = rows.start * width..rows.end * width;
            let packing = packing.part(group.clone());
            let input = stream.narrow(0, rows.start, rows.len())?;
            let above = d[values.clone()].to_vec();
            let mut watch = Show { wanted: &wanted, sequences: group.clone(), rows: &packing.sequences, each };
            let tape = model.program.record_for(&weights, &input, &packing, below, &watch)?;
            if let Some(lower) = model.program.reverse(&weights, tape, above, &packing, below, &mut watch)? {
                d[values].copy_from_slice(&lower);
            }
        }
        if let Some(at) = d.iter().position(|value| !value.is_finite()) {
            let i = packing.sequences.iter().position(|rows| rows.contains(&(at / width))).unwrap_or(0);
            bail!("the gradient of example {} is not finite below layer {}", sequences.examples[i], layer + 1);
        }
    }
    Ok(())
}

/// The gradient [tokens, D] of every example's mean cross-entropy at the last layer's residual stream.
fn loss_gradient(model: &Transformer, predictions: &Predictions, stream: &[f32]) -> Vec<f32> {
    let (width, vocabulary) = (model.description.hidden_size, model.description.vocabulary);
    let Predictions { rows, targets, weights } = predictions;
    // Log-probabilities are differences of logits and stay f32; the way back is a linear layer's like the others.
    let (head, of) = (model.affine(&model.head), model.description.logits);
    let back = head.in_precision(model.precision);
    let norm = model.final_norm.of(&model.description.final_norm);
    let mut d = vec![0.0; stream.len()];
    // A soft-cap's slopes are as many as the logits.
    let most = if of.soft_cap.is_some() { LOGITS / 2 } else { LOGITS };
    let chunk = (most / vocabulary).clamp(16, 2048);
    let mut logits = Vec::new();
    for ((rows, targets), weights) in rows.chunks(chunk).zip(targets.chunks(chunk)).zip(weights.chunks(chunk)) {
        let of_row = |row: &usize| row * width..(row + 1) * width;
        let picked: Vec<f32> = rows.iter().flat_map(|row| &stream[of_row(row)]).copied().collect();
        let normed = norm.forward(&picked);
        head.forward_replacing(&normed, &mut logits);
        let slopes = of.apply_with_slopes(&mut logits);
        cross_entropy_backward(&mut logits, targets, weights);
        of.reverse(&mut logits, slopes.as_deref());
        let mut d_normed = normed;
        back.backward_rounding(&mut logits, false, &mut d_normed);
        let mut d_picked = vec![0.0; picked.len()];
        norm.backward_add(&picked, &d_normed, &mut d_picked);
        for (row, d_row) in rows.iter().zip(d_picked.chunks_exact(width)) {
            d[of_row(row)].copy_from_slice(d_row);
        }
    }
    d
}

/// Sequences that go through a block's reverse together.
fn groups(model: &Transformer, sequences: &[Range<usize>]) -> Vec<Range<usize>> {
    // The gradients are about as many as the values that are recorded.
    let per_token = 2 * model.program.recorded();
    let most = (VALUES / per_token).max(1);
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (i, rows) in sequences.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if rows.end - sequences[group.start].start <= most => group.end = i + 1,
            _ => groups.push(i..i + 1),
        }
    }
    groups
}

/// Shows a block's factors with what they belong to.
struct Show<'a> {
    wanted: &'a [&'a ModulePath],
    sequences: Range<usize>,
    rows: &'a [Range<usize>],
    each: &'a mut dyn FnMut(&Factors),
}

impl Watch for Show<'_> {
    fn wants(&self, module: usize) -> bool {
        self.wanted.iter().any(|path| path.ordinal == module)
    }

    fn linear(&mut self, module: usize, x: &[f32], d: &[f32]) {
        let Some(path) = self.wanted.iter().find(|path| path.ordinal == module) else { return };
        let rows = self.rows.last().map_or(1, |last| last.end);
        (self.each)(&Factors {
            path,
            sequences: self.sequences.clone(),
            rows: self.rows,
            x,
            d,
            inputs: x.len() / rows,
            out: d.len() / rows,
        });
    }
}
