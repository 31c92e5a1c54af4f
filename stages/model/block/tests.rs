//! A block's reverse: where it ends, and what it shows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};

use super::description::{
    Block, Dense, Experts, Form, Inner, Linear, Norm, Norms, Projections, QueryKeyNorms, SharedExpert, TensorShape,
};
use super::reference::Reference;
use super::{BlockWeights, NormWeights, Packing, Program, Watch};
use crate::contract::per_block::PerBlock;
use crate::model::compute::{Affine, with_slice};
use crate::model::family::common::{Biases, Sizes, rms_norm};
use crate::model::ops::test_values::{values, worst_relative};
use crate::model::ops::{Activation, HeadShape, Matrix, NormKind, bias_gradient_add, weight_gradient_add};
use crate::model::rotary::{Rotary, Scaling, Yarn};
use crate::model::rotary_tables::RotaryTables;

const WIDTH: usize = 8;

/// A block of Llama's form.
fn llama() -> Block {
    let sizes = Sizes {
        vocabulary: 1,
        hidden_size: WIDTH,
        intermediate_size: 12,
        layers: 1,
        heads: HeadShape { heads: 2, kv_heads: 1, dim: 4 },
        eps: 1e-6,
        activation: Activation::Silu,
        rotary: Rotary::new(100.0),
        tied: true,
    };
    sizes.describe("test", Biases::default()).block
}

fn dense(block: &mut Block) -> &mut Dense {
    match &mut block.feed_forward.form {
        Form::Dense(dense) => dense,
        Form::Experts(_) => panic!("a mixture of experts"),
    }
}

/// A block with weights of its own.
struct Bench {
    block: Block,
    program: Program,
    /// Which block it is, from 0.
    number: usize,
    tensors: BTreeMap<String, Vec<f32>>,
    resident: OnceLock<Tensor>,
    rotary: RotaryTables,
}

impl Bench {
    fn new(block: &Block) -> Bench {
        Bench::at(block, 0)
    }

    fn at(block: &Block, number: usize) -> Bench {
        let tensors = block.tensors(WIDTH).into_iter().zip(1..);
        let tensors = tensors.map(|(TensorShape { name, shape }, seed)| (name, values(shape.iter().product(), seed)));
        let rotary = RotaryTables::new(block.attention.rotary.clone(), block.attention.heads.dim);
        let program = block.compile(WIDTH);
        let tensors = tensors.collect();
        Bench { block: block.clone(), program, number, tensors, resident: OnceLock::new(), rotary }
    }

    fn weights(&self) -> BlockWeights<'_> {
        let tensor = |name: &str, kind: &str| self.tensors[&format!("{name}.{kind}")].as_slice();
        let modules = self.program.modules.iter().zip(&self.program.biases).map(|(module, bias)| Affine {
            weight: Matrix::of(tensor(&module.name, "weight"), module.out, module.inputs),
            bias: bias.then(|| tensor(&module.name, "bias")),
            update: None,
            resident: &self.resident,
        });
        let norms = self.program.norms.iter().map(|(norm, _)| {
            let bias = (norm.kind == NormKind::Layer).then(|| tensor(norm.name, "bias"));
            NormWeights::new(norm, tensor(norm.name, "weight"), bias)
        });
        BlockWeights { block: self.number, modules: modules.collect(), norms: norms.collect() }
    }

    fn packing(&self, sequences: &[Range<usize>]) -> Packing {
        let lengths: Vec<usize> = sequences.iter().map(Range::len).collect();
        Packing { sequences: sequences.to_vec(), before: Vec::new(), rotary: self.rotary.of(&lengths) }
    }

    fn forward(&self, input: &[f32], sequences: &[Range<usize>]) -> Vec<f32> {
        let out = self.program.forward(&self.weights(), &tensor(input), &self.packing(sequences)).unwrap();
        with_slice(&out, <[f32]>::to_vec).unwrap()
    }

    /// The reverse on the rows of `input`, watched for `wanted`.
    fn reverse(
        &self,
        input: &[f32],
        d: &[f32],
        sequences: &[Range<usize>],
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
    norms: Vec<(usize, Vec<f32>, Vec<f32>)>,
}

impl Watch for Seen {
    fn wants(&self, module: usize) -> bool {
        self.wanted.contains(&module)
    }

    fn linear(&mut self, module: usize, x: &[f32], d: &[f32]) {
        self.linear.push((module, x.to_vec(), d.to_vec()));
    }

