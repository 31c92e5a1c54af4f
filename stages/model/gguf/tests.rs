//! A GGUF file against the checkpoint that it was made from, and files that are refused.

use std::io::Cursor;
use std::path::PathBuf;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor as CandleTensor};
use serde_json::json;

use super::*;
use crate::contract::node::Part;
use crate::contract::site::Site;
use crate::model::compute::with_slice;
use crate::model::family;
use crate::model::forward::{Start, states_at};
use crate::model::test_model::{TestModel, part};
use crate::model::transformer::Transformer;

/// As transformers names a checkpoint's tensors, in llama.cpp's names.
fn of_llama(name: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    pairs.iter().fold(name.to_string(), |name, (from, to)| name.replace(from, to))
}

/// Llama's rows of queries and keys as llama.cpp's converter orders them (`LlamaModel.permute`).
fn interleaved(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (row, half) = (values.len() / rows, rows / heads / 2);
    let of = |head: usize, i: usize, j: usize| &values[(head * 2 * half + j * half + i) * row..][..row];
    let order = (0..heads).flat_map(|head| (0..half).flat_map(move |i| (0..2).map(move |j| (head, i, j))));
    order.flat_map(|(head, i, j)| of(head, i, j).to_vec()).collect()
}

fn config_json() -> serde_json::Value {
    json!({"model_type": "llama", "vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
        "rope_theta": 5000.0, "head_dim": 16, "max_position_embeddings": 128})
}

fn metadata() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::String(text.into());
    vec![
        ("general.architecture", text("llama")),
        ("llama.block_count", Value::U32(2)),
        ("llama.context_length", Value::U32(128)),
        ("llama.embedding_length", Value::U32(64)),
        ("llama.feed_forward_length", Value::U32(96)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(5000.0)),
        ("llama.rope.dimension_count", Value::U32(16)),
    ]
}

/// A file with the test model's weights, matrices in this dtype.
fn file(metadata: &[(&str, Value)], dtype: GgmlDType, change: impl Fn(&mut Vec<(String, QTensor)>)) -> Vec<u8> {
    let description = family::describe(&config_json().to_string()).unwrap();
    let mut tensors = Vec::new();
    for tensor in description.tensors() {
        let base = if tensor.name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let count: usize = tensor.shape.iter().product();
        let number = |i: usize| base + crate::model::test_model::number(&tensor.name, i as u64);
        let mut values: Vec<f32> = (0..count).map(number).collect();
        for (kind, heads) in [("q_proj", 4), ("k_proj", 2)] {
            if tensor.name.contains(kind) {
                values = interleaved(&values, tensor.shape[0], heads);
            }
        }
        let dtype = if tensor.shape.len() > 1 { dtype } else { GgmlDType::F32 };
        let values = CandleTensor::from_vec(values, tensor.shape.as_slice(), &Device::Cpu).unwrap();
        tensors.push((of_llama(&tensor.name), QTensor::quantize(&values, dtype).unwrap()));
    }
    change(&mut tensors);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut out = Cursor::new(Vec::new());
    write(&mut out, &metadata, &tensors).unwrap();
    out.into_inner()
}

fn parts(bytes: &[u8]) -> (tempfile::TempDir, Vec<Part>) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("any-name.Q8_0.gguf");
    std::fs::write(&path, bytes).unwrap();
    (folder, vec![Part { path, name: FILE.into() }])
}

fn last_states(model: &Transformer) -> Vec<f32> {
    let states = states_at(model, &part(&[9, 5]), Start::Tokens, Site::residual(2)).unwrap();
    with_slice(&states, <[f32]>::to_vec).unwrap()
}

#[test]
fn a_file_of_floats_is_the_checkpoint() {
    let checkpoint = TestModel::of(&config_json()).open();
    let (_folder, parts) = parts(&file(&metadata(), GgmlDType::F32, |_| {}));
    let model = Transformer::open_on(&parts, Device::Cpu).unwrap();
    assert_eq!(model.description, checkpoint.description);
    assert_eq!(last_states(&model), last_states(&checkpoint));
}

