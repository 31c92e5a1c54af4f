//! One block's weights, in the order of its linear layers and norms.

use std::borrow::Cow;

use super::description::Norm;
use crate::model::compute::Affine;
use crate::model::ops;

/// As a [`super::Program`] names them.
pub struct BlockWeights<'a> {
    /// Which block of the model, from 0.
    pub block: usize,
    pub modules: Vec<Affine<'a>>,
    pub norms: Vec<NormWeights<'a>>,
}

/// A norm's parameters as it multiplies by and adds them, its offset in the weight.
pub struct NormWeights<'a> {
    pub weight: Cow<'a, [f32]>,
    pub bias: Option<Cow<'a, [f32]>>,
}

impl<'a> NormWeights<'a> {
    /// From what is stored.
    pub fn new(norm: &Norm, weight: impl Into<Cow<'a, [f32]>>, bias: Option<&'a [f32]>) -> NormWeights<'a> {
        let mut weight = weight.into();
        if norm.offset != 0.0 {
            weight.to_mut().iter_mut().for_each(|weight| *weight += norm.offset);
        }
        NormWeights { weight, bias: bias.map(Cow::from) }
    }

    /// As the ops take it.
    pub fn of<'b>(&'b self, norm: &Norm) -> ops::Norm<'b> {
        ops::Norm { kind: norm.kind, eps: norm.eps, weight: &self.weight, bias: self.bias.as_deref() }
    }

    pub fn borrowed(&self) -> NormWeights<'_> {
        NormWeights { weight: Cow::from(&*self.weight), bias: self.bias.as_deref().map(Cow::from) }
    }

    pub fn into_owned(self) -> NormWeights<'static> {
        let owned = |values: Cow<[f32]>| Cow::Owned(values.into_owned());
        NormWeights { weight: owned(self.weight), bias: self.bias.map(owned) }
    }
}
