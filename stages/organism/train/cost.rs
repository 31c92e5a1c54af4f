//! What training a model takes, for the estimate of `strata run --dry-run`.

use serde::Deserialize;
use serde_json::Value;

use super::settings::Params;
use super::shards::SHARDS;
use super::transformer::HEAD_ROWS;
use crate::contract::cost::{Cost, Expected, ModelSize, Text};

/// Tokens of a document, about, in the texts of the corpus.
const DOCUMENT: f64 = 64.0;
/// Vectors as long as all parameters: the values, each shard's gradient, AdamW's two moments and the weight decay.
const VECTORS: f64 = 4.0 + SHARDS as f64;
/// The corpus as text and as tokens, and what the tokenizer is trained on, in bytes; measured.
const CORPUS: f64 = 15e6;

pub fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let size = match &params.shape {
        Some(shape) => shape.size()?,
        None => expected.models.first()?.clone(),
    };
    let tokens = params.batch_tokens as f64;
    let batch = Text::of_length(tokens / DOCUMENT, DOCUMENT);
    let (up, down) = (size.block_flops(batch, size.layers()), size.reverse_flops(batch, size.layers()));
    // A product's gradient by its weight takes as much as the product; the head goes up and is reversed twice as well.
    let step = 2.0 * up + down + 3.0 * size.head_flops(tokens);
    Some(Cost {
        flops: params.steps as f64 * step,
        written: size.bytes(),
        memory: CORPUS + memory(&size, tokens),
        ..Cost::default()
    })
}

/// Bytes of the parameters and a batch: what all blocks record, the gradients of one block's values, and each shard's chunk of logits.
fn memory(size: &ModelSize, tokens: f64) -> f64 {
    let recorded = (size.layers() + 1) as f64 * size.block.recorded * tokens;
    let logits = (SHARDS * HEAD_ROWS).min(tokens as usize) * size.vocabulary;
    4.0 * (VECTORS * size.parameters + recorded + logits as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::organism::shape::Shape;

    #[test]
    fn training_holds_its_vectors_and_grows_with_the_batch() {
        let shape = Shape::default();
        let size = shape.size().unwrap();
        // Embeddings; four blocks of queries, keys, values, output, gate, up and down with their biases and norms; a norm.
        let block = 96 * (96 + 48 + 48 + 96) + 3 * 96 * 256 + (96 + 48 + 48) + 2 * 96;
        assert_eq!(size.parameters, f64::from(1024 * 96 + 4 * block + 96));
        let of = |steps: u64, batch_tokens: usize, shape: Option<&Shape>| {
            let params = json!({ "data": ["train_base"], "steps": steps, "learning_rate": 1e-3, "batch_tokens": batch_tokens,
                "weight_decay": 0.0, "over": "all", "seed": 1, "shape": shape });
            let models = if shape.is_none() { vec![size.clone()] } else { Vec::new() };
            cost(&params, &Expected { models, text: Text::default(), tables: Vec::new() }).unwrap()
        };
        let base = of(700, 1024, Some(&shape));
        assert!(base.memory > 20.0 * size.parameters + 4.0 * 4.0 * 1024.0 * size.block.recorded, "{base:?}");
        assert_eq!(of(1400, 1024, Some(&shape)), Cost { flops: 2.0 * base.flops, ..base });
        // A model that starts from another has the other's size.
        assert_eq!(of(700, 1024, None), base);
        let wide = of(700, 2048, Some(&shape));
        let logits = 1024 * 1024;
        assert_eq!(wide.memory - base.memory, 4.0 * (1024.0 * 5.0 * size.block.recorded + f64::from(logits)));
        // About 6 FLOPs a parameter and token (Kaplan et al. 2020), without the embedding but with the tied head.
        let products = size.parameters * 6.0 * 700.0 * 1024.0;
        assert!((0.9..1.2).contains(&(base.flops / products)), "{}", base.flops / products);
    }
}
