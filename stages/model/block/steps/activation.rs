//! The inside of a feed-forward layer: activation(gate) * up, or activation(gate) alone.

use anyhow::Result;
use candle_core::Tensor;

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::composed_reverse;
use crate::model::compute::{self, composes, edit, with_slice};
use crate::model::ops::{self, activate_backward, gate_backward};

#[derive(Debug)]
pub struct Activation {
    pub kind: ops::Activation,
    pub gate: Value,
    pub up: Option<Value>,
    pub out: Value,
}

impl Step for Activation {
    fn reads(&self) -> Vec<Value> {
        std::iter::once(self.gate).chain(self.up).collect()
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        self.reads()
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let gate = frame.take(self.gate)?;
        match self.up {
            Some(up) => compute::gate(self.kind, gate, frame.get(up)?),
            None => compute::activate(self.kind, gate),
        }
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        if composes(&d) {
            let gate = reverse.recorded(self.gate)?;
            let Some(value) = self.up else {
                let dgate = composed_reverse::activate(self.kind, gate, &d)?;
                return reverse.add_gradient(self.gate, dgate);
            };
            let (dgate, dup) = composed_reverse::gate(self.kind, gate, reverse.recorded(value)?, &d)?;
            reverse.add_gradient(self.gate, dgate)?;
            return reverse.add_gradient(value, dup);
        }
        let gate = reverse.take_recorded(self.gate)?;
        match self.up {
            Some(value) => {
                let up = reverse.take_recorded(value)?;
                let both = |gate: &mut [f32]| edit(&up, |up| with_slice(&d, |d| gate_backward(self.kind, gate, up, d)));
                edit(&gate, both)???;
                reverse.add_gradient(self.gate, gate)?;
                reverse.add_gradient(value, up)
            }
            None => {
                edit(&gate, |gate| with_slice(&d, |d| activate_backward(self.kind, gate, d)))??;
                reverse.add_gradient(self.gate, gate)
            }
        }
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
