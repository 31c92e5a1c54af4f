//! From a block's description to its steps, and to the tensors they read.

use std::ops::Range;

use super::description::{
    Attention, Block, Dense, Experts, Form, Inner, Linear, Norm, Norms, Projections, QueryKeyNorms, TensorShape,
};
use super::program::{INPUT, Program, Value};
use super::steps::{self, Step};
use crate::contract::module::Module;

impl Block {
    /// The steps of a block in a model of this width.
    pub fn compile(&self, hidden_size: usize) -> Program {
        let mut build = Builder { widths: vec![hidden_size], ..Builder::default() };
        let Block { attention, feed_forward, parallel, residual_factor } = self;
        let (after, factor) = (&attention.norms.after, *residual_factor);
        let mixed = build.attention(attention);
        let middle = build.join(attention.output, after, factor, INPUT, mixed);

        let start = build.steps.len();
        let after = &feed_forward.norms.after;
        let normed = build.norm_before(&feed_forward.norms, if *parallel { INPUT } else { middle });
        let output = match &feed_forward.form {
            Form::Dense(dense) => {
                let active = build.inner(dense, normed);
                build.join(dense.down, after, factor, middle, active)
            }
            Form::Experts(experts) => {
                let mixed = build.experts(experts, normed);
                build.add(after, factor, middle, mixed)
            }
        };
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
    norms: Vec<(Norm, usize)>,
    tensors: Vec<TensorShape>,
}

impl Builder {
    /// What attention's output matrix reads.
    fn attention(&mut self, attention: &Attention) -> Value {
        let normed = self.norm_before(&attention.norms, INPUT);
        let heads = attention.heads;
        let [mut query, mut key, value] = self.projections(attention, normed);
        if let Some(QueryKeyNorms { query: of_query, key: of_key, by_head }) = &attention.query_key_norms {
            let width = |all: usize| if *by_head { heads.dim } else { all };
            query = self.norm(of_query, width(heads.queries()), query);
            key = self.norm(of_key, width(heads.keys()), key);
        }
        if attention.rotary.choices().iter().any(Option::is_some) {
            [query, key] = [query, key].map(|input| {
                let out = self.value(self.widths[input]);
                self.step(steps::Rotary { input, out })
            });
        }
        let out = self.value(heads.queries());
        let (scale, soft_cap, window) = (attention.scale, attention.soft_cap, attention.window.clone());
        self.step(steps::Attention { heads, scale, soft_cap, window, inputs: [query, key, value], out })
    }

    fn projections(&mut self, attention: &Attention, normed: Value) -> [Value; 3] {
        let (queries, keys, dim) = (attention.heads.queries(), attention.heads.keys(), attention.heads.dim);
        match attention.projections {
            Projections::Separate { query, key, value } => {
                [(query, queries), (key, keys), (value, keys)].map(|(linear, width)| self.linear(linear, width, normed))
            }
            Projections::Fused(linear) => {
                let all = self.linear(linear, queries + 2 * keys, normed);
                [0..queries, queries..queries + keys, queries + keys..queries + 2 * keys]
                    .map(|range| self.columns(all, vec![range]))
            }
            Projections::FusedByHead(linear) => {
                let all = self.linear(linear, 3 * queries, normed);
                [0, 1, 2].map(|part| {
                    let of_head = |head: usize| (3 * head + part) * dim..(3 * head + part + 1) * dim;
                    self.columns(all, (0..attention.heads.heads).map(of_head).collect())
                })
            }
        }
    }

    /// What the feed-forward layer's last matrix reads.
    fn inner(&mut self, layer: &Dense, normed: Value) -> Value {
        let width = layer.width;
        let (gate, up) = match layer.inner {
            Inner::Gated { gate, up } => {
                let gate = self.linear(gate, width, normed);
                (gate, Some(self.linear(up, width, normed)))
            }
            Inner::FusedGated(both) => {
                let both = self.linear(both, 2 * width, normed);
                let [gate, up] = [0..width, width..2 * width].map(|range| self.columns(both, vec![range]));
                (gate, Some(up))
            }
            Inner::Plain(up) => (self.linear(up, width, normed), None),
        };
        let out = self.value(width);
        self.step(steps::Activation { kind: layer.activation, gate, up, out })
    }

