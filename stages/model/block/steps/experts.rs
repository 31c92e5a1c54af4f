//! A mixture of experts: the sum over the experts of their weight times down(activation(gate(x)) * up(x)), each computed for
//! the tokens that chose it.

use std::ops::Range;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Step, StepCost};
use crate::model::block::frame::Frame;
use crate::model::block::program::{Program, Value};
use crate::model::block::reverse::Reverse;
use crate::model::compute::{self, Affine, to_host, with_slice};
use crate::model::ops::{self, gate_backward};

#[derive(Debug)]
pub struct Experts {
    /// Each expert's gate, up and down, one expert after the other.
    pub modules: Range<usize>,
    /// How many experts take each token.
    pub chosen: usize,
    pub kind: ops::Activation,
    pub input: Value,
    /// [tokens, experts], 0 where an expert was not chosen.
    pub weights: Value,
    pub out: Value,
}

/// The tokens of one expert.
struct Chosen {
    rows: Vec<u32>,
    weights: Vec<f32>,
}

impl Experts {
    fn chosen(&self, weights: &Tensor) -> Result<Vec<Chosen>> {
        let count = self.modules.len() / 3;
        let mut chosen: Vec<_> = (0..count).map(|_| Chosen { rows: Vec::new(), weights: Vec::new() }).collect();
        with_slice(&weights.to_device(&Device::Cpu)?, |weights| {
            for (row, weights) in weights.chunks_exact(count).enumerate() {
                for (expert, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                    chosen[expert].rows.push(row as u32);
                    chosen[expert].weights.push(*weight);
                }
            }
        })?;
        Ok(chosen)
    }

    fn of<'a>(&self, modules: &[Affine<'a>], expert: usize) -> [Affine<'a>; 3] {
        [0, 1, 2].map(|i| modules[self.modules.start + 3 * expert + i])
    }
}

impl Step for Experts {
    fn reads(&self) -> Vec<Value> {
        vec![self.input, self.weights]
    }

    fn writes(&self) -> Value {
        self.out
    }

    fn keeps(&self) -> Vec<Value> {
        self.reads()
    }

    fn modules(&self) -> Range<usize> {
        self.modules.clone()
    }

    fn forward(&self, frame: &mut Frame) -> Result<Tensor> {
        let x = frame.get(self.input)?;
        let mut out = Tensor::zeros(x.shape(), x.dtype(), x.device())?;
        for (expert, chosen) in self.chosen(frame.get(self.weights)?)?.into_iter().enumerate() {
            if chosen.rows.is_empty() {
                continue;
            }
            let [gate, up, down] = self.of(&frame.weights.modules, expert);
            let x = x.index_select(&Tensor::new(chosen.rows.as_slice(), x.device())?, 0)?;
            let active = compute::gate(self.kind, compute::linear(&x, gate)?, &compute::linear(&x, up)?)?;
            out = compute::add_rows(out, &compute::linear(&active, down)?, &chosen.rows, &chosen.weights)?;
        }
        Ok(out)
    }

    /// The inside of each expert is computed again. Its matrices are shown all tokens: d is 0 at those of other experts. On the
    /// CPU, wherever the states are.
    fn reverse(&self, d: Tensor, reverse: &mut Reverse) -> Result<()> {
        let (device, d) = (d.device().clone(), to_host(&d)?);
        let (input, weights) = (to_host(reverse.recorded(self.input)?)?, to_host(reverse.recorded(self.weights)?)?);
        let (tokens, count) = weights.dims2()?;
        let mut d_weights = vec![0f32; tokens * count];
        let mut dx = vec![0f32; input.elem_count()];
        for (expert, chosen) in self.chosen(&weights)?.into_iter().enumerate() {
            let first = self.modules.start + 3 * expert;
            let [gate, up, down] = self.of(&reverse.weights.modules, expert);
            let (stream, width) = (down.weight.out, down.weight.inputs);
            if chosen.rows.is_empty() {
                for (module, inputs, out) in
                    [(first, stream, width), (first + 1, stream, width), (first + 2, width, stream)]
                {
                    if reverse.watch.wants(module) {
                        reverse.watch.linear(module, &vec![0.0; tokens * inputs], &vec![0.0; tokens * out]);
                    }
                }
                continue;
            }
            let index = Tensor::new(chosen.rows.as_slice(), &Device::Cpu)?;
            let (x, mut d_out) = (input.index_select(&index, 0)?, vec_of(&d.index_select(&index, 0)?)?);
            let (mut d_gate, mut d_up) = (vec_of(&compute::linear(&x, gate)?)?, vec_of(&compute::linear(&x, up)?)?);
            let mut active = d_gate.clone();
            ops::gate(self.kind, &mut active, &d_up);
            if reverse.needs(self.weights) {
                let out = down.forward(&active);
                for ((row, out), d) in chosen.rows.iter().zip(out.chunks_exact(stream)).zip(d_out.chunks_exact(stream))
                {
                    d_weights[*row as usize * count + expert] = out.iter().zip(d).map(|(out, d)| out * d).sum();
                }
            }
            for (d, weight) in d_out.chunks_exact_mut(stream).zip(&chosen.weights) {
                d.iter_mut().for_each(|d| *d *= weight);
            }
            let spread = |values: &[f32], width: usize| {
                let mut all = vec![0.0; tokens * width];
                ops::add_rows(&mut all, values, &chosen.rows, None);
                all
            };
            if reverse.watch.wants(first + 2) {
                reverse.watch.linear(first + 2, &spread(&active, width), &spread(&d_out, stream));
            }
            let mut d_active = active;
            down.backward(&d_out, false, &mut d_active);
            gate_backward(self.kind, &mut d_gate, &mut d_up, &d_active);
            for (module, d) in [(first, &d_gate), (first + 1, &d_up)] {
                if reverse.watch.wants(module) {
                    with_slice(&input, |x| reverse.watch.linear(module, x, &spread(d, width)))?;
                }
            }
            if reverse.needs(self.input) {
                let mut of_input = vec_of(&x)?;
                gate.backward(&d_gate, false, &mut of_input);
                up.backward(&d_up, true, &mut of_input);
                ops::add_rows(&mut dx, &of_input, &chosen.rows, None);
            }
        }
        reverse.add_gradient(self.weights, Tensor::from_vec(d_weights, (tokens, count), &device)?)?;
        reverse.add_gradient(self.input, Tensor::from_vec(dx, input.shape(), &device)?)
    }

    fn inside(&self, program: &Program) -> usize {
        let module = &program.modules[self.modules.start];
        // Those of an expert that takes every token.
        2 * (module.inputs + module.out)
    }

    fn cost(&self, program: &Program) -> StepCost {
        let module = &program.modules[self.modules.start];
        let token = 6.0 * (self.chosen * module.out * module.inputs) as f64;
        StepCost { token, reverse_token: 2.0 * token, ..StepCost::default() }
    }
}

fn vec_of(x: &Tensor) -> Result<Vec<f32>> {
    with_slice(x, <[f32]>::to_vec)
}
