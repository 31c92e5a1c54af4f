//! What passing examples through a model takes, from its config.json alone: for `strata run --dry-run`.
//!
//! FLOPs count a multiplication and an addition as two. Norms, rotary embeddings and softmax are left out: at a
//! hidden size of 896 they are a hundredth of the matrix products, and less in larger models.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Tensor;
use serde_json::Value;

use super::compute::{self, Affine};
use super::config::Config;
use super::ops::{Matrix, Values};
use super::reverse::Module;
use crate::contract::example_limit::ExampleLimit;

/// A model as its config.json describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSize {
    pub config: Config,
    /// Bytes of a weight in the files: 2 in bfloat16 and float16, 4 in float32.
    pub weight_bytes: f64,
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
    /// Bytes it holds in memory at once beside the weights, where they grow with the number of examples.
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

    /// What a costly stage looks at of it.
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
    /// Reads the text of a config.json.
    ///
    /// # Errors
    /// As for [`Config::parse`].
    pub fn parse(text: &str) -> Result<ModelSize> {
        let config = Config::parse(text)?;
        let raw: Value = serde_json::from_str(text).context("config.json is not JSON")?;
        // `dtype` since transformers 5.
        let dtype = [&raw["dtype"], &raw["torch_dtype"]].into_iter().find_map(Value::as_str).unwrap_or("float32");
        let weight_bytes = if dtype.ends_with("16") { 2.0 } else { 4.0 };
        Ok(ModelSize { config, weight_bytes })
    }

    /// Entries of one block's seven matrices.
    pub fn block_weights(&self) -> f64 {
        let entries = |module: &Module| {
            let (rows, columns) = self.shape(*module);
            rows * columns
        };
        Module::ALL.iter().map(entries).sum::<usize>() as f64
    }

    /// All parameters, biases and norms included.
    pub fn parameters(&self) -> f64 {
        let Config { vocabulary, hidden_size, intermediate_size, layers, heads, .. } = &self.config;
        let mut vectors = 2 * hidden_size;
        if self.config.query_bias {
            vectors += heads.queries() + 2 * heads.keys();
        }
        if self.config.output_bias {
            vectors += hidden_size;
        }
        if self.config.mlp_bias {
            vectors += 2 * intermediate_size + hidden_size;
        }
        let matrices = if self.config.tied_embeddings { 1 } else { 2 };
        *layers as f64 * (self.block_weights() + vectors as f64)
            + (matrices * vocabulary * hidden_size + hidden_size) as f64
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> f64 {
        self.parameters() * self.weight_bytes
    }

    /// The text through `blocks` blocks: 2 FLOPs for each weight and token, and for attention two products with
    /// the n (n + 1) / 2 pairs of a token and one that it sees.
    pub fn block_flops(&self, text: Text, blocks: usize) -> f64 {
        blocks as f64 * (self.linear_flops(text) + self.attention_flops(text))
    }

    fn linear_flops(&self, text: Text) -> f64 {
        2.0 * self.block_weights() * text.tokens
    }

    fn attention_flops(&self, text: Text) -> f64 {
        2.0 * self.config.heads.queries() as f64 * (text.squares + text.tokens)
    }

    /// The output head at so many positions.
    pub fn head_flops(&self, positions: f64) -> f64 {
        2.0 * positions * (self.config.vocabulary * self.config.hidden_size) as f64
    }

    /// A forward pass.
    pub fn pass_flops(&self, text: Text, pass: Pass) -> f64 {
        self.block_flops(text, pass.blocks) + self.head_flops(pass.predictions)
    }

    /// A pass back from the losses of all tokens: the losses' gradients, which take the output head twice, and
    /// each block recorded again and reversed.
    pub fn backward_flops(&self, text: Text, pass: Pass) -> f64 {
        match pass.reversed {
            0 => 0.0,
            blocks => {
                2.0 * self.head_flops(text.predicted())
                    + self.block_flops(text, blocks)
                    + self.reverse_flops(text, blocks)
            }
        }
    }

    /// The reverse of a pass over the uppermost `blocks` blocks, down to their input: as many products with the
    /// weights as forwards, and for attention four for the two (Dao et al. 2022, without their recomputation).
    /// Gradients of the weights themselves are not in it.
    pub fn reverse_flops(&self, text: Text, blocks: usize) -> f64 {
        blocks as f64 * (self.linear_flops(text) + 2.0 * self.attention_flops(text))
    }

    /// Rows and columns of a block's matrix.
    pub fn shape(&self, module: Module) -> (usize, usize) {
        let Config { hidden_size, intermediate_size, heads, .. } = &self.config;
        match module {
            Module::Query => (heads.queries(), *hidden_size),
            Module::Key | Module::Value => (heads.keys(), *hidden_size),
            Module::Output => (*hidden_size, heads.queries()),
            Module::Gate | Module::Up => (*intermediate_size, *hidden_size),
            Module::Down => (*hidden_size, *intermediate_size),
        }
    }

    /// Bytes of one vector of the residual stream in a table.
    pub fn vector_bytes(&self) -> f64 {
        4.0 * self.config.hidden_size as f64
    }
}

