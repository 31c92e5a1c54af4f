//! The CPU kernels at the shapes of Qwen2.5-0.5B, 512 tokens: `cargo bench --workspace --bench kernels`. Items are floating-point
//! operations of products, and values of everything else.

use std::ops::Range;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use strata_stages::model::ops::{
    Activation, HeadShape, Matrix, Precision, RotaryTable, Scores, Spans, Values, attention, attention_backward,
    cross_entropy_backward, gate, gate_backward, linear as linear_into, linear_backward, linear_new, log_softmax,
    rms_norm_backward_add, rms_norm_new, rope, weight_gradient_add,
};

const TOKENS: usize = 512;
const WIDTH: usize = 896;
const INNER: usize = 4864;
const VOCABULARY: usize = 151_936;
const HEADS: HeadShape = HeadShape { heads: 14, kv_heads: 2, dim: 64 };
const SCORES: Scores = Scores { scale: 0.125, soft_cap: None, window: None };

/// [tokens, inputs, outputs]: a block's two largest products, its smallest, and the output head's.
const SHAPES: [[usize; 3]; 4] =
    [[TOKENS, WIDTH, INNER], [TOKENS, INNER, WIDTH], [TOKENS, WIDTH, 128], [220, WIDTH, VOCABULARY]];

fn main() {
    divan::main();
}

/// Between -1 and 1, without a pattern that a cache or a branch would learn.
fn values(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Where the one sequence lies.
fn one_sequence() -> Vec<Range<usize>> {
    std::iter::once(0..TOKENS).collect()
}

/// The upper halves of floats: bf16 as it lies in a file.
fn bf16_bytes(count: usize) -> Vec<u8> {
    values(count).iter().flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()).collect()
}

#[derive(Debug, Clone, Copy)]
enum Of {
    /// Weights and products in f32.
    F32,
    /// Weights in bf16, products in f32.
    Widened,
    /// Both in bf16.
    Bf16,
}

/// Calls `with` with a weight matrix of that kind.
fn with_weight(of: Of, out: usize, inputs: usize, with: impl FnOnce(Matrix)) {
    match of {
        Of::F32 => with(Matrix::of(&values(out * inputs), out, inputs)),
        Of::Widened => with(Matrix::new(Values::Bf16(&bf16_bytes(out * inputs)), out, inputs)),
        Of::Bf16 => {
            let bytes = bf16_bytes(out * inputs);
            with(Matrix::new(Values::Bf16(&bytes), out, inputs).in_precision(Precision::Bf16));
        }
    }
}

fn products() -> impl Iterator<Item = (Of, [usize; 3])> {
    [Of::F32, Of::Widened, Of::Bf16].into_iter().flat_map(|of| SHAPES.map(|shape| (of, shape)))
}

#[divan::bench(args = products())]
fn linear(bencher: Bencher, (of, [rows, inputs, out]): (Of, [usize; 3])) {
    let x = values(rows * inputs);
    with_weight(of, out, inputs, |weight| {
        bencher.counter(ItemsCount::new(2 * rows * inputs * out)).bench_local(|| linear_new(&x, weight, None));
    });
}

#[divan::bench(args = products())]
fn linear_reverse(bencher: Bencher, (of, [rows, inputs, out]): (Of, [usize; 3])) {
    let (d, mut dx) = (values(rows * out), vec![0.0; rows * inputs]);
    with_weight(of, out, inputs, |weight| {
        let bencher = bencher.counter(ItemsCount::new(2 * rows * inputs * out));
        bencher.bench_local(|| linear_backward(&d, weight, false, &mut dx));
    });
}

/// The output head into memory that is there already, so many rows at a time.
#[divan::bench(args = [(Of::F32, 220), (Of::Widened, 220), (Of::Widened, 440), (Of::Widened, 880)])]
fn head(bencher: Bencher, (of, rows): (Of, usize)) {
    let (x, mut logits) = (values(rows * WIDTH), vec![0.0; rows * VOCABULARY]);
    with_weight(of, VOCABULARY, WIDTH, |weight| {
        let bencher = bencher.counter(ItemsCount::new(2 * rows * WIDTH * VOCABULARY));
        bencher.bench_local(|| linear_into(&x, weight, None, &mut logits));
    });
}

