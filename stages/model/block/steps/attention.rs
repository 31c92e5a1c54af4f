//! Causal attention within each sequence.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::contract::per_block::PerBlock;
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::composed_reverse;
use crate::model::compute::{self, composes, with_slice};
use crate::model::ops::{HeadShape, Scores, attention_backward};

#[derive(Debug)]
pub struct Attention {
    pub heads: HeadShape,
    pub scale: f32,
    pub soft_cap: Option<f32>,
    pub window: PerBlock<Option<usize>>,
    /// Queries, keys and values.
    pub inputs: [Value; 3],
    pub out: Value,
}

impl Attention {
    fn scores(&self, block: usize) -> Scores {
        Scores { scale: self.scale, soft_cap: self.soft_cap, window: *self.window.of(block) }
    }
}

impl Step for Attention {
    fn reads(&self) -> Vec<Value> {
        self.inputs.to_vec()
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        self.inputs.to_vec()
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let [q, k, v] = self.inputs;
        let (spans, scores) = (frame.packing.spans(), self.scores(frame.weights.block));
        compute::attention(frame.get(q)?, frame.get(k)?, frame.get(v)?, self.heads, spans, scores)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let [q, k, v] = self.inputs;
        let [q, k, v] = [reverse.recorded(q)?, reverse.recorded(k)?, reverse.recorded(v)?];
        let (sequences, scores) = (&reverse.packing.sequences, self.scores(reverse.weights.block));
        if composes(&d) {
            let gradients = composed_reverse::attention([q, k, v], self.heads, sequences, scores, &d)?;
            let mut each = self.inputs.into_iter().zip(gradients);
            return each.try_for_each(|(value, gradient)| reverse.add_gradient(value, gradient));
        }
        let gradients = with_slice(q, |q| {
            with_slice(k, |k| {
                with_slice(v, |v| with_slice(&d, |d| attention_backward(q, k, v, self.heads, sequences, scores, d)))
            })
        })????;
        let rows = d.dim(0)?;
        for (value, gradient) in self.inputs.into_iter().zip(gradients) {
            let width = gradient.len() / rows;
            reverse.add_gradient(value, Tensor::from_vec(gradient, (rows, width), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Two products with each pair of a token and one that it sees, and four for them in reverse (Dao et al. 2022,
    /// without their recomputation).
    fn cost(&self, _program: &Program) -> StepCost {
        let pair = 4.0 * self.heads.queries() as f64;
        StepCost { pair, reverse_pair: 2.0 * pair, ..StepCost::default() }
    }
}
