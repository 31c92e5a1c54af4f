//! The gate of a feed-forward layer: silu(gate) * up.

use anyhow::Result;
use candle_core::Tensor;

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute::{self, edit, with_slice};
use crate::model::ops::swiglu_backward;

#[derive(Debug)]
pub struct Activation {
    pub gate: Value,
    pub up: Value,
    pub out: Value,
}

impl Step for Activation {
    fn reads(&self) -> Vec<Value> {
        vec![self.gate, self.up]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        vec![self.gate, self.up]
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let gate = frame.take(self.gate)?;
        compute::swiglu(gate, frame.get(self.up)?)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let (gate, up) = (reverse.take_recorded(self.gate)?, reverse.take_recorded(self.up)?);
        let both = |gate: &mut [f32]| edit(&up, |up| with_slice(&d, |d| swiglu_backward(gate, up, d)));
        edit(&gate, both)???;
        reverse.add_gradient(self.gate, gate)?;
        reverse.add_gradient(self.up, up)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
