//! A linear layer of a model as the ops take it.

use std::sync::OnceLock;

use candle_core::Tensor;

use super::ops::{self, LowRank, Matrix, Precision};

/// A linear layer's weight, bias and update, and on a device other than the CPU the copy of the weight that is resident there.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    pub weight: Matrix<'a>,
    pub bias: Option<&'a [f32]>,
    pub update: Option<LowRank<'a>>,
    pub resident: &'a OnceLock<Tensor>,
}

impl<'a> Affine<'a> {
    /// The same layer, the products with its weight in this precision; an adapter's update stays in f32.
    pub fn in_precision(self, precision: Precision) -> Affine<'a> {
        Affine { weight: self.weight.in_precision(precision), ..self }
    }

    /// x Wᵀ + b, and the update's part.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = Vec::new();
        self.forward_replacing(x, &mut y);
        y
    }

    /// [`Affine::forward`] in the place of what `y` held.
    pub fn forward_replacing(&self, x: &[f32], y: &mut Vec<f32>) {
        ops::linear_replacing(x, self.weight, self.bias, y);
        if let Some(update) = self.update {
            update.add_forward(x, y);
        }
    }

    /// y += [`Affine::forward`].
    pub fn add_forward(&self, x: &[f32], y: &mut [f32]) {
        ops::linear_add(x, self.weight, self.bias, y);
        if let Some(update) = self.update {
            update.add_forward(x, y);
        }
    }

    /// The input's gradient from the output's, or added to `dx` where `add`.
    pub fn backward(&self, d: &[f32], add: bool, dx: &mut [f32]) {
        ops::linear_backward(d, self.weight, add, dx);
        if let Some(update) = self.update {
            update.add_backward(d, dx);
        }
    }

    /// [`Affine::backward`] that may round `d` where it lies.
    pub fn backward_rounding(&self, d: &mut [f32], add: bool, dx: &mut [f32]) {
        match self.update {
            Some(_) => self.backward(d, add, dx),
            None => ops::linear_backward_rounding(d, self.weight, add, dx),
        }
    }
}
