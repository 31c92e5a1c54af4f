//! The reverse of activation(gate) * up: dup = d activation(gate), dgate = d up activation'(gate). For silu, with
//! σ = 1 / (1 + e^-gate): dup = d gate σ, dgate = d up σ (1 + gate (1 - σ)).

use rayon::prelude::*;

use super::activation::{Activation, gelu, gelu_slope, gelu_tanh, gelu_tanh_slope, relu, relu_slope, silu_slope};
use super::{exp, vectorized};

const PART: usize = 1 << 13;

/// gate and up, the inputs of [`super::gate`], become their gradients from `d` at its output.
pub fn gate_backward(kind: Activation, gate: &mut [f32], up: &mut [f32], d: &[f32]) {
    assert_eq!((gate.len(), up.len()), (d.len(), d.len()), "gate_backward: lengths");
    let parts = gate.par_chunks_mut(PART).zip(up.par_chunks_mut(PART)).zip(d.par_chunks(PART));
    parts.for_each(|((gate, up), d)| gate_chunk_backward(kind, gate, up, d));
}

/// x, the input of [`super::activate`], becomes its gradient from `d` at its output.
pub fn activate_backward(kind: Activation, x: &mut [f32], d: &[f32]) {
    assert_eq!(x.len(), d.len(), "activate_backward: lengths");
    x.par_chunks_mut(PART).zip(d.par_chunks(PART)).for_each(|(x, d)| activate_chunk_backward(kind, x, d));
}

vectorized! {
    avx512:
    /// One thread's part.
    pub fn gate_chunk_backward(kind: Activation, gate: &mut [f32], up: &mut [f32], d: &[f32]) {
        match kind {
            Activation::Silu => {
                for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
                    let (x, y) = (*gate, *up);
                    let sigmoid = 1.0 / (1.0 + exp(-x));
                    *up = d * x * sigmoid;
                    *gate = d * y * sigmoid * (1.0 + x * (1.0 - sigmoid));
                }
            }
            Activation::Gelu => product(gate, up, d, gelu, gelu_slope),
            Activation::GeluTanh => product(gate, up, d, gelu_tanh, gelu_tanh_slope),
            Activation::Relu => product(gate, up, d, relu, relu_slope),
        }
    }

    /// One thread's part.
    pub fn activate_chunk_backward(kind: Activation, x: &mut [f32], d: &[f32]) {
        match kind {
            Activation::Silu => each(x, d, silu_slope),
            Activation::Gelu => each(x, d, gelu_slope),
            Activation::GeluTanh => each(x, d, gelu_tanh_slope),
            Activation::Relu => each(x, d, relu_slope),
        }
    }
}

#[inline(always)]
fn product(gate: &mut [f32], up: &mut [f32], d: &[f32], of: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
    for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
        let (x, y) = (*gate, *up);
        *up = d * of(x);
        *gate = d * y * slope(x);
    }
}

#[inline(always)]
fn each(x: &mut [f32], d: &[f32], slope: impl Fn(f32) -> f32) {
    x.iter_mut().zip(d).for_each(|(x, d)| *x = d * slope(*x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::activation::tests::wide;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    #[test]
    fn agree_with_differences_in_f64() {
        for kind in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let mut gate: Vec<f32> = values(301, 1).iter().map(|x| x * 8.0).collect();
            let (mut up, d) = (values(gate.len(), 2), values(gate.len(), 3));
            let loss =
                |gate: &[f64], up: &[f64]| (0..d.len()).map(|i| wide(kind, gate[i]) * up[i] * d[i] as f64).sum::<f64>();
            let widen = |x: &[f32]| x.iter().map(|x| *x as f64).collect::<Vec<_>>();
            let (wide_gate, wide_up) = (widen(&gate), widen(&up));
            let dgate = derivative(&gate, |gate| loss(gate, &wide_up));
            let dup = derivative(&up, |up| loss(&wide_gate, up));
            let mut alone = gate.clone();
            activate_backward(kind, &mut alone, &d);
            let dalone = derivative(&gate, |gate| loss(gate, &vec![1.0; d.len()]));
            assert!(worst_relative(&alone, &dalone, 1.0) < 2e-6, "{kind:?}");
            gate_backward(kind, &mut gate, &mut up, &d);
            assert!(worst_relative(&gate, &dgate, 1.0) < 2e-6, "{kind:?}");
            assert!(worst_relative(&up, &dup, 8.0) < 2e-6, "{kind:?}");
        }
    }
}
