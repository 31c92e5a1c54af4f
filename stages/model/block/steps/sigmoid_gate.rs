//! sigmoid(gate) * input, the gate one number a token: a shared expert's.

use anyhow::Result;
use candle_core::Tensor;

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;

#[derive(Debug)]
pub struct SigmoidGate {
    pub input: Value,
    pub gate: Value,
    pub out: Value,
}

impl Step for SigmoidGate {
    fn reads(&self) -> Vec<Value> {
        vec![self.input, self.gate]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        self.reads()
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        Ok(frame.get(self.input)?.broadcast_mul(&sigmoid(frame.get(self.gate)?)?)?)
    }

    /// With s = sigmoid(gate): dinput = s d, dgate = s (1 - s) Σ input d.
    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let open = sigmoid(reverse.recorded(self.gate)?)?;
        if reverse.needs(self.gate) {
            let along = (reverse.recorded(self.input)? * &d)?.sum_keepdim(1)?;
            let slope = (&open * open.affine(-1.0, 1.0)?)?;
            reverse.add_gradient(self.gate, (slope * along)?)?;
        }
        reverse.add_gradient(self.input, d.broadcast_mul(&open)?)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((x.neg()?.exp()? + 1.0)?.recip()?)
}
