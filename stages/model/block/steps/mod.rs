//! The kinds of steps a block is made of, each with its forward, its reverse and its cost beside each other.

mod activation;
mod add_linear;
mod attention;
mod linear;
mod norm;
mod rotary;

use std::fmt::Debug;
use std::ops::Add;

use anyhow::Result;
use candle_core::Tensor;

use super::frame::Frame;
use super::program::{Program, Value};
use super::reverse::Reverse;
pub use activation::Activation;
pub use add_linear::AddLinear;
pub use attention::Attention;
pub use linear::Linear;
pub use norm::Norm;
pub use rotary::Rotary;

pub trait Step: Debug + Send + Sync {
    fn reads(&self) -> Vec<Value>;

    fn writes(&self) -> Value;

    /// Those of the values it reads that its reverse reads again.
    fn keeps(&self) -> Vec<Value>;

    /// Its linear layer, if it has one.
    fn module(&self) -> Option<usize> {
        None
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

impl Add for StepCost {
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
