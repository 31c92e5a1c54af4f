//! A block's steps, and the forward pass over them.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::description::{Norm, TensorShape};
use super::frame::Frame;
use super::reverse::Watch;
use super::steps::{Step, StepCost};
use super::weights::BlockWeights;
use crate::contract::module::Module;
use crate::contract::per_block::PerBlock;
use crate::model::ops::{RotaryTable, Spans};

/// A value that a step reads or writes, by its number; the block's input is 0.
pub type Value = usize;

pub const INPUT: Value = 0;

/// Where the sequences lie in the rows, and the positions' rotations.
#[derive(Debug, Clone)]
pub struct Packing {
    pub sequences: Vec<Range<usize>>,
    /// As [`Spans::before`]. A pass that is recorded has none.
    pub before: Vec<Vec<Range<usize>>>,
    /// A table for each sequence, in the blocks that have rotary embeddings.
    pub rotary: PerBlock<Option<Vec<Arc<RotaryTable>>>>,
}

impl Packing {
    pub fn spans(&self) -> Spans<'_> {
        Spans { rows: &self.sequences, before: &self.before }
    }

    /// The number of rows.
    pub fn tokens(&self) -> usize {
        self.sequences.last().map_or(0, |rows| rows.end)
    }

    /// Some of the sequences, all of them there, their rows counted from the first of them.
    pub fn part(&self, sequences: Range<usize>) -> Packing {
        let first = self.sequences[sequences.start].start;
        let within = self.sequences[sequences.clone()].iter().map(|rows| rows.start - first..rows.end - first);
        let tables = |tables: &Option<Vec<_>>| tables.as_ref().map(|tables| tables[sequences.clone()].to_vec());
        Packing { sequences: within.collect(), before: Vec::new(), rotary: self.rotary.map(tables) }
    }
}

/// A block as steps. A value is written by one step; the last step writes the block's output.
#[derive(Debug)]
pub struct Program {
    pub(super) steps: Vec<Box<dyn Step>>,
    /// The number of columns of each value.
    pub(super) widths: Vec<usize>,
    pub(super) output: Value,
    /// The steps of the feed-forward layer, which go in chunks of rows: their values, several times as wide as the
    /// residual stream, stay small enough for the allocator to reuse.
    pub(super) feed_forward: Range<usize>,
    /// The linear layers, in the order in which the steps number them.
    pub modules: Vec<Module>,
    /// Whether each of them has a bias.
    pub biases: Vec<bool>,
    /// The norms and their widths, as the steps number them.
    pub norms: Vec<(Norm, usize)>,
    /// All tensors, in the order of the forward pass, with their names below `model.layers.<l>.`.
    pub(super) tensors: Vec<TensorShape>,
    /// Whether each value is read by the reverse.
    pub(super) kept: Vec<bool>,
}

/// What a block's reverse reads of its forward. Whoever is short of memory keeps the input alone and records again on
/// the way down.
pub struct Tape {
    pub(super) values: Vec<Option<Tensor>>,
}

/// Rows of a chunk of the feed-forward layer: with half as many a pass takes 3% longer, since weights are widened for each.
const CHUNK: usize = 1024;

impl Program {
    /// The block's output [tokens, D] from its input.
    ///
    /// # Errors
    /// When a tensor is not what an op expects, or the device fails.
    pub fn forward(&self, weights: &BlockWeights, input: &Tensor, packing: &Packing) -> Result<Tensor> {
        let mut frame = Frame::new(self, weights, packing, input, vec![false; self.widths.len()]);
        frame.run(0..self.feed_forward.start)?;
        frame.run_in_chunks(self.feed_forward.clone(), CHUNK)?;
        frame.run(self.feed_forward.end..self.steps.len())?;
        frame.values[self.output].take().context("the block's output")
    }

    /// The block's output, and what its reverse will read.
    ///
    /// # Errors
    /// As for [`Program::forward`].
    pub fn record(&self, weights: &BlockWeights, input: &Tensor, packing: &Packing) -> Result<(Tensor, Tape)> {
        let mut frame = Frame::new(self, weights, packing, input, self.kept.clone());
        frame.run(0..self.steps.len())?;
        let output = frame.values[self.output].take().context("the block's output")?;
        Ok((output, Tape { values: frame.values }))
    }

    /// What the reverse down to what `below` and `watch` ask for will read, as in [`Program::reverse`]. Steps that only lead to
    /// the block's output do not run. On the CPU.
    ///
    /// # Errors
    /// As for [`Program::forward`].
    pub fn record_for(
        &self,
        weights: &BlockWeights,
        input: &Tensor,
        packing: &Packing,
        below: bool,
        watch: &dyn Watch,
    ) -> Result<Tape> {
        let kept = self.kept_for(below, watch);
        let mut written = kept.clone();
        for step in self.steps.iter().rev() {
            if written[step.writes()] {
                step.reads().into_iter().for_each(|value| written[value] = true);
            }
        }
        let mut frame = Frame::new(self, weights, packing, input, kept);
        frame.run_for(&written)?;
        Ok(Tape { values: frame.values })
    }

    /// The values that the reverse reads on its way to what is asked for.
    fn kept_for(&self, below: bool, watch: &dyn Watch) -> Vec<bool> {
        let needed = self.needed(below, watch);
        let mut kept = vec![false; self.widths.len()];
        let steps = self.steps.iter().filter(|step| needed[step.writes()]);
        steps.flat_map(|step| step.keeps()).for_each(|value| kept[value] = true);
        kept
    }

    /// What one block takes, of all its steps.
    pub fn cost(&self) -> StepCost {
        self.steps.iter().map(|step| step.cost(self)).fold(StepCost::default(), |sum, step| sum + step)
    }

    /// Values of a token that are kept for the reverse.
    pub fn recorded(&self) -> usize {
        (0..self.widths.len()).filter(|value| self.kept[*value]).map(|value| self.widths[value]).sum()
    }

    /// The most values of a token that a forward pass holds at once, without those of the feed-forward layer, of which
    /// there are [`Program::chunked`] in all.
    pub fn held(&self) -> usize {
        let live = |at: usize| {
            let used = |value: Value| {
                let written = self.steps.iter().position(|step| step.writes() == value);
                written.is_none_or(|written| written <= at) && self.last_reader(value).is_some_and(|last| last >= at)
            };
            (0..self.widths.len()).filter(|value| used(*value)).map(|value| self.widths[value]).sum::<usize>()
                + self.widths[self.steps[at].writes()]
        };
        (0..self.feed_forward.start).map(live).max().unwrap_or(0)
    }

    /// Values of the feed-forward layer in memory at once, whatever the number of tokens.
    pub fn chunked(&self) -> usize {
        let steps = self.steps[self.feed_forward.clone()].iter();
        steps.map(|step| CHUNK * (self.widths[step.writes()] + step.inside(self))).sum()
    }

    /// The last step that reads the value.
    pub(super) fn last_reader(&self, value: Value) -> Option<usize> {
        self.steps.iter().rposition(|step| step.reads().contains(&value))
    }

    /// The first step that reads the value, and so the last whose reverse does.
    pub(super) fn first_reader(&self, value: Value) -> Option<usize> {
        self.steps.iter().position(|step| step.reads().contains(&value))
    }
}