    fn norm(&mut self, norm: usize, x: &[f32], d: &[f32]) {
        self.norms.push((norm, x.to_vec(), d.to_vec()));
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
    const H: f32 = 5e-3;
    let step = |x: &[f32], along: &[f32], h: f32| x.iter().zip(along).map(|(x, a)| x + h * a).collect::<Vec<f32>>();
    // `moved(direction, h)` is the loss that far along the direction.
    let check = |gradient: &[f32], seed: u64, name: &str, moved: &dyn Fn(&[f32], f32) -> f64| {
        let along = values(gradient.len(), seed);
        let apart = |h: f32| moved(&along, h) - moved(&along, -h);
        let slope = (8.0 * apart(H) - apart(2.0 * H)) / (12.0 * H as f64);
        let expected: f64 = gradient.iter().zip(&along).map(|(g, a)| *g as f64 * *a as f64).sum();
        let length = |x: &[f32]| x.iter().map(|x| (*x as f64).powi(2)).sum::<f64>().sqrt();
        let scale = length(gradient) * length(&along);
        assert!((slope - expected).abs() < 2e-3 * scale + 1e-4, "{what}, {name}: {slope} {expected} of {scale}");
    };
    let of_tensor = |name: String, gradient: &[f32], seed: u64| {
        check(gradient, seed, &name, &|along, h| {
            let mut bench = Bench::at(block, number);
            let tensor = bench.tensors.get_mut(&name).unwrap();
            *tensor = step(tensor, along, h);
            loss(&bench, &x)
        });
    };
    check(&bottom.unwrap(), 40, "input", &|along, h| loss(&bench, &step(&x, along, h)));
    for (module, input, d) in &seen.linear {
        let (shape, seed) = (&bench.program.modules[*module], 41 + *module as u64);
        let mut gradient = vec![0.0; shape.out * shape.inputs];
        weight_gradient_add(input, d, shape.out, shape.inputs, &mut gradient);
        of_tensor(format!("{}.weight", shape.name), &gradient, seed);
        if bench.program.biases[*module] {
            let mut gradient = vec![0.0; shape.out];
            bias_gradient_add(d, &mut gradient);
            of_tensor(format!("{}.bias", shape.name), &gradient, seed);
        }
    }
    assert_eq!((seen.linear.len(), seen.norms.len()), (wanted.len(), bench.program.norms.len()), "{what}");
    for (number, input, d) in &seen.norms {
        let (norm, width) = &bench.program.norms[*number];
        let mut gradient = vec![0.0; *width];
        norm.kind.weight_gradient_add(input, norm.eps, d, &mut gradient);
        of_tensor(format!("{}.weight", norm.name), &gradient, 80);
        if norm.kind == NormKind::Layer {
            let mut gradient = vec![0.0; *width];
            bias_gradient_add(d, &mut gradient);
            of_tensor(format!("{}.bias", norm.name), &gradient, 81);
        }
    }
}

/// The forward pass is that of the block in f64.
fn assert_is_the_reference(block: &Block, number: usize, what: &str) {
    let bench = Bench::at(block, number);
    let sequences = [0..4, 4..9];
    let x = values(9 * WIDTH, 33);
    let rows: Vec<Vec<f64>> = x.chunks(WIDTH).map(|row| row.iter().map(|x| *x as f64).collect()).collect();
    let expected = Reference { block: &bench.block, number, tensors: &bench.tensors }.forward(&rows, &sequences);
    let expected: Vec<f64> = expected.concat();
    let scale = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    let error = worst_relative(&bench.forward(&x, &sequences), &expected, scale);
    assert!(error < 2e-6, "{what}: {error:e}");
}

#[track_caller]
fn assert_right(block: &Block, what: &str) {
    for number in 0..2 {
        assert_is_the_reference(block, number, what);
    }
    assert_gradients_are_slopes(block, what);
}

#[test]
fn gradients_of_a_block_are_its_slopes() {
    assert_right(&llama(), "llama");
    let mut block = llama();
    let linear = |name| Linear { name, bias: true };
    block.attention.projections = Projections::Separate { query: linear("q"), key: linear("k"), value: linear("v") };
    block.attention.output.bias = true;
    let norms = |by_head| QueryKeyNorms { query: rms_norm("q_norm", 1e-6), key: rms_norm("k_norm", 1e-6), by_head };
    block.attention.query_key_norms = Some(norms(true));
    assert_right(&block, "biases and norms of heads");
    block.attention.query_key_norms = Some(norms(false));
    assert_right(&block, "norms of whole queries and keys");
}

/// The norms after the layers too.
fn with_norms_after(mut block: Block) -> Block {
    block.attention.norms.after = Some(rms_norm("after_attention", 1e-6));
    block.feed_forward.norms.after = Some(rms_norm("after_feed_forward", 1e-6));
    block
}

#[test]
fn norms_stand_before_and_after_a_layer() {
    let mut block = with_norms_after(llama());
    assert_right(&block, "before and after");
    for norms in [&mut block.attention.norms, &mut block.feed_forward.norms] {
        for norm in [&mut norms.before, &mut norms.after].into_iter().flatten() {
            norm.offset = 1.0;
        }
    }
    assert_right(&block, "distances from 1");
    block.attention.norms.before = None;
    block.feed_forward.norms.before = None;
    assert_right(&block, "after alone");
    let layer = |name| Norm { kind: NormKind::Layer, ..rms_norm(name, 1e-5) };
    block.attention.norms = Norms { before: Some(layer("one")), after: None };
    block.feed_forward.norms = Norms { before: Some(layer("two")), after: Some(layer("three")) };
    assert_right(&block, "layer norms");
}

#[test]
fn feed_forward_layers_have_their_activations_with_and_without_a_gate() {
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
        let mut block = llama();
        dense(&mut block).activation = activation;
        if activation != Activation::Relu {
            assert_right(&block, &format!("{activation:?}"));
        }
        assert_is_the_reference(&block, 0, &format!("{activation:?}"));
        dense(&mut block).inner = Inner::Plain(Linear { name: "up", bias: true });
        dense(&mut block).down.bias = true;
        if activation != Activation::Relu {
            assert_right(&block, &format!("{activation:?} without a gate"));
        }
        assert_is_the_reference(&block, 0, &format!("{activation:?} without a gate"));
    }
}

