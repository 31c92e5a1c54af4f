//! Normalisation, of whole rows or of every head in them.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::composed_reverse;
use crate::model::compute::{self, composes, edit, to_host, with_slice};

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
        let (seen, d_seen) = (to_host(&x)?, to_host(&d)?);
        with_slice(&seen, |x| with_slice(&d_seen, |d| reverse.watch.norm(self.norm, x, d)))??;
        if !reverse.needs(self.input) {
            return Ok(());
        }
        let (description, width) = &reverse.program.norms[self.norm];
        let norm = reverse.weights.norms[self.norm].of(description);
        if composes(&d) {
            let rows = |x: &Tensor| x.reshape(((), *width));
            let dx = composed_reverse::norm(&rows(&x)?, norm, &rows(&d)?)?.reshape(x.shape())?;
            return reverse.add_gradient(self.input, dx);
        }
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
