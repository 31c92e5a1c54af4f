//! One block's weights, in the order of its linear layers and norms.

use crate::model::compute::Affine;

/// As a [`super::Program`] names them.
pub struct BlockWeights<'a> {
    pub modules: Vec<Affine<'a>>,
    pub norms: Vec<&'a [f32]>,
}
