//! What watches a forward pass. An observer says what it wants, is shown just that, and builds its table.

use std::ops::Range;

use anyhow::Result;
use candle_core::Tensor;

use super::backward::{Factors, LossGradients};
use crate::contract::stage::Output;

/// Where in the network a state is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The residual stream: layer 0 is the embedding output, layer l the stream after block l.
    Residual,
    /// The last layer's stream after the final norm.
    FinalNorm,
}

impl Site {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Site::Residual => "residual",
            Site::FinalNorm => "final_norm",
        }
    }
}

/// A block of tokenized examples, packed: sequence i holds the rows `span(i)` of every packed tensor.
#[derive(Debug, Clone, Default)]
pub struct Sequences {
    /// Example identities, one per sequence.
    pub examples: Vec<String>,
    /// Token ids, one list per sequence.
    pub ids: Vec<Vec<u32>>,
    /// [start, end) token span of the last assistant message's content.
    pub response: Vec<(u32, u32)>,
}

impl Sequences {
    /// The rows of sequence `i` in a packed tensor.
    pub fn span(&self, i: usize) -> Range<usize> {
        let start = self.ids[..i].iter().map(Vec::len).sum();
        start..start + self.ids[i].len()
    }

    pub fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

/// What an observer is told before the pass starts.
pub struct PassContext<'a> {
    pub block: &'a Sequences,
    /// Number of blocks (transformer layers) L.
    pub layers: usize,
    /// Hidden size D.
    pub hidden_size: usize,
    /// The model's tokenizer files' parts where the stage has a `tokenizer` input; empty otherwise.
    pub tokenizer: &'a [crate::contract::node::Part],
}

/// What an observer asks to be shown.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// Layers 0..=L of the residual stream.
    pub residual: Vec<usize>,
    pub final_norm: bool,
    /// Next-token distributions at these packed rows, ascending; the output head runs for no others.
    pub predictions: Vec<usize>,
}

/// Watches one block's pass. Calls come in the order of the layers, then the predictions, then the gradients from
/// the highest layer down, then `finish`.
pub trait Observer: Send {
    fn wants(&self) -> Wants;

    /// The states [tokens, D] of the packed block at one wanted site and layer.
    fn states(&mut self, _site: Site, _layer: usize, _states: &Tensor) -> Result<()> {
        Ok(())
    }

    /// Log-probabilities [rows, vocabulary] (row-major, nats) at some of the wanted packed rows, which are
    /// given in `rows`. Called once per chunk, in ascending order.
    fn predictions(&mut self, _rows: &[usize], _logprobs: &[f32], _vocabulary: usize) -> Result<()> {
        Ok(())
    }

    /// The weight matrices whose gradients this observer wants; the backward pass goes no lower than the lowest
    /// that some observer names.
    fn gradients(&self) -> Option<LossGradients> {
        None
    }

    /// A wanted matrix' gradients of some of the block's sequences, as what they are made of.
    fn factors(&mut self, _factors: &Factors) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Output>>;
}
