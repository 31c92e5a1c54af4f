//! The gate of a SwiGLU feed-forward layer (Shazeer 2020).

use rayon::prelude::*;

use super::{exp, vectorized};

/// gate[i] becomes silu(gate[i]) * up[i], with silu(x) = x / (1 + e^-x).
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "swiglu: lengths");
    gate.par_chunks_mut(1 << 13).zip(up.par_chunks(1 << 13)).for_each(|(gate, up)| gate_chunk(gate, up));
}

vectorized! {
    /// One thread's part.
    pub fn gate_chunk(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agrees_with_f64() {
        let mut gate: Vec<f32> = values(20_011, 1).iter().map(|x| x * 30.0).collect();
        let up = values(gate.len(), 2);
        let expected = reference(1, gate.len(), |_, i| {
            let x = gate[i] as f64;
            x / (1.0 + (-x).exp()) * up[i] as f64
        });
        swiglu(&mut gate, &up);
        assert!(worst_relative(&gate, &expected, 30.0) < 2e-7);
    }
}
