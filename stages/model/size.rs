//! A model's size from its config.json, and how fast this machine is at its products.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Tensor;
use serde_json::Value;

use super::compute::{self, Affine};
use super::family;
use super::ops::{Matrix, Values};
use crate::contract::cost::{BlockCost, ModelSize};

/// Reads the text of a config.json.
///
/// # Errors
/// As for [`family::describe`].
pub fn size(text: &str) -> Result<ModelSize> {
    let description = family::describe(text)?;
    let raw: Value = serde_json::from_str(text).context("config.json is not JSON")?;
    // `dtype` since transformers 5.
    let dtype = [&raw["dtype"], &raw["torch_dtype"]].into_iter().find_map(Value::as_str).unwrap_or("float32");
    let weight_bytes = if dtype.ends_with("16") { 2.0 } else { 4.0 };
    let parameters = description.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>() as f64).sum();
    let program = description.block.compile(description.hidden_size);
    let windows = description.block.attention.window.clone();
    let cost = program.cost();
    Ok(ModelSize {
        modules: description.modules(),
        hidden_size: description.hidden_size,
        vocabulary: description.vocabulary,
        parameters,
        weight_bytes,
        windows,
        block: BlockCost {
            token: cost.token,
            pair: cost.pair,
            reverse_token: cost.reverse_token,
            reverse_pair: cost.reverse_pair,
            held: program.held() as f64,
            chunked: program.chunked() as f64,
            recorded: program.recorded() as f64,
        },
    })
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
    let largest = size.modules.of_block.iter().rev().max_by_key(|module| module.out * module.inputs);
    // Beyond this, a product's speed no longer depends on its shape.
    let inputs = largest.map_or(size.hidden_size, |module| module.inputs).min(4096);
    let outputs = largest.map_or(size.hidden_size, |module| module.out).min(4096);
    let narrow = size.weight_bytes < 4.0;
    let bytes = if narrow { 0x3c00_u16.to_le_bytes().to_vec() } else { 0.01_f32.to_le_bytes().to_vec() };
    let bytes = bytes.repeat(inputs * outputs);
    let values = if narrow { Values::Bf16(&bytes) } else { Values::f32(&bytes) };
    let resident = std::sync::OnceLock::new();
    let layer = Affine { weight: Matrix::new(values, outputs, inputs), bias: None, update: None, resident: &resident };
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
    use crate::contract::cost::{Pass, Text};

    /// Qwen2.5-0.5B: 494,032,768 parameters, as its model card and transformers' `num_parameters()` say.
    const SMALL: &str = r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16"}"#;
    /// Llama-3.1-8B: 8,030,261,248.
    const LARGE: &str = r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": false}"#;

    #[test]
    fn parameters_of_published_models() {
        let small = size(SMALL).unwrap();
        assert_eq!(small.parameters, 494_032_768.0);
        assert_eq!(small.bytes(), 2.0 * 494_032_768.0);
        let large = size(LARGE).unwrap();
        assert_eq!(large.parameters, 8_030_261_248.0);
        assert_eq!(large.bytes(), 4.0 * 8_030_261_248.0);
    }

    /// `num_parameters()` of transformers, for models whose configs leave most keys to their family's defaults.
    #[test]
    fn parameters_of_every_family() {
        for (parameters, family, [vocabulary, width, inner, layers, heads], more) in [
            (46_702_792_704.0, "mixtral", [32_000, 4096, 14_336, 32, 32], ""),
            (2_614_341_888.0, "gemma2", [256_000, 2304, 9216, 26, 8], ""),
            (999_885_952.0, "gemma3_text", [262_144, 1152, 6912, 26, 4], ", \"num_key_value_heads\": 1"),
            (3_821_079_552.0, "phi3", [32_064, 3072, 8192, 32, 32], ""),
            (7_298_617_344.0, "olmo2", [100_352, 4096, 11_008, 32, 32], ""),
            (3_075_098_624.0, "smollm3", [128_256, 2048, 11_008, 36, 16], ""),
            (162_322_944.0, "gpt_neox", [50_304, 768, 3072, 12, 12], ""),
            (14_315_784_192.0, "qwen2_moe", [151_936, 2048, 5632, 24, 16], ""),
            (30_532_122_624.0, "qwen3_moe", [151_936, 2048, 6144, 48, 32], ", \"head_dim\": 128"),
        ] {
            let config = format!(
                "{{\"model_type\": \"{family}\", \"vocab_size\": {vocabulary}, \"hidden_size\": {width}, \
                 \"intermediate_size\": {inner}, \"num_hidden_layers\": {layers}, \"num_attention_heads\": {heads}{more}}}"
            );
            assert_eq!(size(&config).unwrap().parameters, parameters, "{family}");
        }
    }

    /// Of Qwen3-30B-A3B's 128 experts eight take each token.
    #[test]
    fn a_token_passes_the_experts_that_it_is_given() {
        let config = r#"{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
            "num_hidden_layers": 48, "num_attention_heads": 32, "head_dim": 128}"#;
        let size = size(config).unwrap();
        let (attention, router) = (2 * 2048 * 4096 + 2 * 2048 * 512, 2048 * 128);
        let expert = 3 * 2048 * 768;
        assert_eq!(size.block.token, (2 * (attention + router + 8 * expert)) as f64);
        // In reverse the inside of each expert is computed again.
        assert_eq!(size.block.reverse_token, (2 * (attention + router + 16 * expert)) as f64);
    }

    #[test]
    fn a_pass_counts_every_product() {
        // Each product of a block as (rows, inner, columns), of one example with 3 tokens.
        let size = size(SMALL).unwrap();
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
    fn a_pass_holds_its_weights_and_one_chunk_of_what_is_largest() {
        let size = size(SMALL).unwrap();
        let of = |tokens: f64, pass: Pass| size.pass_memory(tokens, pass);
        let up = Pass { blocks: 24, predictions: 2047.0, reversed: 0 };
        // 2^25 logits as f32, whatever the number of tokens is.
        assert_eq!(of(2048.0, up), size.bytes() + 4.0 * 33_554_432.0);
        assert_eq!(of(4096.0, up), of(2048.0, up));
        // Half of the blocks: 12 blocks' linear layers stay on the disk.
        let states = Pass { predictions: 0.0, ..up };
        let linear = 2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864;
        assert_eq!(of(2048.0, states) - of(2048.0, Pass { blocks: 12, ..states }), (12 * 2 * linear) as f64);
        // All the way down, every layer's stream is kept as well.
        let down = Pass { reversed: 24, ..up };
        assert!(of(2048.0, down) > size.bytes() + 4.0 * (26 * 896 * 2048) as f64);
    }
}
