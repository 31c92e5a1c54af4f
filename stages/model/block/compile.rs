//! From a block's description to its steps, and to the tensors they read.

use super::description::{Block, Linear, Norm, TensorShape};
use super::program::{INPUT, Program, Value};
use super::steps::{self, Step};
use crate::contract::module::Module;

impl Block {
    /// The steps of a block in a model of this width.
    pub fn compile(&self, hidden_size: usize) -> Program {
        let mut build = Builder { widths: vec![hidden_size], ..Builder::default() };
        let attention = &self.attention;
        let (queries, keys, dim) = (attention.heads.queries(), attention.heads.keys(), attention.heads.dim);
        let normed = build.norm(&attention.norm, hidden_size, INPUT);
        let mut query = build.linear(attention.query, queries, normed);
        let mut key = build.linear(attention.key, keys, normed);
        let value = build.linear(attention.value, keys, normed);
        if let Some([of_query, of_key]) = &attention.head_norms {
            query = build.norm(of_query, dim, query);
            key = build.norm(of_key, dim, key);
        }
        let [query, key] = [query, key].map(|input| {
            let out = build.value(build.widths[input]);
            build.step(steps::Rotary { input, out })
        });
        let mixed = build.value(queries);
        let inputs = [query, key, value];
        let (heads, window) = (attention.heads, attention.window.clone());
        let (scale, soft_cap) = (attention.scale, attention.soft_cap);
        build.step(steps::Attention { heads, scale, soft_cap, window, inputs, out: mixed });
        let middle = build.add_linear(attention.output, INPUT, mixed);

        let start = build.steps.len();
        let feed_forward = &self.feed_forward;
        let normed = build.norm(&feed_forward.norm, hidden_size, middle);
        let gate = build.linear(feed_forward.gate, feed_forward.width, normed);
        let up = build.linear(feed_forward.up, feed_forward.width, normed);
        let active = build.value(feed_forward.width);
        build.step(steps::Activation { gate, up, out: active });
        let output = build.add_linear(feed_forward.down, middle, active);
        build.finish(output, start)
    }

    /// The linear layers, in the order of the forward pass.
    pub fn modules(&self, hidden_size: usize) -> Vec<Module> {
        self.compile(hidden_size).modules
    }

    /// The block's tensors, in the order of the forward pass, with their names below `model.layers.<l>.`.
    pub fn tensors(&self, hidden_size: usize) -> Vec<TensorShape> {
        self.compile(hidden_size).tensors
    }
}

#[derive(Default)]
struct Builder {
    steps: Vec<Box<dyn Step>>,
    widths: Vec<usize>,
    modules: Vec<Module>,
    biases: Vec<bool>,
    norms: Vec<(&'static str, usize)>,
    tensors: Vec<TensorShape>,
}

impl Builder {
    fn value(&mut self, width: usize) -> Value {
        self.widths.push(width);
        self.widths.len() - 1
    }

    fn step(&mut self, step: impl Step + 'static) -> Value {
        let out = step.writes();
        self.steps.push(Box::new(step));
        out
    }

    /// Of rows of `width`, into which the input's rows are divided.
    fn norm(&mut self, norm: &Norm, width: usize, input: Value) -> Value {
        self.tensors.push(TensorShape { name: format!("{}.weight", norm.name), shape: vec![width] });
        self.norms.push((norm.name, width));
        let out = self.value(self.widths[input]);
        self.step(steps::Norm { norm: self.norms.len() - 1, eps: norm.eps, input, out })
    }

    fn linear(&mut self, linear: Linear, width: usize, input: Value) -> Value {
        let module = self.module(linear, width, self.widths[input]);
        let out = self.value(width);
        self.step(steps::Linear { module, input, out })
    }

    fn add_linear(&mut self, linear: Linear, base: Value, input: Value) -> Value {
        let width = self.widths[base];
        let module = self.module(linear, width, self.widths[input]);
        let out = self.value(width);
        self.step(steps::AddLinear { module, base, input, out })
    }

    fn module(&mut self, Linear { name, bias }: Linear, out: usize, inputs: usize) -> usize {
        self.tensors.push(TensorShape { name: format!("{name}.weight"), shape: vec![out, inputs] });
        self.tensors.extend(bias.then(|| TensorShape { name: format!("{name}.bias"), shape: vec![out] }));
        self.modules.push(Module { name: name.into(), out, inputs });
        self.biases.push(bias);
        self.modules.len() - 1
    }

    fn finish(self, output: Value, feed_forward: usize) -> Program {
        let Builder { steps, widths, modules, biases, norms, tensors } = self;
        let mut kept = vec![false; widths.len()];
        steps.iter().flat_map(|step| step.keeps()).for_each(|value| kept[value] = true);
        let feed_forward = feed_forward..steps.len();
        Program { steps, widths, output, feed_forward, modules, biases, norms, tensors, kept }
    }
}
