//! Root mean square normalisation, of whole rows or of every head in them.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute::{self, edit, with_slice};
use crate::model::ops::rms_norm_backward_add;

#[derive(Debug)]
pub struct Norm {
    pub norm: usize,
    pub eps: f32,
    pub input: Value,
    pub out: Value,
}

impl Step for Norm {
    fn reads(&self) -> Vec<Value> {
        vec![self.input]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        vec![self.input]
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let (x, weight) = (frame.get(self.input)?, frame.weights.norms[self.norm]);
        // The norm's own width divides a row into its heads.
        let rows = x.reshape(((), weight.len()))?;
        Ok(compute::rms_norm(&rows, weight, self.eps)?.reshape(x.shape())?)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let x = reverse.recorded(self.input)?.clone();
        with_slice(&x, |x| with_slice(&d, |d| reverse.watch.norm(self.norm, self.eps, x, d)))??;
        if !reverse.needs(self.input) {
            return Ok(());
        }
        let weight = reverse.weights.norms[self.norm];
        let dx = match reverse.take_gradient(self.input) {
            Some(dx) => dx,
            None => Tensor::zeros(x.shape(), x.dtype(), &Device::Cpu)?,
        };
        let add =
            |dx: &mut [f32]| with_slice(&x, |x| with_slice(&d, |d| rms_norm_backward_add(x, weight, self.eps, d, dx)));
        edit(&dx, add)???;
        reverse.add_gradient(self.input, dx)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
