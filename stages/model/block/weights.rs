//! One block's weights, in the order of its linear layers and norms.

use crate::model::compute::Affine;

/// As a [`super::Program`] names them.
pub struct BlockWeights<'a> {
    /// Which block of the model, from 0.
    pub block: usize,
    pub modules: Vec<Affine<'a>>,
    pub norms: Vec<&'a [f32]>,
}
