//! What watches a forward pass. An observer says what it wants, is shown just that, and builds its table.

use std::ops::Range;

use anyhow::Result;
use candle_core::Tensor;

use super::module::{ModulePath, Modules};
use super::node::Part;
use super::output::Output;
use super::sequences::Sequences;
use super::site::Site;

/// What an observer is told before the pass starts.
pub struct PassContext<'a> {
    pub sequences: &'a Sequences,
    /// Number of blocks L.
    pub layers: usize,
    /// Hidden size D.
    pub hidden_size: usize,
    /// The linear layers of the model's blocks.
    pub modules: &'a Modules,
    /// The model's tokenizer files' parts where the stage has a `tokenizer` input; empty otherwise.
    pub tokenizer: &'a [Part],
}

/// What an observer asks to be shown.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    pub states: Vec<Site>,
    /// Next-token distributions at these packed rows, ascending; the output head runs for no others.
    pub predictions: Vec<usize>,
}

/// Watches the pass of one part's sequences. Calls come in the order of the sites, then the predictions, then the
/// gradients from the highest layer down, then `finish`.
pub trait Observer: Send {
    fn wants(&self) -> Wants;

    /// The states [tokens, D] of the packed sequences at one wanted site.
    fn states(&mut self, _site: Site, _states: &Tensor) -> Result<()> {
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

    /// A wanted matrix' gradients of some of the sequences, as what they are made of.
    fn factors(&mut self, _factors: &Factors) -> Result<()> {
        Ok(())
    }

    /// The parts of the stage's output; none of an observer whose numbers are read from itself.
    fn finish(self: Box<Self>) -> Result<Vec<Output>> {
        Ok(Vec::new())
    }
}

/// Whose gradients an observer wants.
#[derive(Debug, Clone, PartialEq)]
pub struct LossGradients {
    /// Weight matrices, ascending.
    pub modules: Vec<ModulePath>,
    /// The predictions each example's loss is the mean over.
    pub over: Over,
}

/// The tokens whose cross-entropies an example's loss is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// All but the first, which nothing predicts.
    All,
    /// Those of the last assistant message's content.
    Response,
}

impl Over {
    /// The predicted tokens of sequence `i`, by their index in it; none where there is no response.
    pub fn tokens(self, sequences: &Sequences, i: usize) -> Range<usize> {
        let length = sequences.ids[i].len();
        match self {
            Over::All => 1..length.max(1),
            Over::Response => {
                let (start, end) = sequences.response[i];
                let end = (end as usize).min(length).max(1);
                (start as usize).clamp(1, end)..end
            }
        }
    }
}

/// What a weight's gradient is made of, for some of a part's sequences: that of sequence i is the sum over its
/// tokens of d xᵀ.
pub struct Factors<'a> {
    pub path: &'a ModulePath,
    /// Indices of the sequences.
    pub sequences: Range<usize>,
    /// Where each of these sequences lies in the rows of x and d.
    pub rows: &'a [Range<usize>],
    /// The layer's inputs [rows, inputs].
    pub x: &'a [f32],
    /// The losses' gradients at its outputs [rows, out].
    pub d: &'a [f32],
    pub inputs: usize,
    pub out: usize,
}
