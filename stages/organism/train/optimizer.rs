//! AdamW (Loshchilov & Hutter 2019) with the gradient clipped to norm 1, and a warmup followed by a cosine.

use rayon::prelude::*;

use super::parameters::Parameters;

const BETAS: (f32, f32) = (0.9, 0.95);
const EPS: f32 = 1e-8;
const MOST_NORM: f64 = 1.0;
/// A thread's part; sums run over these in order.
const PART: usize = 1 << 14;

/// The learning rate: up in a straight line over a twentieth of the steps, down to a tenth along a cosine.
pub struct Schedule {
    pub peak: f64,
    pub steps: u64,
}

impl Schedule {
    pub fn rate(&self, step: u64) -> f64 {
        let warmup = (self.steps / 20).max(1);
        let rise = ((step + 1) as f64 / warmup as f64).min(1.0);
        let done = step as f64 / self.steps as f64;
        self.peak * rise * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * done).cos()))
    }
}

pub struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
    /// Weight decay of every parameter: of matrices alone, not of norms and biases.
    decay: Vec<f32>,
    steps: i32,
}

impl AdamW {
    pub fn new(parameters: &Parameters, weight_decay: f64) -> AdamW {
        let mut decay = vec![0.0; parameters.values.len()];
        for tensor in parameters.tensors.values().filter(|tensor| tensor.shape.len() > 1) {
            decay[tensor.range.clone()].fill(weight_decay as f32);
        }
        AdamW { first: vec![0.0; decay.len()], second: vec![0.0; decay.len()], decay, steps: 0 }
    }

    pub fn step(&mut self, parameters: &mut Parameters, gradient: &mut [f32], rate: f64) {
        let squares: Vec<f64> =
            gradient.par_chunks(PART).map(|part| part.iter().map(|g| *g as f64 * *g as f64).sum::<f64>()).collect();
        let norm = squares.iter().sum::<f64>().sqrt();
        let clip = if norm > MOST_NORM { (MOST_NORM / norm) as f32 } else { 1.0 };
        self.steps += 1;
        let (one, two) = BETAS;
        let rate = rate as f32;
        let (correct_one, correct_two) = (1.0 - one.powi(self.steps), 1.0 - two.powi(self.steps));
        let parts = (parameters.values.par_chunks_mut(PART).zip(gradient.par_chunks(PART)))
            .zip(self.first.par_chunks_mut(PART).zip(self.second.par_chunks_mut(PART)))
            .zip(self.decay.par_chunks(PART));
        parts.for_each(|(((values, gradient), (first, second)), decay)| {
            let moments = first.iter_mut().zip(second);
            for (((value, g), (m, v)), decay) in values.iter_mut().zip(gradient).zip(moments).zip(decay) {
                let g = g * clip;
                *m = one * *m + (1.0 - one) * g;
                *v = two * *v + (1.0 - two) * g * g;
                *value -= rate * (*m / correct_one / ((*v / correct_two).sqrt() + EPS) + decay * *value);
            }
        });
    }
}
