//! From a router's logits to the weights of the experts: of those chosen the softmax, of the others 0.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute::{edit, to_host, with_slice};
use crate::model::ops::{route, route_backward};

#[derive(Debug)]
pub struct Router {
    pub input: Value,
    /// How many experts take each token.
    pub chosen: usize,
    /// The chosen weights are divided by their sum.
    pub normalized: bool,
    pub out: Value,
}

impl Step for Router {
    fn reads(&self) -> Vec<Value> {
        vec![self.input]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        vec![self.input]
    }

    /// On the CPU, wherever the states are: which expert a token goes to is decided here.
    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let logits = frame.get(self.input)?;
        let weights = logits.to_device(&Device::Cpu)?.copy()?;
        let experts = weights.dim(1)?;
        edit(&weights, |weights| route(weights, experts, self.chosen, self.normalized))?;
        Ok(weights.to_device(logits.device())?)
    }

    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let (device, d) = (d.device().clone(), to_host(&d)?);
        let logits = &to_host(reverse.recorded(self.input)?)?;
        let experts = d.dim(1)?;
        let back = |d: &mut [f32]| {
            with_slice(logits, |logits| route_backward(logits, experts, self.chosen, self.normalized, d))
        };
        edit(&d, back)??;
        reverse.add_gradient(self.input, d.to_device(&device)?)
    }

    fn cost(&self, _program: &Program) -> StepCost {
        StepCost::default()
    }
}
