//! The values of one forward pass through a block while its steps run.

use std::ops::Range;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::program::{INPUT, Packing, Program, Value};
use super::weights::BlockWeights;

pub struct Frame<'a> {
    pub program: &'a Program,
    pub weights: &'a BlockWeights<'a>,
    pub packing: &'a Packing,
    pub values: Vec<Option<Tensor>>,
    /// The step that runs.
    at: usize,
    /// Values that stay after their last use.
    kept: Vec<bool>,
    /// The last step that runs and reads each value.
    last_reader: Vec<Option<usize>>,
    /// Values that others hold too, so that no step may write into their memory.
    shared: Vec<bool>,
    /// Of a chunk, the values that no step reads any more.
    spent: Vec<Tensor>,
    in_chunk: bool,
}

impl<'a> Frame<'a> {
    pub fn new(
        program: &'a Program,
        weights: &'a BlockWeights<'a>,
        packing: &'a Packing,
        input: &Tensor,
        kept: Vec<bool>,
    ) -> Frame<'a> {
        let last_reader = (0..program.widths.len()).map(|value| program.last_reader(value)).collect();
        let mut values = vec![None; program.widths.len()];
        values[INPUT] = Some(input.clone());
        let mut shared = vec![false; values.len()];
        shared[INPUT] = true;
        Frame {
            program,
            weights,
            packing,
            values,
            at: 0,
            kept,
            last_reader,
            shared,
            spent: Vec::new(),
            in_chunk: false,
        }
    }

    /// Runs the steps that write these values, and no others.
    pub fn run_for(&mut self, values: &[bool]) -> Result<()> {
        let program = self.program;
        let runs: Vec<usize> = (0..program.steps.len()).filter(|at| values[program.steps[*at].writes()]).collect();
        self.last_reader = (0..values.len())
            .map(|value| runs.iter().copied().rfind(|at| program.steps[*at].reads().contains(&value)))
            .collect();
        runs.into_iter().try_for_each(|at| self.run(at..at + 1))
    }

    /// Runs these steps, dropping each value after its last use, in a chunk after the chunk.
    pub fn run(&mut self, steps: Range<usize>) -> Result<()> {
        for at in steps {
            self.at = at;
            let step = &self.program.steps[at];
            let out = step.forward(self)?;
            for value in step.reads() {
                if self.is_last_use(value)
                    && let Some(spent) = self.values[value].take()
                    && self.in_chunk
                {
                    self.spent.push(spent);
                }
            }
            self.values[step.writes()] = Some(out);
        }
        Ok(())
    }

    /// Runs these steps, of which the last writes all that later steps read, on chunks of rows.
    ///
    /// A chunk's output is allocated while its other values are there. Otherwise it may lie below them, and the allocator
    /// gives the memory at the end of the heap back to the system for every chunk, which costs a sixth of a pass.
    pub fn run_in_chunks(&mut self, steps: Range<usize>, chunk: usize) -> Result<()> {
        let Some(out) = steps.clone().last().map(|last| self.program.steps[last].writes()) else { return Ok(()) };
        let from_before: Vec<(Value, Tensor)> =
            self.values.iter().enumerate().filter_map(|(value, states)| Some((value, states.clone()?))).collect();
        let rows = from_before.first().context("a value before the feed-forward layer")?.1.dim(0)?;
        let mut parts = Vec::new();
        self.in_chunk = true;
        for start in (0..rows).step_by(chunk) {
            for (value, states) in &from_before {
                self.values[*value] = Some(states.narrow(0, start, chunk.min(rows - start))?);
                self.shared[*value] = true;
            }
            self.run(steps.clone())?;
            parts.push(self.values[out].take().context("the feed-forward layer's output")?);
            self.spent.clear();
        }
        self.in_chunk = false;
        for (value, states) in from_before {
            self.values[value] = self.last_reader[value].is_some_and(|last| last >= steps.end).then_some(states);
        }
        self.values[out] = Some(Tensor::cat(&parts, 0)?);
        Ok(())
    }

    pub fn get(&self, value: Value) -> Result<&Tensor> {
        self.values[value].as_ref().with_context(|| format!("value {value} is read before it is written"))
    }

    /// The value to be overwritten: its own memory at its last use, a copy before.
    pub fn take(&mut self, value: Value) -> Result<Tensor> {
        if self.is_last_use(value) && !self.shared[value] {
            return self.values[value].take().with_context(|| format!("value {value} is read before it is written"));
        }
        Ok(self.get(value)?.copy()?)
    }

    fn is_last_use(&self, value: Value) -> bool {
        self.last_reader[value] == Some(self.at) && !self.kept[value]
    }
}