    /// What the experts together add to the stream.
    fn experts(&mut self, layer: &Experts, normed: Value) -> Value {
        let stream = self.widths[normed];
        let logits = self.linear(layer.router, layer.count, normed);
        let weights = self.value(layer.count);
        let (chosen, normalized) = (layer.chosen, layer.normalized);
        self.step(steps::Router { input: logits, chosen, normalized, out: weights });
        let first = self.modules.len();
        for expert in 0..layer.count {
            for (name, out, inputs) in
                [(layer.gate, layer.width, stream), (layer.up, layer.width, stream), (layer.down, stream, layer.width)]
            {
                self.named_module(format!("{}.{expert}.{name}", layer.prefix), false, out, inputs);
            }
        }
        let mixed = self.value(stream);
        let modules = first..self.modules.len();
        self.step(steps::Experts { modules, chosen, kind: layer.activation, input: normed, weights, out: mixed });
        let Some(shared) = &layer.shared else { return mixed };
        let active = self.inner(&shared.expert, normed);
        let input = self.linear(shared.expert.down, stream, active);
        let gate = self.linear(shared.gate, 1, normed);
        let gated = self.value(stream);
        self.step(steps::SigmoidGate { input, gate, out: gated });
        let out = self.value(stream);
        self.step(steps::Add { base: mixed, input: gated, factor: 1.0, out })
    }

    /// base + factor * norm(input Wᵀ + b), with the norm where there is one.
    fn join(&mut self, linear: Linear, norm: &Option<Norm>, factor: f32, base: Value, input: Value) -> Value {
        let width = self.widths[base];
        if norm.is_none() && factor == 1.0 {
            let module = self.module(linear, width, self.widths[input]);
            let out = self.value(width);
            return self.step(steps::AddLinear { module, base, input, out });
        }
        let input = self.linear(linear, width, input);
        self.add(norm, factor, base, input)
    }

    /// base + factor * norm(input), with the norm where there is one.
    fn add(&mut self, norm: &Option<Norm>, factor: f32, base: Value, mut input: Value) -> Value {
        let width = self.widths[base];
        if let Some(norm) = norm {
            input = self.norm(norm, width, input);
        }
        let out = self.value(width);
        self.step(steps::Add { base, input, factor, out })
    }

    fn value(&mut self, width: usize) -> Value {
        self.widths.push(width);
        self.widths.len() - 1
    }

    fn step(&mut self, step: impl Step + 'static) -> Value {
        let out = step.writes();
        self.steps.push(Box::new(step));
        out
    }

    fn norm_before(&mut self, norms: &Norms, input: Value) -> Value {
        match &norms.before {
            Some(norm) => self.norm(norm, self.widths[input], input),
            None => input,
        }
    }

    /// Of rows of `width`, into which the input's rows are divided.
    fn norm(&mut self, norm: &Norm, width: usize, input: Value) -> Value {
        self.tensors.extend(norm.tensors(width));
        self.norms.push((norm.clone(), width));
        let out = self.value(self.widths[input]);
        self.step(steps::Norm { norm: self.norms.len() - 1, input, out })
    }

    fn linear(&mut self, linear: Linear, width: usize, input: Value) -> Value {
        let module = self.module(linear, width, self.widths[input]);
        let out = self.value(width);
        self.step(steps::Linear { module, input, out })
    }

    fn columns(&mut self, input: Value, ranges: Vec<Range<usize>>) -> Value {
        let out = self.value(ranges.iter().map(Range::len).sum());
        self.step(steps::Columns { input, ranges, out })
    }

    fn module(&mut self, Linear { name, bias }: Linear, out: usize, inputs: usize) -> usize {
        self.named_module(name.to_string(), bias, out, inputs)
    }

    fn named_module(&mut self, name: String, bias: bool, out: usize, inputs: usize) -> usize {
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
