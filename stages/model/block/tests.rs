//! A block's reverse: where it ends, and what it shows.

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};

use super::description::Block;
use super::{BlockWeights, Packing, Program, Watch};
use crate::contract::per_block::PerBlock;
use crate::model::compute::{Affine, with_slice};
use crate::model::family::common::{Biases, Sizes};
use crate::model::ops::test_values::values;
use crate::model::ops::{HeadShape, Matrix, RotaryTable};
use crate::model::rotary::{Rotary, Scaling};

const WIDTH: usize = 8;

/// A block of Llama's form.
fn llama() -> Block {
    let heads = HeadShape { heads: 2, kv_heads: 1, dim: 4 };
    let rotary = Rotary { theta: 100.0, scaling: Scaling::None };
    let eps = 1e-6;
    let sizes =
        Sizes { vocabulary: 1, hidden_size: WIDTH, intermediate_size: 12, layers: 1, heads, eps, rotary, tied: true };
    sizes.describe("test", Biases { query: false, output: false, feed_forward: false }).block
}

/// A block with weights of its own.
struct Bench {
    program: Program,
    /// Which block it is, from 0.
    number: usize,
    modules: Vec<(Vec<f32>, Option<Vec<f32>>)>,
    norms: Vec<Vec<f32>>,
    resident: OnceLock<Tensor>,
    rotary: Arc<RotaryTable>,
}

impl Bench {
    fn new(block: &Block) -> Bench {
        Bench::at(block, 0)
    }

    fn at(block: &Block, number: usize) -> Bench {
        let program = block.compile(WIDTH);
        let modules = program.modules.iter().zip(&program.biases).zip(1..).map(|((module, bias), seed)| {
            (values(module.out * module.inputs, seed), bias.then(|| values(module.out, 100 + seed)))
        });
        let norms = program.norms.iter().zip(20..).map(|((_, width), seed)| values(*width, seed));
        let (modules, norms) = (modules.collect(), norms.collect());
        let frequencies = block.attention.rotary.frequencies(block.attention.heads.dim);
        Bench {
            program,
            number,
            modules,
            norms,
            resident: OnceLock::new(),
            rotary: Arc::new(RotaryTable::new(&frequencies, 16)),
        }
    }

    fn weights(&self) -> BlockWeights<'_> {
        let modules = self.modules.iter().zip(&self.program.modules).map(|((weight, bias), module)| Affine {
            weight: Matrix::of(weight, module.out, module.inputs),
            bias: bias.as_deref(),
            resident: &self.resident,
        });
        let block = self.number;
        BlockWeights { block, modules: modules.collect(), norms: self.norms.iter().map(Vec::as_slice).collect() }
    }

    fn packing(&self, sequences: &[std::ops::Range<usize>]) -> Packing {
        Packing { sequences: sequences.to_vec(), rotary: self.rotary.clone() }
    }

    fn forward(&self, input: &[f32], sequences: &[std::ops::Range<usize>]) -> Vec<f32> {
        let out = self.program.forward(&self.weights(), &tensor(input), &self.packing(sequences)).unwrap();
        with_slice(&out, <[f32]>::to_vec).unwrap()
    }

    /// The reverse on the rows of `input`, watched for `wanted`.
    fn reverse(
        &self,
        input: &[f32],
        d: &[f32],
        sequences: &[std::ops::Range<usize>],
        wanted: &[usize],
        below: bool,
    ) -> (Seen, Option<Vec<f32>>) {
        let (weights, packing) = (self.weights(), self.packing(sequences));
        let (out, tape) = self.program.record(&weights, &tensor(input), &packing).unwrap();
        assert_eq!(with_slice(&out, <[f32]>::to_vec).unwrap(), self.forward(input, sequences));
        let mut seen = Seen { wanted: wanted.to_vec(), ..Seen::default() };
        let d = self.program.reverse(&weights, tape, d.to_vec(), &packing, below, &mut seen).unwrap();
        (seen, d)
    }
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, (values.len() / WIDTH, WIDTH), &Device::Cpu).unwrap()
}

