//! x Wᵀ + b.

use std::ops::Range;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::composed_reverse;
use crate::model::compute::{self, composes, edit, to_host, with_slice};

#[derive(Debug)]
pub struct Linear {
    pub module: usize,
    pub input: Value,
    pub out: Value,
}

impl Step for Linear {
    fn reads(&self) -> Vec<Value> {
        vec![self.input]
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
        compute::linear(frame.get(self.input)?, frame.weights.modules[self.module])
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        show(self.module, self.input, &d, reverse)?;
        input_gradient(self.module, self.input, &d, reverse)
    }

    fn cost(&self, program: &Program) -> StepCost {
        cost(self.module, program)
    }
}

/// A product forwards and one in reverse.
pub fn cost(module: usize, program: &Program) -> StepCost {
    let module = &program.modules[module];
    let token = 2.0 * (module.out * module.inputs) as f64;
    StepCost { token, reverse_token: token, ..StepCost::default() }
}

/// Shows the layer's input and output gradient to a watch that wants them.
pub fn show(module: usize, input: Value, d: &Tensor, reverse: &mut Reverse) -> Result<()> {
    if !reverse.watch.wants(module) {
        return Ok(());
    }
    let (x, d) = (to_host(reverse.recorded(input)?)?, to_host(d)?);
    with_slice(&x, |x| with_slice(&d, |d| reverse.watch.linear(module, x, d)))?
}

/// d W, added to what other steps gave to the input's gradient.
pub fn input_gradient(module: usize, input: Value, d: &Tensor, reverse: &mut Reverse) -> Result<()> {
    if !reverse.needs(input) {
        return Ok(());
    }
    let layer = reverse.weights.modules[module];
    if composes(d) {
        return reverse.add_gradient(input, composed_reverse::linear(d, layer)?);
    }
    let (dx, add) = match reverse.take_gradient(input) {
        Some(dx) => (dx, true),
        None => match reverse.reuse_recorded(input) {
            Some(dx) => (dx, false),
            None => (Tensor::zeros((d.dim(0)?, layer.weight.inputs), d.dtype(), &Device::Cpu)?, false),
        },
    };
    with_slice(d, |d| edit(&dx, |dx| layer.backward(d, add, dx)))??;
    reverse.add_gradient(input, dx)
}
