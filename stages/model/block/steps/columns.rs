//! Some columns of a value: queries, keys and values, or gate and up, that one matrix makes together.

use std::ops::Range;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::composed_reverse;
use crate::model::compute::{self, composes, edit, with_slice};
use crate::model::ops::add_to_columns;

#[derive(Debug)]
pub struct Columns {
    pub input: Value,
    /// In the order in which they stand in the output.
    pub ranges: Vec<Range<usize>>,
    pub out: Value,
}

impl Step for Columns {
    fn reads(&self) -> Vec<Value> {
        vec![self.input]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        Vec::new()
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        compute::columns(frame.get(self.input)?, &self.ranges)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        if !reverse.needs(self.input) {
            return Ok(());
        }
        let width = reverse.program.widths[self.input];
        if composes(&d) {
            return reverse.add_gradient(self.input, composed_reverse::columns(&d, width, &self.ranges)?);
        }
        let dx = match reverse.take_gradient(self.input) {
            Some(dx) => dx,
            None => Tensor::zeros((d.dim(0)?, width), d.dtype(), &Device::Cpu)?,
        };
        edit(&dx, |dx| with_slice(&d, |d| add_to_columns(d, &self.ranges, dx, width)))??;
        reverse.add_gradient(self.input, dx)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
