//! The activation of a feed-forward layer, alone or as the gate of another product (GLU; Shazeer 2020).

use rayon::prelude::*;

use super::activation::{Activation, gelu, gelu_tanh, relu, silu};
use super::vectorized;

const PART: usize = 1 << 13;

/// gate[i] becomes activation(gate[i]) * up[i].
pub fn gate(kind: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate: lengths");
    gate.par_chunks_mut(PART).zip(up.par_chunks(PART)).for_each(|(gate, up)| gate_chunk(kind, gate, up));
}

/// x[i] becomes activation(x[i]).
pub fn activate(kind: Activation, x: &mut [f32]) {
    x.par_chunks_mut(PART).for_each(|x| activate_chunk(kind, x));
}

vectorized! {
    avx512:
    /// One thread's part.
    pub fn gate_chunk(kind: Activation, gate: &mut [f32], up: &[f32]) {
        match kind {
            Activation::Silu => product(gate, up, silu),
            Activation::Gelu => product(gate, up, gelu),
            Activation::GeluTanh => product(gate, up, gelu_tanh),
            Activation::Relu => product(gate, up, relu),
        }
    }

    /// One thread's part.
    pub fn activate_chunk(kind: Activation, x: &mut [f32]) {
        match kind {
            Activation::Silu => each(x, silu),
            Activation::Gelu => each(x, gelu),
            Activation::GeluTanh => each(x, gelu_tanh),
            Activation::Relu => each(x, relu),
        }
    }
}

#[inline(always)]
fn product(gate: &mut [f32], up: &[f32], of: impl Fn(f32) -> f32) {
    gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = of(*gate) * up);
}

#[inline(always)]
fn each(x: &mut [f32], of: impl Fn(f32) -> f32) {
    x.iter_mut().for_each(|x| *x = of(*x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::activation::tests::wide;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agree_with_f64() {
        for kind in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let x: Vec<f32> = values(20_011, 1).iter().map(|x| x * 30.0).collect();
            let up = values(x.len(), 2);
            let of = |up: &dyn Fn(usize) -> f64| reference(1, x.len(), |_, i| wide(kind, x[i] as f64) * up(i));
            let mut found = x.clone();
            gate(kind, &mut found, &up);
            assert!(worst_relative(&found, &of(&|i| up[i] as f64), 30.0) < 2e-7, "{kind:?}");
            let mut found = x.clone();
            activate(kind, &mut found);
            assert!(worst_relative(&found, &of(&|_| 1.0), 30.0) < 2e-7, "{kind:?}");
        }
    }
}
