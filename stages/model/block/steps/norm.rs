//! Normalisation, of whole rows or of every head in them.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute::{self, edit, with_slice};

#[derive(Debug)]
pub struct Norm {
    pub norm: usize,
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
        let (description, width) = &frame.program.norms[self.norm];
        let x = frame.get(self.input)?;
        // The norm's own width divides a row into its heads.
        let rows = x.reshape(((), *width))?;
        let norm = frame.weights.norms[self.norm].of(description);
        Ok(compute::norm(&rows, norm)?.reshape(x.shape())?)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let x = reverse.recorded(self.input)?.clone();
        with_slice(&x, |x| with_slice(&d, |d| reverse.watch.norm(self.norm, x, d)))??;
        if !reverse.needs(self.input) {
            return Ok(());
        }
        let norm = reverse.weights.norms[self.norm].of(&reverse.program.norms[self.norm].0);
        let dx = match reverse.take_gradient(self.input) {
            Some(dx) => dx,
            None => Tensor::zeros(x.shape(), x.dtype(), &Device::Cpu)?,
        };
        edit(&dx, |dx| with_slice(&x, |x| with_slice(&d, |d| norm.backward_add(x, d, dx))))???;
        reverse.add_gradient(self.input, dx)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
