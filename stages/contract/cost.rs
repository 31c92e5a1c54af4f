//! What passing examples through a model takes, in plain numbers: for `strata run --dry-run`.

use std::ops::Range;

use serde_json::Value;

use super::example_limit::ExampleLimit;
use super::module::{ModulePath, Modules};
use super::per_block::PerBlock;

/// A model's size, as its config.json gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSize {
    /// The linear layers of its blocks.
    pub modules: Modules,
    /// D, the width of the residual stream.
    pub hidden_size: usize,
    pub vocabulary: usize,
    /// All parameters, biases and norms included.
    pub parameters: f64,
    /// Bytes of a weight in the files: 2 in bfloat16 and float16, 4 in float32.
    pub weight_bytes: f64,
    pub block: BlockCost,
    /// How many tokens each token sees at most, itself included.
    pub windows: PerBlock<Option<usize>>,
}

/// What one block takes of arithmetic and memory. FLOPs count a multiplication and an addition as two.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BlockCost {
    /// FLOPs for each token.
    pub token: f64,
    /// FLOPs for each pair of a token and one that it sees.
    pub pair: f64,
    /// The reverse's FLOPs for each token, down to the block's input. Gradients of the weights are not in it.
    pub reverse_token: f64,
    /// The reverse's FLOPs for each pair.
    pub reverse_pair: f64,
    /// Numbers of each token in memory while the block passes.
    pub held: f64,
    /// Numbers in memory beside these, whatever the number of tokens.
    pub chunked: f64,
    /// Numbers of each token that are kept for the reverse.
    pub recorded: f64,
}

/// The text that goes through a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Text {
    pub examples: f64,
    pub tokens: f64,
    /// The sum over examples of the squared number of tokens, in which attention grows.
    pub squares: f64,
}

/// What a node is given, as far as it is known before it runs.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The models it reads, in the order of its inputs.
    pub models: Vec<ModelSize>,
    pub text: Text,
    /// The tables it reads that are of one model and dataset, in the order of its inputs.
    pub tables: Vec<ExpectedTable>,
}

/// A table of one model and dataset that a node will be given.
#[derive(Debug, Clone)]
pub struct ExpectedTable {
    pub model: ModelSize,
    pub text: Text,
    /// The parameters of the node that writes it.
    pub params: Value,
}

/// What a node takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// What it asks of the forward pass that all observers of a model and dataset share.
    pub pass: Pass,
    /// Its own arithmetic, beside that pass.
    pub flops: f64,
    /// Bytes of its table.
    pub written: f64,
    /// Bytes it holds in memory at once beside the models that it passes, where they grow with the examples or the model.
    pub memory: f64,
}

/// How far up a pass goes, for how many tokens it predicts the next, and how far down its loss is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pass {
    pub blocks: usize,
    pub predictions: f64,
    /// Blocks below the output head that the backward pass goes through; 0 for none.
    pub reversed: usize,
}

impl Pass {
    /// The pass that serves both.
    pub fn and(self, other: Pass) -> Pass {
        Pass {
            blocks: self.blocks.max(other.blocks),
            predictions: self.predictions.max(other.predictions),
            reversed: self.reversed.max(other.reversed),
        }
    }
}

impl Text {
    /// Examples of one length.
    pub fn of_length(examples: f64, length: f64) -> Text {
        Text { examples, tokens: examples * length, squares: examples * length * length }
    }

    /// The share of it that a stage with this limit reads.
    pub fn limited(self, limit: ExampleLimit) -> Text {
        match limit {
            ExampleLimit::First(limit) if (limit as f64) < self.examples => self.share(limit as f64 / self.examples),
            _ => self,
        }
    }

    /// Its tokens that have others before them.
    pub fn predicted(self) -> f64 {
        (self.tokens - self.examples).max(0.0)
    }

    /// Pairs of a token and one that it sees, itself included: n (n + 1) / 2 of n tokens.
    pub fn pairs(self) -> f64 {
        (self.squares + self.tokens) / 2.0
    }

    /// [`Text::pairs`] where a token sees itself and the `window - 1` before it. Counted as if all examples were of
    /// their mean length, which lengths on both sides of the window exceed.
    pub fn pairs_within(self, window: Option<usize>) -> f64 {
        let length = self.tokens / self.examples;
        match window.map(|window| window as f64) {
            Some(window) if length > window => self.examples * window * (length - (window - 1.0) / 2.0),
            _ => self.pairs(),
        }
    }

    /// A share of it, from 0 to 1.
    pub fn share(self, share: f64) -> Text {
        Text { examples: self.examples * share, tokens: self.tokens * share, squares: self.squares * share }
    }
}

impl std::ops::Add for Text {
    type Output = Text;

    fn add(self, other: Text) -> Text {
        Text {
            examples: self.examples + other.examples,
            tokens: self.tokens + other.tokens,
            squares: self.squares + other.squares,
        }
    }
}

