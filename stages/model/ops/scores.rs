//! From the products of queries and keys to the weights of attention.

use super::{softmax_prefix, tanh, vectorized};

/// What becomes of the products of queries and keys before the softmax, and which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// What the products are multiplied by.
    pub scale: f32,
    /// Scores s become cap * tanh(s / cap) (Gemma 2).
    pub soft_cap: Option<f32>,
    /// The last so many tokens, itself included, are what a token sees; all up to itself without.
    pub window: Option<usize>,
}

impl Scores {
    /// The first token that the token at `position` of its sequence sees.
    pub fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// One row of products, of the query at `position` with the keys from `first` on, becomes its weights.
    /// With a soft-cap, `slopes` becomes the derivatives of the capped scores by those before.
    pub fn weigh(&self, row: &mut [f32], position: usize, first: usize, slopes: Option<&mut [f32]>) {
        let (hidden, row) = row.split_at_mut(self.first_seen(position) - first);
        let visible = position + 1 - first - hidden.len();
        hidden.fill(0.0);
        match self.soft_cap {
            None => softmax_prefix(row, visible, self.scale),
            Some(cap) => {
                soften(&mut row[..visible], self.scale / cap);
                if let Some(slopes) = slopes {
                    slope(&row[..visible], &mut slopes[hidden.len()..][..visible]);
                }
                softmax_prefix(row, visible, cap);
            }
        }
    }
}

vectorized! {
    avx512:
    /// x becomes tanh(factor x).
    pub fn soften(x: &mut [f32], factor: f32) {
        x.iter_mut().for_each(|x| *x = tanh(*x * factor));
    }

    /// The derivative of tanh from its value.
    pub fn slope(tanh: &[f32], slopes: &mut [f32]) {
        slopes.iter_mut().zip(tanh).for_each(|(slope, tanh)| *slope = 1.0 - tanh * tanh);
    }
}