#[derive(Default)]
struct Seen {
    wanted: Vec<usize>,
    linear: Vec<(usize, Vec<f32>, Vec<f32>)>,
    norms: Vec<usize>,
}

impl Watch for Seen {
    fn wants(&self, module: usize) -> bool {
        self.wanted.contains(&module)
    }

    fn linear(&mut self, module: usize, x: &[f32], d: &[f32]) {
        self.linear.push((module, x.to_vec(), d.to_vec()));
    }

    fn norm(&mut self, norm: usize, _eps: f32, _x: &[f32], _d: &[f32]) {
        self.norms.push(norm);
    }
}

const ALL: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];

#[test]
fn the_pass_ends_at_the_lowest_module_wanted_and_shows_the_same() {
    let bench = Bench::new(&llama());
    let (x, d, sequences) = (values(9 * 8, 30), values(9 * 8, 31), [0..4, 4..9]);
    let (all, bottom) = bench.reverse(&x, &d, &sequences, &ALL, true);
    assert_eq!(bottom.unwrap().len(), x.len());
    assert_eq!((all.linear.len(), all.norms.len()), (7, 2));
    // From mlp.down_proj down to self_attn.q_proj.
    for (module, norms) in [(6, 0), (5, 0), (4, 0), (3, 1), (0, 1)] {
        let (seen, bottom) = bench.reverse(&x, &d, &sequences, &[module], false);
        assert!(bottom.is_none());
        assert_eq!(seen.norms.len(), norms, "{module} goes no further down than it must");
        let expected: Vec<_> = all.linear.iter().filter(|shown| shown.0 == module).cloned().collect();
        assert_eq!(seen.linear, expected);
    }
    let (seen, bottom) = bench.reverse(&x, &d, &sequences, &[], true);
    assert!(seen.linear.is_empty() && bottom.is_some());
}

#[test]
fn a_sequence_has_the_same_gradients_alone_and_among_others() {
    let bench = Bench::new(&llama());
    let (x, d) = (values(9 * 8, 30), values(9 * 8, 31));
    let (all, bottom) = bench.reverse(&x, &d, &[0..4, 4..9], &ALL, true);
    let (alone, bottom_alone) = bench.reverse(&x[32..], &d[32..], std::slice::from_ref(&(0..5)), &ALL, true);
    assert_eq!(bottom.unwrap()[32..], bottom_alone.unwrap());
    for (all, alone) in all.linear.iter().zip(&alone.linear) {
        let (inputs, out) = (all.1.len() / 9, all.2.len() / 9);
        assert_eq!((&all.1[4 * inputs..], &all.2[4 * out..]), (&alone.1[..], &alone.2[..]), "{:?}", all.0);
    }
}

/// Rows of more than a chunk of the feed-forward layer.
#[test]
fn chunks_of_rows_do_not_change_the_bits() {
    let bench = Bench::new(&llama());
    let sequences: Vec<_> = (0..103).map(|i| i * 10..(i + 1) * 10).collect();
    let x = values(1030 * WIDTH, 32);
    let all = bench.forward(&x, &sequences);
    for i in [0, 51, 102] {
        let part = bench.forward(&x[i * 80..(i + 1) * 80], std::slice::from_ref(&(0..10)));
        assert_eq!(part, all[i * 80..(i + 1) * 80], "sequence {i}");
    }
}

/// Along d, the output's slope is what the gradients at the input and at every weight and bias say.
fn assert_gradients_are_slopes(block: &Block, what: &str) {
    assert_gradients_are_slopes_at(block, 0, what);
}