#[divan::bench]
fn weight_gradient(bencher: Bencher) {
    let (x, d, mut dw) = (values(TOKENS * WIDTH), values(TOKENS * WIDTH), vec![0.0; WIDTH * WIDTH]);
    let bencher = bencher.counter(ItemsCount::new(2 * TOKENS * WIDTH * WIDTH));
    bencher.bench_local(|| weight_gradient_add(&x, &d, WIDTH, WIDTH, &mut dw));
}

/// The products' operations: of each pair of a token and one that it sees.
fn attended(products: usize) -> ItemsCount {
    ItemsCount::new(2 * products * HEADS.queries() * TOKENS * (TOKENS + 1) / 2)
}

#[divan::bench]
fn attention_forward(bencher: Bencher) {
    let (q, k, v) = (values(TOKENS * HEADS.queries()), values(TOKENS * HEADS.keys()), values(TOKENS * HEADS.keys()));
    let mut out = vec![0.0; q.len()];
    let rows = one_sequence();
    bencher.counter(attended(2)).bench_local(|| attention(&q, &k, &v, HEADS, Spans::whole(&rows), SCORES, &mut out));
}

#[divan::bench]
fn attention_reverse(bencher: Bencher) {
    let (q, k, v) = (values(TOKENS * HEADS.queries()), values(TOKENS * HEADS.keys()), values(TOKENS * HEADS.keys()));
    let (d, rows) = (values(q.len()), one_sequence());
    bencher.counter(attended(5)).bench_local(|| attention_backward(&q, &k, &v, HEADS, &rows, SCORES, &d));
}

#[divan::bench]
fn rotary(bencher: Bencher) {
    let frequencies: Vec<f32> = (0..32).map(|i| 1e6f32.powf(-(i as f32) / 32.0)).collect();
    let tables = [Arc::new(RotaryTable::new(&frequencies, HEADS.dim, 1.0, TOKENS))];
    let (mut x, rows) = (values(TOKENS * WIDTH), one_sequence());
    let bencher = bencher.counter(ItemsCount::new(x.len()));
    bencher.bench_local(|| rope(&mut x, WIDTH, Spans::whole(&rows), &tables, false));
}

#[divan::bench]
fn norm(bencher: Bencher) {
    let (x, weight) = (values(TOKENS * WIDTH), values(WIDTH));
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| rms_norm_new(&x, &weight, 1e-6));
}

#[divan::bench]
fn norm_reverse(bencher: Bencher) {
    let (x, d, weight) = (values(TOKENS * WIDTH), values(TOKENS * WIDTH), values(WIDTH));
    let mut dx = vec![0.0; x.len()];
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| rms_norm_backward_add(&x, &weight, 1e-6, &d, &mut dx));
}

#[divan::bench]
fn gates(bencher: Bencher) {
    let (mut x, up) = (values(TOKENS * INNER), values(TOKENS * INNER));
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| gate(Activation::Silu, &mut x, &up));
}

#[divan::bench]
fn gates_reverse(bencher: Bencher) {
    let (mut x, mut up, d) = (values(TOKENS * INNER), values(TOKENS * INNER), values(TOKENS * INNER));
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| gate_backward(Activation::Silu, &mut x, &mut up, &d));
}

#[divan::bench]
fn log_probabilities(bencher: Bencher) {
    let mut logits = values(64 * VOCABULARY);
    bencher.counter(ItemsCount::new(logits.len())).bench_local(|| log_softmax(&mut logits, VOCABULARY));
}

#[divan::bench]
fn loss_gradient(bencher: Bencher) {
    let (mut logits, targets, weights) = (values(64 * VOCABULARY), [7; 64], [1.0 / 64.0; 64]);
    let bencher = bencher.counter(ItemsCount::new(logits.len()));
    bencher.bench_local(|| cross_entropy_backward(&mut logits, &targets, &weights));
}
