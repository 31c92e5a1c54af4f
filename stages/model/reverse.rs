//! The reverse pass, written out by hand: a block's forward that records what the reverse reads, and the
//! reverse, which shows every linear layer's input x and output gradient d as it goes down.
//!
//! A weight's gradient is dᵀ x; of one example, the same sum over its tokens alone. Neither is computed here:
//! whoever watches gets x and d and makes of them what it needs. Nothing is computed that no one asked for: in
//! the lowest block the reverse ends at the lowest module that is wanted.
//!
//! Packed as everywhere: linear layers and norms run over all rows, attention over each sequence.

use std::ops::Range;

use super::ops::{
    HeadShape, Matrix, RotaryTable, attention, attention_backward, linear_add, linear_backward, linear_new,
    rms_norm_backward_add, rms_norm_new, rope, swiglu, swiglu_backward,
};

/// The linear layers of a block, in the order of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Module {
    pub const ALL: [Module; 7] =
        [Module::Query, Module::Key, Module::Value, Module::Output, Module::Gate, Module::Up, Module::Down];

    /// Its name below `model.layers.<l>.` in a checkpoint.
    pub fn name(self) -> &'static str {
        match self {
            Module::Query => "self_attn.q_proj",
            Module::Key => "self_attn.k_proj",
            Module::Value => "self_attn.v_proj",
            Module::Output => "self_attn.o_proj",
            Module::Gate => "mlp.gate_proj",
            Module::Up => "mlp.up_proj",
            Module::Down => "mlp.down_proj",
        }
    }
}

/// The norms of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    Attention,
    FeedForward,
}

#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    pub weight: Matrix<'a>,
    pub bias: Option<&'a [f32]>,
}

/// The weights of one block and how its heads lie.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    pub attention_norm: &'a [f32],
    pub query: Linear<'a>,
    pub key: Linear<'a>,
    pub value: Linear<'a>,
    pub output: Linear<'a>,
    pub feed_forward_norm: &'a [f32],
    pub gate: Linear<'a>,
    pub up: Linear<'a>,
    pub down: Linear<'a>,
    pub heads: HeadShape,
    pub eps: f32,
}

/// Where the sequences lie in the rows, and the positions' rotations.
#[derive(Debug, Clone, Copy)]
pub struct Packing<'a> {
    pub sequences: &'a [Range<usize>],
    pub rotary: &'a RotaryTable,
}

/// What a block's reverse reads of its forward. Whoever is short of memory keeps the input alone and records
/// again on the way down.
#[derive(Debug)]
pub struct Tape {
    /// The residual stream at the block's input, and between attention and feed-forward [tokens, D].
    input: Vec<f32>,
    middle: Vec<f32>,
    /// Inputs of the linear layers, beside the two above after their norms.
    attention_in: Vec<f32>,
    mixed: Vec<f32>,
    feed_forward_in: Vec<f32>,
    active: Vec<f32>,
    /// Queries and keys after the rotary embedding, values, and the two halves of the gate before it.
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

/// Watches the reverse pass of a block.
pub trait Watch {
    /// Whether [`Watch::linear`] is to be called for this module.
    fn wants(&self, module: Module) -> bool;

    /// The module's input x [tokens, in] and the loss' gradient d [tokens, out] at its output.
    fn linear(&mut self, module: Module, x: &[f32], d: &[f32]);

