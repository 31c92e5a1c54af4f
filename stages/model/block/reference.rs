//! A block in f64 by plain loops, straight from its description: what the steps are held against.

use std::collections::BTreeMap;
use std::ops::Range;

use super::description::{Block, Dense, Experts, Form, Inner, Linear, Norm, Projections};
use crate::model::ops::{Activation, NormKind};

/// The stored tensors of a block by their names below `model.layers.<l>.`.
pub struct Reference<'a> {
    pub block: &'a Block,
    /// Which block it is, from 0.
    pub number: usize,
    pub tensors: &'a BTreeMap<String, Vec<f32>>,
}

type Rows = Vec<Vec<f64>>;

impl Reference<'_> {
    /// The output rows from the input rows.
    pub fn forward(&self, input: &[Vec<f64>], sequences: &[Range<usize>]) -> Rows {
        let Block { attention, feed_forward, parallel, residual_factor } = self.block;
        let factor = *residual_factor as f64;
        let read = self.maybe(&attention.norms.before, input.to_vec());
        let mixed: Rows = sequences.iter().flat_map(|rows| self.attend(&read[rows.clone()])).collect();
        let added = self.maybe(&attention.norms.after, self.linear(attention.output, &mixed));
        let middle = sum(input, &added, factor);
        let read = self.maybe(&feed_forward.norms.before, if *parallel { input.to_vec() } else { middle.clone() });
        let added = match &feed_forward.form {
            Form::Dense(dense) => self.dense(dense, &read),
            Form::Experts(experts) => read.iter().map(|row| self.experts(experts, row)).collect(),
        };
        let added = self.maybe(&feed_forward.norms.after, added);
        sum(&middle, &added, factor)
    }

    /// One sequence.
    fn attend(&self, x: &[Vec<f64>]) -> Rows {
        let attention = &self.block.attention;
        let (heads, dim) = (attention.heads, attention.heads.dim);
        let [mut q, mut k, v] = match attention.projections {
            Projections::Separate { query, key, value } => [query, key, value].map(|linear| self.linear(linear, x)),
            Projections::Fused(linear) => {
                let all = self.linear(linear, x);
                let (queries, keys) = (heads.queries(), heads.keys());
                [(0, queries), (queries, keys), (queries + keys, keys)]
                    .map(|(first, width)| all.iter().map(|row| row[first..first + width].to_vec()).collect())
            }
            Projections::FusedByHead(linear) => {
                let all = self.linear(linear, x);
                let part = |row: &Vec<f64>, part: usize| {
                    row.chunks(3 * dim).flat_map(|head| head[part * dim..(part + 1) * dim].to_vec()).collect()
                };
                [0, 1, 2].map(|i| all.iter().map(|row| part(row, i)).collect())
            }
        };
        if let Some(norms) = &attention.query_key_norms {
            for (rows, norm) in [(&mut q, &norms.query), (&mut k, &norms.key)] {
                for row in rows.iter_mut() {
                    let width = if norms.by_head { dim } else { row.len() };
                    *row = row.chunks(width).flat_map(|part| self.norm(norm, part)).collect();
                }
            }
        }
        if let Some(rotary) = attention.rotary.of(self.number) {
            let frequencies = rotary.frequencies(dim, x.len());
            for row in [&mut q, &mut k].into_iter().flat_map(|rows| rows.iter_mut().enumerate()) {
                let (position, row) = row;
                for head in row.chunks_mut(dim) {
                    for (i, frequency) in frequencies.iter().enumerate() {
                        let (sin, cos) = (position as f64 * *frequency as f64).sin_cos();
                        let (a, b) = (head[i], head[i + frequencies.len()]);
                        head[i] = rotary.factor() as f64 * (a * cos - b * sin);
                        head[i + frequencies.len()] = rotary.factor() as f64 * (b * cos + a * sin);
                    }
                }
            }
        }
        let window = attention.window.of(self.number).unwrap_or(usize::MAX);
        let of_head = |row: usize, head: usize| -> Vec<f64> {
            let kv = head / (heads.heads / heads.kv_heads);
            let first = (row + 1).saturating_sub(window);
            let weights: Vec<f64> = (first..=row)
                .map(|key| {
                    let score = dot(&q[row][head * dim..(head + 1) * dim], &k[key][kv * dim..(kv + 1) * dim]);
                    let score = score * attention.scale as f64;
                    attention.soft_cap.map_or(score, |cap| cap as f64 * (score / cap as f64).tanh()).exp()
                })
                .collect();
            let all: f64 = weights.iter().sum();
            let mix = |i: usize| weights.iter().zip(first..).map(|(w, key)| w / all * v[key][kv * dim + i]).sum();
            (0..dim).map(mix).collect()
        };
        (0..x.len()).map(|row| (0..heads.heads).flat_map(|head| of_head(row, head)).collect()).collect()
    }

    /// One token.
    fn experts(&self, layer: &Experts, x: &Vec<f64>) -> Vec<f64> {
        let one = std::slice::from_ref(x);
        let scores: Vec<f64> = self.linear(layer.router, one)[0].iter().map(|logit| logit.exp()).collect();
        let mut order: Vec<usize> = (0..layer.count).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let chosen = &order[..layer.chosen];
        let all: f64 = if layer.normalized { chosen.iter().map(|e| scores[*e]).sum() } else { scores.iter().sum() };
        let mut out = vec![0.0; x.len()];
        for expert in chosen {
            let product = |name: &str, x: &[f64]| -> Vec<f64> {
                let weight = &self.tensors[&format!("{}.{expert}.{name}.weight", layer.prefix)];
                weight.chunks(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| *w as f64 * x).sum()).collect()
            };
            let inner = product(layer.gate, x).into_iter().zip(product(layer.up, x));
            let inner: Vec<f64> = inner.map(|(gate, up)| active(layer.activation, gate) * up).collect();
            out.iter_mut().zip(product(layer.down, &inner)).for_each(|(out, y)| *out += scores[*expert] / all * y);
        }
        if let Some(shared) = &layer.shared {
            let open = 1.0 / (1.0 + (-self.linear(shared.gate, one)[0][0]).exp());
            let of_shared = &self.dense(&shared.expert, one)[0];
            out.iter_mut().zip(of_shared).for_each(|(out, y)| *out += open * y);
        }
        out
    }

    fn dense(&self, layer: &Dense, x: &[Vec<f64>]) -> Rows {
        let active = |x: f64| active(layer.activation, x);
        let gated = |gate: &[f64], up: &[f64]| gate.iter().zip(up).map(|(gate, up)| active(*gate) * up).collect();
        let inner: Rows = match layer.inner {
            Inner::Gated { gate, up } => {
                self.linear(gate, x).iter().zip(self.linear(up, x)).map(|(gate, up)| gated(gate, &up)).collect()
            }
            Inner::FusedGated(both) => {
                self.linear(both, x).iter().map(|row| gated(&row[..layer.width], &row[layer.width..])).collect()
            }
            Inner::Plain(up) => {
                self.linear(up, x).into_iter().map(|row| row.into_iter().map(active).collect()).collect()
            }
        };
        self.linear(layer.down, &inner)
    }

    fn linear(&self, Linear { name, bias }: Linear, x: &[Vec<f64>]) -> Rows {
        let weight = &self.tensors[&format!("{name}.weight")];
        let bias = bias.then(|| &self.tensors[&format!("{name}.bias")]);
        let of_row = |row: &Vec<f64>| {
            let products = weight.chunks(row.len()).map(|w| w.iter().zip(row).map(|(w, x)| *w as f64 * x).sum::<f64>());
            products.enumerate().map(|(i, product)| product + bias.map_or(0.0, |bias| bias[i] as f64)).collect()
        };
        x.iter().map(of_row).collect()
    }

    fn maybe(&self, norm: &Option<Norm>, x: Rows) -> Rows {
        match norm {
            Some(norm) => x.iter().map(|row| self.norm(norm, row)).collect(),
            None => x,
        }
    }

    fn norm(&self, norm: &Norm, x: &[f64]) -> Vec<f64> {
        let tensor = |kind: &str| &self.tensors[&format!("{}.{kind}", norm.name)];
        let mean = match norm.kind {
            NormKind::RootMeanSquare => 0.0,
            NormKind::Layer => x.iter().sum::<f64>() / x.len() as f64,
        };
        let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64 + norm.eps as f64;
        let scaled = x
            .iter()
            .zip(tensor("weight"))
            .map(|(x, weight)| (x - mean) / square.sqrt() * (*weight as f64 + norm.offset as f64));
        match norm.kind {
            NormKind::RootMeanSquare => scaled.collect(),
            NormKind::Layer => scaled.zip(tensor("bias")).map(|(x, bias)| x + *bias as f64).collect(),
        }
    }
}

fn sum(base: &[Vec<f64>], x: &[Vec<f64>], factor: f64) -> Rows {
    base.iter().zip(x).map(|(base, x)| base.iter().zip(x).map(|(base, x)| base + factor * x).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn active(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x * normal_distribution(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
    }
}

/// By Simpson's rule from 0.
fn normal_distribution(x: f64) -> f64 {
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    const STEPS: usize = 1000;
    let h = x / STEPS as f64;
    let weight = |i: usize| if i == 0 || i == STEPS { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    0.5 + h / 3.0 * (0..=STEPS).map(|i| weight(i) * density(i as f64 * h)).sum::<f64>()
}
