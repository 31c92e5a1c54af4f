//! The kinds of steps a block is made of, each with its forward, its reverse and its cost beside each other.

mod activation;
mod add;
mod add_linear;
mod attention;
mod columns;
mod experts;
mod linear;
mod norm;
mod rotary;
mod router;
mod sigmoid_gate;

use std::fmt::Debug;
use std::ops;

use anyhow::Result;
use candle_core::Tensor;

use super::frame::Frame;
use super::program::{Program, Value};
use super::reverse::Reverse;
pub use activation::Activation;
pub use add::Add;
pub use add_linear::AddLinear;
pub use attention::Attention;
pub use columns::Columns;
pub use experts::Experts;
pub use linear::Linear;
pub use norm::Norm;
pub use rotary::Rotary;
pub use router::Router;
pub use sigmoid_gate::SigmoidGate;

pub trait Step: Debug + Send + Sync {
    fn reads(&self) -> Vec<Value>;

    fn writes(&self) -> Value;

    /// Those of the values it reads that its reverse reads again.
    fn keeps(&self) -> Vec<Value>;

    /// Its linear layers.
    fn modules(&self) -> ops::Range<usize> {
        0..0
    }

    /// Values of a token in memory inside the step, beside those it reads and writes.
    fn inside(&self, _program: &Program) -> usize {
        0
    }

    /// The value it writes.
    fn forward(&self, frame: &mut Frame) -> Result<Tensor>;

    /// From the gradient at the value it writes to those at the values it reads, as far as they are needed.
    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()>;

    fn cost(&self, program: &Program) -> StepCost;
}

/// FLOPs, a multiplication and an addition counted as two. Norms, rotary embeddings, activations and softmax are left
/// out: at a hidden size of 896 they are a hundredth of the matrix products, and less in larger models.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepCost {
    /// For each token.
    pub token: f64,
    /// For each pair of a token and one that it sees.
    pub pair: f64,
    /// The reverse's for each token. Gradients of the weights themselves are not in it.
    pub reverse_token: f64,
    /// The reverse's for each pair.
    pub reverse_pair: f64,
}

impl ops::Add for StepCost {
    type Output = StepCost;

    fn add(self, other: StepCost) -> StepCost {
        StepCost {
            token: self.token + other.token,
            pair: self.pair + other.pair,
            reverse_token: self.reverse_token + other.reverse_token,
            reverse_pair: self.reverse_pair + other.reverse_pair,
        }
    }
}
