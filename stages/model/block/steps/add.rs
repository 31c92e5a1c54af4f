//! base + factor * input: what a layer writes to the residual stream where a norm or a factor stands between.

use anyhow::Result;
use candle_core::Tensor;

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute;

#[derive(Debug)]
pub struct Add {
    pub base: Value,
    pub input: Value,
    pub factor: f32,
    pub out: Value,
}

impl Step for Add {
    fn reads(&self) -> Vec<Value> {
        vec![self.base, self.input]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        Vec::new()
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let input = frame.take(self.input)?;
        compute::add_scaled(frame.get(self.base)?, input, self.factor)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        if reverse.needs(self.input) {
            // Memory of its own: gradients are changed in place.
            let own = if self.factor == 1.0 { d.copy()? } else { (&d * self.factor as f64)? };
            reverse.add_gradient(self.input, own)?;
        }
        reverse.add_gradient(self.base, d)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
