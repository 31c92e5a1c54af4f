//! Rotary embeddings of queries or keys, in the blocks that have them; the reverse turns back.

use anyhow::Result;
use candle_core::Tensor;

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::composed_reverse;
use crate::model::compute::{self, composes, edit};
use crate::model::ops::rope;

#[derive(Debug)]
pub struct Rotary {
    pub input: Value,
    pub out: Value,
}

impl Step for Rotary {
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
        let x = frame.take(self.input)?;
        match frame.packing.rotary.of(frame.weights.block) {
            Some(tables) => compute::rope(x, frame.packing.spans(), tables),
            None => Ok(x),
        }
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let (width, packing) = (d.dim(1)?, reverse.packing);
        if let Some(tables) = packing.rotary.of(reverse.weights.block) {
            if composes(&d) {
                let dx = composed_reverse::rope(&d, packing.spans(), tables)?;
                return reverse.add_gradient(self.input, dx);
            }
            edit(&d, |d| rope(d, width, packing.spans(), tables, true))?;
        }
        reverse.add_gradient(self.input, d)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
