//! Either kind of norm by its name.

use super::{
    layer_norm, layer_norm_backward_add, layer_norm_weight_gradient_add, rms_norm, rms_norm_backward_add,
    rms_norm_weight_gradient_add,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Over the root mean square.
    RootMeanSquare,
    /// Less the mean, over the standard deviation, plus a bias.
    Layer,
}

/// A norm as the ops take it.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    pub kind: NormKind,
    pub eps: f32,
    /// What normalised rows are multiplied by, as wide as they are.
    pub weight: &'a [f32],
    /// Of layer normalisation.
    pub bias: Option<&'a [f32]>,
}

impl Norm<'_> {
    /// The normalised rows of `x`.
    pub fn forward(self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        match self.kind {
            NormKind::RootMeanSquare => rms_norm(x, self.weight, self.eps, &mut out),
            NormKind::Layer => layer_norm(x, self.weight, self.bias, self.eps, &mut out),
        }
        out
    }

    /// dx += the gradient at the input `x`, from `d` at the output.
    pub fn backward_add(self, x: &[f32], d: &[f32], dx: &mut [f32]) {
        match self.kind {
            NormKind::RootMeanSquare => rms_norm_backward_add(x, self.weight, self.eps, d, dx),
            NormKind::Layer => layer_norm_backward_add(x, self.weight, self.eps, d, dx),
        }
    }
}

impl NormKind {
    /// dweight [width] += the gradient at a norm's weight, from its input `x` and `d` at its output, both [rows, width].
    pub fn weight_gradient_add(self, x: &[f32], eps: f32, d: &[f32], dweight: &mut [f32]) {
        match self {
            NormKind::RootMeanSquare => rms_norm_weight_gradient_add(x, eps, d, dweight),
            NormKind::Layer => layer_norm_weight_gradient_add(x, eps, d, dweight),
        }
    }
}
