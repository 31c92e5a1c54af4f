//! The reverse of a block: from the loss' gradient at its output down to what someone wants to see, showing every
//! linear layer's input x and output gradient d on the way.
//!
//! A weight's gradient is dᵀ x; of one example, the same sum over its tokens alone. Neither is computed here: whoever
//! watches gets x and d and makes of them what it needs. Gradients of values from which no wanted layer is reached are
//! not computed.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use super::program::{INPUT, Packing, Program, Tape, Value};
use super::weights::BlockWeights;
use crate::model::compute::{to_host, with_slice};

/// Watches the reverse pass of a block. Linear layers and norms are given by their numbers in the [`Program`].
pub trait Watch {
    /// Whether [`Watch::linear`] is to be called for this linear layer.
    fn wants(&self, module: usize) -> bool;

    /// The layer's input x [tokens, in] and the loss' gradient d [tokens, out] at its output.
    fn linear(&mut self, module: usize, x: &[f32], d: &[f32]);

    /// A norm's input x and the gradient d at its output, both [rows, width of the norm]. Called for the norms passed.
    fn norm(&mut self, _norm: usize, _x: &[f32], _d: &[f32]) {}
}

/// The reverse while its steps run.
pub struct Reverse<'a> {
    pub program: &'a Program,
    pub weights: &'a BlockWeights<'a>,
    pub packing: &'a Packing,
    tape: Vec<Option<Tensor>>,
    gradients: Vec<Option<Tensor>>,
    needed: Vec<bool>,
    at: usize,
    pub watch: &'a mut dyn Watch,
}

impl Program {
    /// From `d` [tokens, D], the loss' gradient at the block's output, down to its input, whose gradient is returned if
    /// `below` asks for it. Otherwise the pass ends at the lowest linear layer that `watch` wants, and returns nothing.
    ///
    /// # Errors
    /// When the tape is another program's, or the device fails.
    pub fn reverse(
        &self,
        weights: &BlockWeights,
        tape: Tape,
        d: Vec<f32>,
        packing: &Packing,
        below: bool,
        watch: &mut dyn Watch,
    ) -> Result<Option<Vec<f32>>> {
        let needed = self.needed(below, watch);
        let mut gradients = vec![None; self.widths.len()];
        let rows = d.len() / self.widths[self.output];
        let device = tape.values.iter().flatten().next().map_or(Device::Cpu, |value| value.device().clone());
        gradients[self.output] = Some(Tensor::from_vec(d, (rows, self.widths[self.output]), &device)?);
        let mut reverse =
            Reverse { program: self, weights, packing, tape: tape.values, gradients, needed, at: 0, watch };
        for (at, step) in self.steps.iter().enumerate().rev() {
            reverse.at = at;
            let out = step.writes();
            if !reverse.needed[out] {
                continue;
            }
            let d = reverse.gradients[out].take().with_context(|| format!("the gradient at value {out}"))?;
            step.reverse(d, &mut reverse)?;
            for value in step.reads() {
                if self.first_reader(value) == Some(at) {
                    reverse.tape[value] = None;
                }
            }
        }
        match below {
            true => {
                let d = reverse.gradients[INPUT].as_ref().context("the gradient at the input")?;
                with_slice(&to_host(d)?, |d| Some(d.to_vec()))
            }
            false => Ok(None),
        }
    }

    /// The values whose gradients lead to a wanted linear layer, or to the input where it is asked for.
    pub(super) fn needed(&self, below: bool, watch: &dyn Watch) -> Vec<bool> {
        let mut needed = vec![false; self.widths.len()];
        needed[INPUT] = below;
        for step in &self.steps {
            let wanted = step.modules().any(|module| watch.wants(module));
            needed[step.writes()] = wanted || step.reads().iter().any(|value| needed[*value]);
        }
        needed
    }
}

impl Reverse<'_> {
    /// Whether anyone below wants the gradient at this value.
    pub fn needs(&self, value: Value) -> bool {
        self.needed[value]
    }

    pub fn recorded(&self, value: Value) -> Result<&Tensor> {
        self.tape[value].as_ref().with_context(|| format!("value {value} was not recorded"))
    }

    /// A recorded value to be overwritten: its own memory where no other step's reverse reads it, else a copy.
    pub fn take_recorded(&mut self, value: Value) -> Result<Tensor> {
        match self.reuse_recorded(value) {
            Some(own) => Ok(own),
            None => Ok(self.recorded(value)?.copy()?),
        }
    }

    /// A recorded value's memory, where no other step's reverse reads it: for its gradient, which is as large.
    pub fn reuse_recorded(&mut self, value: Value) -> Option<Tensor> {
        let last = self.program.first_reader(value) == Some(self.at) && value != INPUT;
        if last { self.tape[value].take() } else { None }
    }

    /// The gradient so far at a value, taken out.
    pub fn take_gradient(&mut self, value: Value) -> Option<Tensor> {
        self.gradients[value].take()
    }

    /// Puts in the gradient at a value that has none yet, or adds to the one there is.
    pub fn add_gradient(&mut self, value: Value, d: Tensor) -> Result<()> {
        if !self.needs(value) {
            return Ok(());
        }
        let sum = match self.gradients[value].take() {
            None => d,
            Some(before) => (before + d)?,
        };
        self.gradients[value] = Some(sum);
        Ok(())
    }
}