    /// A norm's input x and the gradient d at its output, both [tokens, D]. Called for the norms passed.
    fn norm(&mut self, _norm: Norm, _x: &[f32], _d: &[f32]) {}
}

/// The block's output [tokens, D] from its input, and what its reverse will read.
pub fn record(block: &Block, input: Vec<f32>, packing: Packing) -> (Vec<f32>, Tape) {
    let Packing { sequences, rotary } = packing;
    let apply = |x: &[f32], linear: Linear| linear_new(x, linear.weight, linear.bias);
    let attention_in = rms_norm_new(&input, block.attention_norm, block.eps);
    let mut query = apply(&attention_in, block.query);
    let mut key = apply(&attention_in, block.key);
    let value = apply(&attention_in, block.value);
    rope(&mut query, block.heads.queries(), sequences, rotary, false);
    rope(&mut key, block.heads.keys(), sequences, rotary, false);
    let mut mixed = vec![0.0; query.len()];
    attention(&query, &key, &value, block.heads, sequences, scale(block), &mut mixed);
    let mut middle = input.clone();
    linear_add(&mixed, block.output.weight, block.output.bias, &mut middle);

    let feed_forward_in = rms_norm_new(&middle, block.feed_forward_norm, block.eps);
    let gate = apply(&feed_forward_in, block.gate);
    let up = apply(&feed_forward_in, block.up);
    let mut active = gate.clone();
    swiglu(&mut active, &up);
    let mut out = middle.clone();
    linear_add(&active, block.down.weight, block.down.bias, &mut out);
    (out, Tape { input, middle, attention_in, mixed, feed_forward_in, active, query, key, value, gate, up })
}

/// From `d`, the loss' gradient at the block's output, down to its input, whose gradient is returned if `below`
/// asks for it. Otherwise the pass ends at the lowest module that `watch` wants, and returns nothing.
pub fn reverse(
    block: &Block,
    tape: Tape,
    mut d: Vec<f32>,
    packing: Packing,
    below: bool,
    watch: &mut dyn Watch,
) -> Option<Vec<f32>> {
    let Tape { input, middle, attention_in, mixed, feed_forward_in, active, query, key, value, mut gate, mut up } =
        tape;
    let lowest = Module::ALL.into_iter().find(|module| watch.wants(*module));
    let reaches = |module: Module| below || lowest.is_some_and(|lowest| lowest <= module);
    let show = |watch: &mut dyn Watch, module, x: &[f32], d: &[f32]| {
        if watch.wants(module) {
            watch.linear(module, x, d);
        }
    };

    show(watch, Module::Down, &active, &d);
    if !reaches(Module::Up) {
        return None;
    }
    let mut d_active = active;
    linear_backward(&d, block.down.weight, false, &mut d_active);
    swiglu_backward(&mut gate, &mut up, &d_active);
    drop(d_active);
    show(watch, Module::Up, &feed_forward_in, &up);
    show(watch, Module::Gate, &feed_forward_in, &gate);
    if !reaches(Module::Output) {
        return None;
    }
    let mut d_norm = feed_forward_in;
    linear_backward(&up, block.up.weight, false, &mut d_norm);
    linear_backward(&gate, block.gate.weight, true, &mut d_norm);
    watch.norm(Norm::FeedForward, &middle, &d_norm);
    rms_norm_backward_add(&middle, block.feed_forward_norm, block.eps, &d_norm, &mut d);

    show(watch, Module::Output, &mixed, &d);
    if !reaches(Module::Value) {
        return None;
    }
    let mut d_mixed = mixed;
    linear_backward(&d, block.output.weight, false, &mut d_mixed);
    let Packing { sequences, rotary } = packing;
    let [mut d_query, mut d_key, d_value] =
        attention_backward(&query, &key, &value, block.heads, sequences, scale(block), &d_mixed);
    rope(&mut d_query, block.heads.queries(), sequences, rotary, true);
    rope(&mut d_key, block.heads.keys(), sequences, rotary, true);
    show(watch, Module::Value, &attention_in, &d_value);
    show(watch, Module::Key, &attention_in, &d_key);
    show(watch, Module::Query, &attention_in, &d_query);
    if !below {
        return None;
    }
    let mut d_norm = attention_in;
    linear_backward(&d_value, block.value.weight, false, &mut d_norm);
    linear_backward(&d_key, block.key.weight, true, &mut d_norm);
    linear_backward(&d_query, block.query.weight, true, &mut d_norm);
    watch.norm(Norm::Attention, &input, &d_norm);
    rms_norm_backward_add(&input, block.attention_norm, block.eps, &d_norm, &mut d);
    Some(d)
}

fn scale(block: &Block) -> f32 {
    1.0 / (block.heads.dim as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::values;

    #[derive(Default)]
    struct Seen {
        wanted: Vec<Module>,
        linear: Vec<(Module, Vec<f32>, Vec<f32>)>,
        norms: Vec<Norm>,
    }

    impl Watch for Seen {
        fn wants(&self, module: Module) -> bool {
            self.wanted.contains(&module)
        }

        fn linear(&mut self, module: Module, x: &[f32], d: &[f32]) {
            self.linear.push((module, x.to_vec(), d.to_vec()));
        }

        fn norm(&mut self, norm: Norm, _x: &[f32], _d: &[f32]) {
            self.norms.push(norm);
        }
    }

    const HEADS: HeadShape = HeadShape { heads: 2, kv_heads: 1, dim: 4 };

    /// The reverse of one block on `rows` tokens of `input`, watched for `wanted`.
    fn pass(
        input: &[f32],
        d: &[f32],
        sequences: &[Range<usize>],
        wanted: &[Module],
        below: bool,
    ) -> (Seen, Option<Vec<f32>>) {
        let weights: Vec<Vec<f32>> = [8 * 8, 4 * 8, 4 * 8, 8 * 8, 12 * 8, 12 * 8, 8 * 12]
            .iter()
            .zip(1..)
            .map(|(len, seed)| values(*len, seed))
            .collect();
        let norms = [values(8, 20), values(8, 21)];
        let linear = |i: usize, out, inputs| Linear { weight: Matrix::of(&weights[i], out, inputs), bias: None };
        let block = Block {
            attention_norm: &norms[0],
            query: linear(0, 8, 8),
            key: linear(1, 4, 8),
            value: linear(2, 4, 8),
            output: linear(3, 8, 8),
            feed_forward_norm: &norms[1],
            gate: linear(4, 12, 8),
            up: linear(5, 12, 8),
            down: linear(6, 8, 12),
            heads: HEADS,
            eps: 1e-6,
        };
        let rotary = RotaryTable::new(&[1.0, 0.1], 16);
        let packing = Packing { sequences, rotary: &rotary };
        let (_, tape) = record(&block, input.to_vec(), packing);
        let mut seen = Seen { wanted: wanted.to_vec(), ..Seen::default() };
        let d = reverse(&block, tape, d.to_vec(), packing, below, &mut seen);
        (seen, d)
    }

    #[test]
    fn the_pass_ends_at_the_lowest_module_wanted_and_shows_the_same() {
        let (x, d, sequences) = (values(9 * 8, 30), values(9 * 8, 31), [0..4, 4..9]);
        let (all, bottom) = pass(&x, &d, &sequences, &Module::ALL, true);
        assert_eq!(bottom.unwrap().len(), x.len());
        assert_eq!((all.linear.len(), all.norms.len()), (7, 2));
        for (module, norms) in
            [(Module::Down, 0), (Module::Up, 0), (Module::Gate, 0), (Module::Output, 1), (Module::Query, 1)]
        {
            let (seen, bottom) = pass(&x, &d, &sequences, &[module], false);
            assert!(bottom.is_none());
            assert_eq!(seen.norms.len(), norms, "{module:?} goes no further down than it must");
            let expected: Vec<_> = all.linear.iter().filter(|shown| shown.0 == module).cloned().collect();
            assert_eq!(seen.linear, expected);
        }
        let (seen, bottom) = pass(&x, &d, &sequences, &[], true);
        assert!(seen.linear.is_empty() && bottom.is_some());
    }

    #[test]
    fn a_sequence_has_the_same_gradients_alone_and_among_others() {
        let (x, d) = (values(9 * 8, 30), values(9 * 8, 31));
        let (all, bottom) = pass(&x, &d, &[0..4, 4..9], &Module::ALL, true);
        let (alone, bottom_alone) = pass(&x[32..], &d[32..], std::slice::from_ref(&(0..5)), &Module::ALL, true);
        assert_eq!(bottom.unwrap()[32..], bottom_alone.unwrap());
        for (all, alone) in all.linear.iter().zip(&alone.linear) {
            let (inputs, out) = (all.1.len() / 9, all.2.len() / 9);
            assert_eq!((&all.1[4 * inputs..], &all.2[4 * out..]), (&alone.1[..], &alone.2[..]), "{:?}", all.0);
        }
    }
}