impl ModelSize {
    /// The number of blocks L.
    pub fn layers(&self) -> usize {
        self.modules.layers
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> f64 {
        self.parameters * self.weight_bytes
    }

    /// The text through `blocks` blocks.
    pub fn block_flops(&self, text: Text, blocks: usize) -> f64 {
        blocks as f64 * self.block.token * text.tokens + self.block.pair * self.pairs(text, 0..blocks)
    }

    /// [`Text::pairs`], summed over these blocks.
    fn pairs(&self, text: Text, blocks: Range<usize>) -> f64 {
        blocks.map(|block| text.pairs_within(*self.windows.of(block))).sum()
    }

    /// The output head at so many positions.
    pub fn head_flops(&self, positions: f64) -> f64 {
        2.0 * positions * (self.vocabulary * self.hidden_size) as f64
    }

    /// A forward pass.
    pub fn pass_flops(&self, text: Text, pass: Pass) -> f64 {
        self.block_flops(text, pass.blocks) + self.head_flops(pass.predictions)
    }

    /// Bytes resident while a part of so many tokens passes: the mapped weights as far as they are read, a block's
    /// values, one chunk of the output head, and on the way back the streams that are kept and a group's values.
    pub fn pass_memory(&self, tokens: f64, pass: Pass) -> f64 {
        const LOGITS: f64 = (1_u64 << 25) as f64;
        const LOGITS_BACK: f64 = (3_u64 << 24) as f64;
        const VALUES: f64 = (1_u64 << 26) as f64;
        const FLOAT: f64 = 4.0;
        let of_block: usize = self.modules.of_block.iter().map(|module| module.out * module.inputs).sum();
        let embeddings = (self.vocabulary * self.hidden_size) as f64;
        let linear = |blocks: usize| (blocks * of_block) as f64;
        let mut unread = linear(self.layers().saturating_sub(pass.blocks));
        if pass.predictions == 0.0 && pass.reversed == 0 {
            // Scattered rows of the embeddings, with the pages around them; and no output head.
            let tied = self.parameters - linear(self.layers()) < 2.0 * embeddings;
            unread += if tied { 0.5 } else { 1.5 } * embeddings;
        }
        let weights = (self.parameters - unread) * self.weight_bytes;
        let block = self.block.held * tokens + self.block.chunked;
        let vocabulary = self.vocabulary as f64;
        let head = (pass.predictions.min(tokens) * vocabulary).min(LOGITS.max(16.0 * vocabulary));
        let back = match pass.reversed {
            0 => 0.0,
            blocks => {
                let streams = (blocks + 2) as f64 * self.hidden_size as f64 * tokens;
                // Gradients live from one step to the next: a quarter as many as the values that are recorded. The tokens
                // of a group are cut as if they were as many.
                let tape = 1.25 * (self.block.recorded * tokens).min(VALUES / 2.0);
                let losses = (tokens * vocabulary).min(LOGITS_BACK.max(16.0 * vocabulary));
                streams + tape.max(losses)
            }
        };
        weights + FLOAT * block.max(head).max(back)
    }

    /// A pass back from the losses of all tokens: the losses' gradients, which take the output head twice, and
    /// each block recorded again and reversed.
    pub fn backward_flops(&self, text: Text, pass: Pass) -> f64 {
        match pass.reversed {
            0 => 0.0,
            blocks => {
                2.0 * self.head_flops(text.predicted())
                    + blocks as f64 * self.block.token * text.tokens
                    + self.block.pair * self.pairs(text, self.uppermost(blocks))
                    + self.reverse_flops(text, blocks)
            }
        }
    }

    /// The reverse of a pass over the uppermost `blocks` blocks, down to their input.
    pub fn reverse_flops(&self, text: Text, blocks: usize) -> f64 {
        blocks as f64 * self.block.reverse_token * text.tokens
            + self.block.reverse_pair * self.pairs(text, self.uppermost(blocks))
    }

    fn uppermost(&self, blocks: usize) -> Range<usize> {
        self.layers().saturating_sub(blocks)..self.layers()
    }

    /// Rows and columns of a weight matrix.
    pub fn shape(&self, path: &ModulePath) -> (usize, usize) {
        let module = self.modules.of(path);
        (module.out, module.inputs)
    }

    /// Bytes of one vector of the residual stream in a table.
    pub fn vector_bytes(&self) -> f64 {
        4.0 * self.hidden_size as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_leaves_a_share_of_the_text() {
        let text = Text::of_length(400.0, 300.0);
        assert_eq!(text.limited(ExampleLimit::First(8)), Text::of_length(8.0, 300.0));
        assert_eq!(text.limited(ExampleLimit::First(500)), text);
        assert_eq!(text.limited(ExampleLimit::All), text);
        assert_eq!(text.predicted(), 400.0 * 299.0);
    }

    #[test]
    fn pairs_within_a_window_are_counted() {
        for (length, window) in [(7_usize, 1_usize), (7, 3), (7, 6), (7, 7), (7, 9), (1, 1)] {
            let pairs: usize = (1..=length).map(|seen| seen.min(window)).sum();
            let found = Text::of_length(2.0, length as f64).pairs_within(Some(window));
            assert_eq!(found, 2.0 * pairs as f64, "{length} {window}");
        }
    }
}