/// The largest model's feed-forward product, as it was timed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    pub flops_per_second: f64,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

/// Times one of a model's own matrix products, in the dtype of its file, for about a third of a second.
///
/// # Errors
/// When the device cannot be opened.
pub fn measure(size: &ModelSize) -> Result<Speed> {
    const ROWS: usize = 512;
    // Beyond this, a product's speed no longer depends on its shape.
    let inputs = size.config.hidden_size.min(4096);
    let outputs = size.config.intermediate_size.min(4096);
    let narrow = size.weight_bytes < 4.0;
    let bytes = if narrow { 0x3c00_u16.to_le_bytes().to_vec() } else { 0.01_f32.to_le_bytes().to_vec() };
    let bytes = bytes.repeat(inputs * outputs);
    let values = if narrow { Values::Bf16(&bytes) } else { Values::f32(&bytes) };
    let resident = std::sync::OnceLock::new();
    let layer = Affine { weight: Matrix::new(values, outputs, inputs), bias: None, resident: &resident };
    let device = compute::default_device()?;
    let x = Tensor::full(0.5_f32, (ROWS, inputs), &device)?;
    // The first product starts the threads.
    compute::linear(&x, layer)?;
    device.synchronize()?;
    let started = Instant::now();
    let mut products = 0;
    while started.elapsed() < Duration::from_millis(300) {
        compute::linear(&x, layer)?;
        device.synchronize()?;
        products += 1;
    }
    let flops = 2.0 * (ROWS * inputs * outputs) as f64 * products as f64;
    Ok(Speed { flops_per_second: flops / started.elapsed().as_secs_f64(), rows: ROWS, inputs, outputs })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Qwen2.5-0.5B: 494,032,768 parameters, as its model card and transformers' `num_parameters()` say.
    const SMALL: &str = r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16"}"#;
    /// Llama-3.1-8B: 8,030,261,248.
    const LARGE: &str = r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": false}"#;

    #[test]
    fn parameters_of_published_models() {
        let small = ModelSize::parse(SMALL).unwrap();
        assert_eq!(small.parameters(), 494_032_768.0);
        assert_eq!(small.bytes(), 2.0 * 494_032_768.0);
        let large = ModelSize::parse(LARGE).unwrap();
        assert_eq!(large.parameters(), 8_030_261_248.0);
        assert_eq!(large.bytes(), 4.0 * 8_030_261_248.0);
    }

    #[test]
    fn a_pass_counts_every_product() {
        // Each product of a block as (rows, inner, columns), of one example with 3 tokens.
        let size = ModelSize::parse(SMALL).unwrap();
        let linear = [(896, 896), (896, 128), (896, 128), (896, 896), (896, 4864), (896, 4864), (4864, 896)];
        let products: usize = linear.iter().map(|(inputs, out)| 2 * 3 * inputs * out).sum();
        // Tokens 0, 1 and 2 see 1, 2 and 3 tokens: a score of 64 products for each, and as many for the mixture.
        let attention = 14 * (1 + 2 + 3) * 64 * 2 * 2;
        let text = Text::of_length(1.0, 3.0);
        assert_eq!(size.block_flops(text, 1), (products + attention) as f64);
        let pass = Pass { blocks: 24, predictions: 2.0, reversed: 0 };
        let head = 2 * 2 * 896 * 151936;
        assert_eq!(size.pass_flops(text, pass), (24 * (products + attention) + head) as f64);
        assert_eq!(size.reverse_flops(text, 1), (products + 2 * attention) as f64);
        assert_eq!(size.backward_flops(text, pass), 0.0);
        let back = Pass { blocks: 3, predictions: 5.0, reversed: 1 };
        // Two tokens are predicted, and the one block is passed up again and then down.
        let expected = 2 * head + 2 * products + 3 * attention;
        assert_eq!(size.backward_flops(text, back), expected as f64);
        assert_eq!(pass.and(back), Pass { blocks: 24, predictions: 5.0, reversed: 1 });
    }

    #[test]
    fn a_limit_leaves_a_share_of_the_text() {
        let text = Text::of_length(400.0, 300.0);
        assert_eq!(text.limited(ExampleLimit::First(8)), Text::of_length(8.0, 300.0));
        assert_eq!(text.limited(ExampleLimit::First(500)), text);
        assert_eq!(text.limited(ExampleLimit::All), text);
        assert_eq!(text.predicted(), 400.0 * 299.0);
    }
}