fn assert_gradients_are_slopes_at(block: &Block, number: usize, what: &str) {
    let bench = Bench::at(block, number);
    let sequences = [0..4, 4..9];
    let (x, d) = (values(9 * WIDTH, 33), values(9 * WIDTH, 34));
    let wanted: Vec<usize> = (0..bench.program.modules.len()).collect();
    let (seen, bottom) = bench.reverse(&x, &d, &sequences, &wanted, true);
    let loss = |bench: &Bench, x: &[f32]| -> f64 {
        bench.forward(x, &sequences).iter().zip(&d).map(|(y, d)| *y as f64 * *d as f64).sum()
    };
    const H: f32 = 1e-2;
    let direction = |len: usize, seed: u64| values(len, seed);
    let check = |slope: f64, gradient: &[f32], along: &[f32], name: &str| {
        let expected: f64 = gradient.iter().zip(along).map(|(g, a)| *g as f64 * *a as f64).sum();
        let length = |x: &[f32]| x.iter().map(|x| (*x as f64).powi(2)).sum::<f64>().sqrt();
        let scale = length(gradient) * length(along);
        assert!((slope - expected).abs() < 2e-3 * scale + 1e-4, "{what}, {name}: {slope} {expected} of {scale}");
    };
    let step = |x: &[f32], along: &[f32], h: f32| x.iter().zip(along).map(|(x, a)| x + h * a).collect::<Vec<f32>>();
    let along = direction(x.len(), 40);
    let slope = (loss(&bench, &step(&x, &along, H)) - loss(&bench, &step(&x, &along, -H))) / (2.0 * H as f64);
    check(slope, &bottom.unwrap(), &along, "input");
    for (module, input, d) in &seen.linear {
        let shape = &bench.program.modules[*module];
        let mut gradient = vec![0.0; shape.out * shape.inputs];
        crate::model::ops::weight_gradient_add(input, d, shape.out, shape.inputs, &mut gradient);
        let along = direction(gradient.len(), 41 + *module as u64);
        let moved = |h: f32| {
            let mut bench = Bench::at(block, number);
            bench.modules[*module].0 = step(&bench.modules[*module].0, &along, h);
            loss(&bench, &x)
        };
        check((moved(H) - moved(-H)) / (2.0 * H as f64), &gradient, &along, &shape.name);
    }
    for norm in 0..bench.norms.len() {
        assert!(seen.norms.contains(&norm), "{what}: norm {norm} was not passed");
    }
}

#[test]
fn gradients_of_a_block_are_its_slopes() {
    assert_gradients_are_slopes(&llama(), "llama");
    let mut block = llama();
    let attention = &mut block.attention;
    for linear in [&mut attention.query, &mut attention.key, &mut attention.value, &mut attention.output] {
        linear.bias = true;
    }
    let norm = |name| super::description::Norm { name, eps: 1e-6 };
    attention.head_norms = Some([norm("q_norm"), norm("k_norm")]);
    assert_gradients_are_slopes(&block, "biases and norms of heads");
}

#[test]
fn gradients_of_a_scaled_a_capped_and_a_windowed_attention_are_its_slopes() {
    let mut block = llama();
    block.attention.scale = 1.3;
    assert_gradients_are_slopes(&block, "scale");
    block.attention.soft_cap = Some(0.7);
    assert_gradients_are_slopes(&block, "scale and soft-cap");
    block.attention.window = PerBlock::listed(vec![Some(2), None]).unwrap();
    assert_gradients_are_slopes_at(&block, 1, "no window beside one");
    assert_gradients_are_slopes_at(&block, 2, "window");
}

#[test]
fn each_block_takes_its_own_window() {
    let with = |window| {
        let mut block = llama();
        block.attention.window = window;
        block
    };
    let (x, sequences) = (values(9 * WIDTH, 33), [0..4, 4..9]);
    let of = |window, number| Bench::at(&with(window), number).forward(&x, &sequences);
    let (all, two) = (of(PerBlock::all(None), 0), of(PerBlock::all(Some(2)), 0));
    // The first two tokens of a sequence see all there is.
    assert_eq!(all[..2 * WIDTH], two[..2 * WIDTH]);
    assert!(all[2 * WIDTH..3 * WIDTH] != two[2 * WIDTH..3 * WIDTH]);
    let alternating = PerBlock::listed(vec![Some(2), None]).unwrap();
    for (number, expected) in [(0, &two), (1, &all), (2, &two)] {
        assert_eq!(of(alternating.clone(), number), *expected, "block {number}");
    }
    // A window of the whole sequence is none.
    assert_eq!(of(PerBlock::all(Some(5)), 0), all);
}