#[test]
fn projections_may_be_one_matrix() {
    let linear = |name| Linear { name, bias: true };
    let mut block = llama();
    block.attention.projections = Projections::Fused(linear("qkv"));
    dense(&mut block).inner = Inner::FusedGated(linear("gate_up"));
    assert_right(&block, "fused");
    block.attention.heads = HeadShape { heads: 3, kv_heads: 3, dim: 4 };
    block.attention.projections = Projections::FusedByHead(linear("query_key_value"));
    assert_right(&block, "fused by head");
}

fn experts() -> Experts {
    Experts {
        count: 5,
        chosen: 2,
        normalized: false,
        router: Linear { name: "router", bias: false },
        prefix: "experts",
        gate: "gate",
        up: "up",
        down: "down",
        width: 6,
        activation: Activation::Silu,
        shared: None,
    }
}

#[test]
fn experts_take_the_tokens_that_a_router_gives_them() {
    let mut block = llama();
    let shared_expert = dense(&mut block).clone();
    block.feed_forward.form = Form::Experts(experts());
    assert_right(&block, "experts");
    block.feed_forward.form = Form::Experts(Experts { normalized: true, ..experts() });
    assert_right(&block, "normalized");
    let shared = Some(SharedExpert { expert: shared_expert, gate: Linear { name: "shared_gate", bias: false } });
    block.feed_forward.form = Form::Experts(Experts { shared, chosen: 1, ..experts() });
    assert_right(&block, "a shared expert");
    assert_right(&with_norms_after(block), "a norm after");
}

/// Of sixty-four experts and nine tokens most have none.
#[test]
fn an_expert_without_tokens_has_a_gradient_of_zero() {
    let mut block = llama();
    block.feed_forward.form = Form::Experts(Experts { count: 64, ..experts() });
    let bench = Bench::new(&block);
    let (x, d) = (values(9 * WIDTH, 33), values(9 * WIDTH, 34));
    let wanted: Vec<usize> = (0..bench.program.modules.len()).collect();
    let (seen, _) = bench.reverse(&x, &d, &[0..4, 4..9], &wanted, true);
    assert_eq!(seen.linear.len(), 4 + 1 + 3 * 64);
    let mut without = 0;
    for (module, x, d) in &seen.linear {
        let shape = &bench.program.modules[*module];
        assert_eq!((x.len(), d.len()), (9 * shape.inputs, 9 * shape.out), "{}", shape.name);
        without += (shape.name.starts_with("experts") && d.iter().all(|d| *d == 0.0)) as usize;
    }
    assert!((3 * 46..3 * 64).contains(&without), "{without}");
}

#[test]
fn the_residual_stream_takes_a_factor_and_layers_beside_each_other() {
    let mut block = llama();
    block.residual_factor = 0.22;
    assert_right(&block, "factor");
    block.parallel = true;
    assert_right(&block, "factor, parallel");
    block.residual_factor = 1.0;
    assert_right(&block, "parallel");
    assert_right(&with_norms_after(block), "parallel, norms after");
}

#[test]
fn a_block_has_its_own_rotary_embeddings_or_none() {
    let mut block = llama();
    let rotary = |share, scaling| Some(Rotary { theta: 100.0, share, scaling });
    let mut check = |scaling: Scaling, what: &str| {
        for share in [1.0, 0.5] {
            let listed = vec![rotary(share, scaling.clone()), rotary(1.0, Scaling::None), None];
            block.attention.rotary = PerBlock::listed(listed).unwrap();
            for number in 0..3 {
                assert_is_the_reference(&block, number, &format!("{what}, {share} of a head, block {number}"));
                assert_gradients_are_slopes_at(&block, number, what);
            }
        }
    };
    check(Scaling::Linear { factor: 2.0 }, "linear");
    let yarn = Yarn {
        factor: 4.0,
        beta_fast: 2.0,
        beta_slow: 0.1,
        truncate: false,
        original_positions: 8.0,
        attention_factor: 1.2,
    };
    check(Scaling::Yarn(yarn), "yarn");
    // One sequence of the two is longer than four tokens.
    check(Scaling::Dynamic { factor: 2.0, original_positions: 4 }, "dynamic");
    let (short, long) = (vec![1.0, 1.5], vec![2.0, 4.0]);
    let longrope = |short, long| Scaling::LongRope { short, long, original_positions: 4, attention_factor: 1.1 };
    check(longrope(short, long), "longrope");
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
