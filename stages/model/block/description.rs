//! A decoder-only transformer as data: what a family fills in, and all that the arithmetic knows of it.

use crate::contract::module::Modules;
use crate::contract::per_block::PerBlock;
use crate::model::ops::{Activation, HeadShape, Logits, NormKind};
use crate::model::rotary::Rotary;

#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub model_type: &'static str,
    pub vocabulary: usize,
    /// D, the width of the residual stream.
    pub hidden_size: usize,
    /// L, the number of blocks.
    pub layers: usize,
    /// What stands before a block's number in the names of its tensors.
    pub blocks: &'static str,
    pub block: Block,
    pub embedding: Embedding,
    pub final_norm: Norm,
    pub head: Head,
    pub logits: Logits,
    /// What the names of tensors begin with that belong to parts of the model that are not computed.
    pub unread: &'static [&'static str],
}

#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The tensor's name without `.weight`.
    pub name: &'static str,
    /// What its rows are multiplied by.
    pub factor: f32,
}

/// One block; all blocks of a model are alike but for what is [`PerBlock`].
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub attention: Attention,
    pub feed_forward: FeedForward,
    /// The feed-forward layer reads the block's input, as attention does, instead of the stream after attention.
    pub parallel: bool,
    /// What the layers' outputs are multiplied by before they are added to the residual stream.
    pub residual_factor: f32,
}

/// The norms around a layer, where it has them: of what it reads, and of what it adds to the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Norms {
    pub before: Option<Norm>,
    pub after: Option<Norm>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// The tensor's name without `.weight`, within a block below `model.layers.<l>.`.
    pub name: &'static str,
    pub kind: NormKind,
    pub eps: f32,
    /// Added to the stored weight: 1 where the files hold its distance from 1.
    pub offset: f32,
}

/// A linear layer's tensor, its name without `.weight` and `.bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    pub name: &'static str,
    pub bias: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    pub norms: Norms,
    pub heads: HeadShape,
    pub projections: Projections,
    pub output: Linear,
    /// Norms of queries and keys, before the rotary embedding.
    pub query_key_norms: Option<QueryKeyNorms>,
    /// None where a block has no positions.
    pub rotary: PerBlock<Option<Rotary>>,
    /// What scores are multiplied by before the softmax.
    pub scale: f32,
    /// Scores s become cap * tanh(s / cap), where there is one.
    pub soft_cap: Option<f32>,
    /// How many tokens each token sees, the last of them itself; without, all up to itself.
    pub window: PerBlock<Option<usize>>,
}

/// Queries, keys and values from one or from three matrices.
#[derive(Debug, Clone, PartialEq)]
pub enum Projections {
    Separate {
        query: Linear,
        key: Linear,
        value: Linear,
    },
    /// All queries, then all keys, then all values.
    Fused(Linear),
    /// Each head's query, key and value beside each other.
    FusedByHead(Linear),
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueryKeyNorms {
    pub query: Norm,
    pub key: Norm,
    /// Of each head by itself, rather than of all heads together.
    pub by_head: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FeedForward {
    pub norms: Norms,
    pub form: Form,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    Dense(Dense),
    Experts(Experts),
}

/// A layer that every token passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub width: usize,
    pub activation: Activation,
    pub inner: Inner,
    pub down: Linear,
}

/// A mixture of experts (Shazeer et al. 2017): of each token, the few that a router gives the largest weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    pub count: usize,
    /// How many take each token.
    pub chosen: usize,
    /// Their weights are divided by their sum.
    pub normalized: bool,
    pub router: Linear,
    /// Expert e's matrices are `<prefix>.<e>.<name>`, gated as in [`Inner::Gated`] and without biases.
    pub prefix: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub width: usize,
    pub activation: Activation,
    pub shared: Option<SharedExpert>,
}

/// One that takes every token, its output multiplied by the sigmoid of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedExpert {
    pub expert: Dense,
    /// One number a token.
    pub gate: Linear,
}

/// What a feed-forward layer's last product reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Inner {
    /// activation(gate) * up
    Gated { gate: Linear, up: Linear },
    /// The same from one matrix, the gate's rows first.
    FusedGated(Linear),
    /// activation(up)
    Plain(Linear),
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

    /// The full name of a tensor of block `layer`.
    pub fn in_block(&self, layer: usize, name: &str) -> String {
        format!("{}.{layer}.{name}", self.blocks)
    }

    /// Every tensor of the model's files, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<TensorShape> {
        let d = self.hidden_size;
        let of = |name: String, shape: &[usize]| TensorShape { name, shape: shape.to_vec() };
        let mut tensors = vec![of(format!("{}.weight", self.embedding.name), &[self.vocabulary, d])];
        for layer in 0..self.layers {
            let block = self.block.tensors(d).into_iter();
            tensors.extend(block.map(|TensorShape { name, shape }| of(self.in_block(layer, &name), &shape)));
        }
        tensors.extend(self.final_norm.tensors(d));
        if let Head::Own(Linear { name, bias }) = self.head {
            tensors.push(of(format!("{name}.weight"), &[self.vocabulary, d]));
            tensors.extend(bias.then(|| of(format!("{name}.bias"), &[self.vocabulary])));
        }
        tensors
    }
}

impl Norm {
    /// Its tensors for rows of this width.
    pub fn tensors(&self, width: usize) -> Vec<TensorShape> {
        let of = |kind: &str| TensorShape { name: format!("{}.{kind}", self.name), shape: vec![width] };
        match self.kind {
            NormKind::RootMeanSquare => vec![of("weight")],
            NormKind::Layer => vec![of("weight"), of("bias")],
        }
    }
}
