//! A decoder-only transformer as data: what a family fills in, and all that the arithmetic knows of it.

use crate::contract::module::Modules;
use crate::contract::per_block::PerBlock;
use crate::model::ops::HeadShape;
use crate::model::rotary::Rotary;

#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub model_type: &'static str,
    pub vocabulary: usize,
    /// D, the width of the residual stream.
    pub hidden_size: usize,
    /// L, the number of blocks.
    pub layers: usize,
    pub block: Block,
    /// The embeddings' tensor.
    pub embedding: &'static str,
    pub final_norm: Norm,
    pub head: Head,
}

/// One block; all blocks of a model are alike but for what is [`PerBlock`].
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub attention: Attention,
    pub feed_forward: FeedForward,
}

/// Root mean square normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// The tensor's name without `.weight`, within a block below `model.layers.<l>.`.
    pub name: &'static str,
    pub eps: f32,
}

/// A linear layer's tensor, its name without `.weight` and `.bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    pub name: &'static str,
    pub bias: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    pub norm: Norm,
    pub heads: HeadShape,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    /// Norms of every query and every key head, before the rotary embedding.
    pub head_norms: Option<[Norm; 2]>,
    pub rotary: Rotary,
    /// What scores are multiplied by before the softmax.
    pub scale: f32,
    /// Scores s become cap * tanh(s / cap), where there is one.
    pub soft_cap: Option<f32>,
    /// How many tokens each token sees, the last of them itself; without, all up to itself.
    pub window: PerBlock<Option<usize>>,
}

/// activation(gate) * up, and down.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedForward {
    pub norm: Norm,
    pub width: usize,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// The embedding matrix. Files may hold a copy of it under this name.
    Tied {
        copy: &'static str,
    },
    Own(Linear),
}

/// A tensor of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorShape {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Description {
    /// The linear layers of its blocks.
    pub fn modules(&self) -> Modules {
        Modules { layers: self.layers, of_block: self.block.modules(self.hidden_size) }
    }

    /// Every tensor of the model's files, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<TensorShape> {
        let d = self.hidden_size;
        let of = |name: String, shape: &[usize]| TensorShape { name, shape: shape.to_vec() };
        let mut tensors = vec![of(format!("{}.weight", self.embedding), &[self.vocabulary, d])];
        for layer in 0..self.layers {
            let block = self.block.tensors(d).into_iter();
            tensors.extend(block.map(|TensorShape { name, shape }| of(in_block(layer, &name), &shape)));
        }
        tensors.push(of(format!("{}.weight", self.final_norm.name), &[d]));
        if let Head::Own(Linear { name, bias }) = self.head {
            tensors.push(of(format!("{name}.weight"), &[self.vocabulary, d]));
            tensors.extend(bias.then(|| of(format!("{name}.bias"), &[self.vocabulary])));
        }
        tensors
    }
}

/// The full name of a block's tensor.
pub fn in_block(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}
