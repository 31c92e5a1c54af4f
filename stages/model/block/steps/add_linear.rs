//! base + x Wᵀ + b: what a layer writes to the residual stream, without a copy between.

use std::ops::Range;

use anyhow::Result;
use candle_core::Tensor;

use super::linear::{cost, input_gradient, show};
use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute;

#[derive(Debug)]
pub struct AddLinear {
    pub module: usize,
    pub base: Value,
    pub input: Value,
    pub out: Value,
}

impl Step for AddLinear {
    fn reads(&self) -> Vec<Value> {
        vec![self.base, self.input]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        vec![self.input]
    }

    fn modules(&self) -> Range<usize> {
        self.module..self.module + 1
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        compute::add_linear(frame.get(self.base)?, frame.get(self.input)?, frame.weights.modules[self.module])
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        show(self.module, self.input, &d, reverse)?;
        input_gradient(self.module, self.input, &d, reverse)?;
        reverse.add_gradient(self.base, d)
    }

    fn cost(&self, program: &Program) -> StepCost {
        cost(self.module, program)
    }
}
