//! config.json and model.safetensors, out and in.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use super::parameters::{Config, EPS, INITIAL_STD, MAX_POSITIONS, Parameters, ROPE_THETA};
use crate::contract::stage::Output;
use crate::model::ops::{HeadShape, Values};

#[derive(Debug, Serialize, Deserialize)]
struct ConfigJson {
    architectures: [String; 1],
    attention_dropout: f32,
    bos_token_id: Option<u32>,
    eos_token_id: u32,
    hidden_act: String,
    hidden_size: usize,
    initializer_range: f64,
    intermediate_size: usize,
    max_position_embeddings: usize,
    model_type: String,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    rms_norm_eps: f64,
    rope_theta: f64,
    tie_word_embeddings: bool,
    torch_dtype: String,
    use_cache: bool,
    use_sliding_window: bool,
    vocab_size: usize,
}

/// The two files of these parameters.
pub fn save(parameters: &Parameters, end_of_turn: u32) -> Result<Vec<Output>> {
    let config = &parameters.config;
    let json = ConfigJson {
        architectures: ["Qwen2ForCausalLM".into()],
        attention_dropout: 0.0,
        bos_token_id: None,
        eos_token_id: end_of_turn,
        hidden_act: "silu".into(),
        hidden_size: config.hidden_size,
        initializer_range: shortest(INITIAL_STD),
        intermediate_size: config.intermediate_size,
        max_position_embeddings: MAX_POSITIONS,
        model_type: "qwen2".into(),
        num_attention_heads: config.heads.heads,
        num_hidden_layers: config.layers,
        num_key_value_heads: config.heads.kv_heads,
        rms_norm_eps: shortest(EPS),
        rope_theta: shortest(ROPE_THETA),
        tie_word_embeddings: true,
        torch_dtype: "float32".into(),
        use_cache: true,
        use_sliding_window: false,
        vocab_size: config.vocabulary,
    };
    let bytes: Vec<u8> = parameters.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let views = parameters.tensors.iter().map(|(name, tensor)| {
        let part = &bytes[tensor.range.start * 4..tensor.range.end * 4];
        Ok((name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), part)?))
    });
    // transformers asks for the format. One entry: a map of several would have no fixed order.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let weights = serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata))?;
    let mut json = serde_json::to_vec_pretty(&json)?;
    json.push(b'\n');
    Ok(vec![
        Output::File { name: "config.json".into(), bytes: json },
        Output::File { name: "model.safetensors".into(), bytes: weights },
    ])
}

/// 0.02 rather than 0.019999999552965164.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().expect("a float's own text is a number")
}

/// Parameters from the files that [`save`] wrote.
pub fn load(config_json: &[u8], weights: &[u8]) -> Result<Parameters> {
    let json: ConfigJson = serde_json::from_slice(config_json).context("config.json is none of a trained model")?;
    if (json.model_type.as_str(), json.tie_word_embeddings) != ("qwen2", true) {
        bail!("config.json: expected qwen2 with tied embeddings, found {}", json.model_type);
    }
    let dim = json.hidden_size / json.num_attention_heads;
    let mut parameters = Parameters::zeros(Config {
        vocabulary: json.vocab_size,
        hidden_size: json.hidden_size,
        intermediate_size: json.intermediate_size,
        layers: json.num_hidden_layers,
        heads: HeadShape { heads: json.num_attention_heads, kv_heads: json.num_key_value_heads, dim },
    });
    let file = SafeTensors::deserialize(weights).context("model.safetensors")?;
    let names: Vec<String> = parameters.tensors.keys().cloned().collect();
    ensure!(file.len() == names.len(), "model.safetensors has {} tensors, expected {}", file.len(), names.len());
    for name in names {
        let view = file.tensor(&name).with_context(|| format!("model.safetensors has no {name}"))?;
        let shape = &parameters.tensors[&name].shape;
        ensure!(
            view.dtype() == Dtype::F32 && view.shape() == shape,
            "model.safetensors: {name} is {:?} {:?}, expected F32 {shape:?}",
            view.dtype(),
            view.shape()
        );
        Values::f32(view.data()).widen(0, parameters.get_mut(&name));
    }
    Ok(parameters)
}
