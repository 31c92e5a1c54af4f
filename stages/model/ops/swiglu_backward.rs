//! The reverse of silu(gate) * up. With σ = 1 / (1 + e^-gate): dup = d gate σ, dgate = d up σ (1 + gate (1 - σ)).

use rayon::prelude::*;

use super::{exp, vectorized};

/// gate and up, the inputs of [`super::swiglu`], become their gradients from `d` at its output.
pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], d: &[f32]) {
    assert_eq!((gate.len(), up.len()), (d.len(), d.len()), "swiglu_backward: lengths");
    let parts = gate.par_chunks_mut(1 << 13).zip(up.par_chunks_mut(1 << 13)).zip(d.par_chunks(1 << 13));
    parts.for_each(|((gate, up), d)| backward_chunk(gate, up, d));
}

vectorized! {
    /// One thread's part.
    pub fn backward_chunk(gate: &mut [f32], up: &mut [f32], d: &[f32]) {
        for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
            let (x, y) = (*gate, *up);
            let sigmoid = 1.0 / (1.0 + exp(-x));
            *up = d * x * sigmoid;
            *gate = d * y * sigmoid * (1.0 + x * (1.0 - sigmoid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    #[test]
    fn agrees_with_differences_in_f64() {
        let mut gate: Vec<f32> = values(301, 1).iter().map(|x| x * 8.0).collect();
        let (mut up, d) = (values(gate.len(), 2), values(gate.len(), 3));
        let loss = |gate: &[f64], up: &[f64]| {
            (0..d.len()).map(|i| gate[i] / (1.0 + (-gate[i]).exp()) * up[i] * d[i] as f64).sum::<f64>()
        };
        let widen = |x: &[f32]| x.iter().map(|x| *x as f64).collect::<Vec<_>>();
        let (wide_gate, wide_up) = (widen(&gate), widen(&up));
        let dgate = derivative(&gate, |gate| loss(gate, &wide_up));
        let dup = derivative(&up, |up| loss(&wide_gate, up));
        swiglu_backward(&mut gate, &mut up, &d);
        assert!(worst_relative(&gate, &dgate, 1.0) < 2e-6);
        assert!(worst_relative(&up, &dup, 8.0) < 2e-6);
    }
}