#[test]
fn quantised_weights_are_near_those_that_they_stand_for() {
    let exact = last_states(&TestModel::of(&config_json()).open());
    let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (dtype, tolerance) in [
        (GgmlDType::BF16, 0.05),
        (GgmlDType::F16, 0.005),
        (GgmlDType::Q8_0, 0.05),
        (GgmlDType::Q4_1, 0.6),
        (GgmlDType::Q4_0, 0.6),
    ] {
        let (_folder, parts) = parts(&file(&metadata(), dtype, |_| {}));
        let found = last_states(&Transformer::open_on(&parts, Device::Cpu).unwrap());
        let difference: Vec<f32> = found.iter().zip(&exact).map(|(a, b)| a - b).collect();
        let error = length(&difference) / length(&exact);
        assert!(error > 0.0 && error < tolerance, "{dtype:?}: {error}");
    }
}

fn error(metadata: &[(&str, Value)], change: impl Fn(&mut Vec<(String, QTensor)>)) -> String {
    error_of(&file(metadata, GgmlDType::F32, change))
}

fn error_of(bytes: &[u8]) -> String {
    let (_folder, parts) = parts(bytes);
    match Transformer::open_on(&parts, Device::Cpu) {
        Ok(_) => panic!("opened"),
        Err(error) => format!("{error:#}"),
    }
}

fn assert_names(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let changed = |key: &str, value: Value| {
        let mut metadata = metadata();
        metadata.retain(|(known, _)| *known != key);
        metadata.push((Box::leak(key.to_string().into_boxed_str()), value));
        error(&metadata, |_| {})
    };
    let other = changed("general.architecture", Value::String("mamba".into()));
    assert_names(&other, &["any-name.Q8_0.gguf", "\"mamba\"", "qwen3", "llama"]);
    assert_names(&changed("llama.block_count", Value::String("two".into())), &["llama.block_count"]);
    assert_names(&changed("llama.block_count", Value::U32(3)), &["there are 3 layers", "tensors of the first 2"]);
    assert_names(&changed("split.count", Value::U16(4)), &["one of 4 files", "llama-gguf-split"]);
    assert_names(&changed("llama.rope.scaling.type", Value::String("su2".into())), &["\"su2\"", "yarn"]);
    let vector =
        || QTensor::quantize(&CandleTensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap(), GgmlDType::F32);
    let extra = error(&metadata(), |tensors| tensors.push(("blk.0.ssm_a".into(), vector().unwrap())));
    assert_names(&extra, &["\"blk.0.ssm_a\"", "not used", "\"llama\""]);
    let missing = error(&metadata(), |tensors| tensors.retain(|(name, _)| name != "blk.1.attn_v.weight"));
    assert_names(&missing, &["model.layers.1.self_attn.v_proj.weight"]);
    let whole = file(&metadata(), GgmlDType::F32, |_| {});
    assert_names(&error_of(&whole[..whole.len() / 2]), &["cut short", "any-name.Q8_0.gguf"]);
    assert_names(&error_of(&whole[..100]), &["cut short, damaged or no GGUF file", "100 bytes"]);
    assert_names(&error_of(b"GGML and more"), &["no GGUF file"]);
}

/// Bytes of a byte-level vocabulary and their letters, as GPT-2 writes them.
#[test]
fn a_byte_level_tokenizer_is_built_from_the_metadata() {
    let text = |text: &str| Value::String(text.into());
    let texts = |texts: &[&str]| Value::Array(texts.iter().map(|t| text(t)).collect());
    let mut metadata = metadata();
    metadata.extend([
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", texts(&["<|end|>", "a", "b", "Ġ", "1", "2", "ab", "Ġab", "12", "<think>"])),
        ("tokenizer.ggml.token_type", Value::Array([3, 1, 1, 1, 1, 1, 1, 1, 1, 4].map(Value::I32).to_vec())),
        ("tokenizer.ggml.merges", texts(&["a b", "Ġ ab", "1 2"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.chat_template", text("{{ messages }}")),
    ]);
    let (_folder, parts) = parts(&file(&metadata, GgmlDType::F32, |_| {}));
    let (tokenizer, config) = tokenizer(&Gguf::open(&parts[0].path).unwrap()).unwrap();
    // SmolLM's digits are tokens of their own, whatever the merges say.
    let ids = tokenizer.encode("ab ab12<think><|end|>", false).unwrap().get_ids().to_vec();
    assert_eq!(ids, [6, 7, 4, 5, 9, 0]);
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "ab ab12<think><|end|>");
    assert_eq!(config, json!({"eos_token": "<|end|>", "chat_template": "{{ messages }}"}));
}
