//! A small model on disk for tests, its weights a formula that tests/golden/gradients.py and families.py follow too.

use std::collections::HashMap;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};

use super::adapter::file_names;
use super::block::description::TensorShape;
use super::transformer::Transformer;
use crate::contract::node::Part;
use crate::contract::sequences::Sequences;

pub const LAYERS: usize = 3;
pub const VOCABULARY: usize = 40;
const WIDTH: usize = 16;
const WIDE: usize = 24;
/// A head's width where the family gives it by itself.
const HEAD: usize = 6;

/// A folder with config.json and model.safetensors, removed when dropped.
pub struct TestModel {
    folder: tempfile::TempDir,
    pub parts: Vec<Part>,
}

/// The i-th number of a name, in [-0.5, 0.5): FNV-1a of the name, then SplitMix64's i-th output.
pub fn number(name: &str, i: u64) -> f32 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
    let mut z = hash.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
}

impl TestModel {
    pub fn new(family: &str) -> TestModel {
        TestModel::with(family, |_, _| {})
    }

    /// With every tensor's values changed by `change(name, values)`.
    pub fn with(family: &str, change: impl Fn(&str, &mut [f32])) -> TestModel {
        TestModel::stored(family, Dtype::F32, change)
    }

    /// With its values rounded to bf16, in a file of this dtype: f32 or bf16.
    pub fn rounded(family: &str, dtype: Dtype) -> TestModel {
        let round = |value: &mut f32| *value = bf16::from_f32(*value).to_f32();
        TestModel::stored(family, dtype, |_, values| values.iter_mut().for_each(round))
    }

    fn stored(family: &str, dtype: Dtype, change: impl Fn(&str, &mut [f32])) -> TestModel {
        let mut config = json!({"model_type": family, "vocab_size": VOCABULARY, "hidden_size": WIDTH,
            "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": family != "llama", "rope_theta": 10000.0});
        if family != "llama" && family != "qwen2" {
            config["head_dim"] = json!(HEAD);
        }
        TestModel::write(&config, dtype, change)
    }

    /// With this config.json.
    pub fn of(config: &Value) -> TestModel {
        TestModel::write(config, Dtype::F32, |_, _| {})
    }

    fn write(config: &Value, dtype: Dtype, change: impl Fn(&str, &mut [f32])) -> TestModel {
        let tensors = super::family::describe(&config.to_string()).unwrap().tensors();
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|TensorShape { name, shape }| {
                let base = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
                let count = shape.iter().product::<usize>() as u64;
                let mut values: Vec<f32> = (0..count).map(|i| base + number(name, i)).collect();
                change(name, &mut values);
                match dtype {
                    Dtype::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
                    _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                }
            })
            .collect();
        let views = tensors
            .iter()
            .zip(&data)
            .map(|(TensorShape { name, shape }, bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let metadata: Option<HashMap<String, String>> = None;
        std::fs::write(folder.path().join("model.safetensors"), serialize(views, metadata).unwrap()).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let part = |name: &str| Part { path: folder.path().join(name), name: name.into() };
        let parts = vec![part("config.json"), part("model.safetensors")];
        TestModel { folder, parts }
    }

    /// With an adapter beside it: its adapter_config.json, and of each tensor the name, the shape and the name whose numbers
    /// it holds.
    pub fn add_adapter(&mut self, config: &Value, tensors: &[(&str, Vec<usize>, &str)]) {
        let data = tensors.iter().map(|(_, shape, of)| {
            let base = if of.ends_with("norm.weight") { 1.0 } else { 0.0 };
            let count = shape.iter().product::<usize>() as u64;
            (0..count).flat_map(|i| (base + number(of, i)).to_le_bytes()).collect()
        });
        let data: Vec<Vec<u8>> = data.collect();
        let views = tensors.iter().zip(&data);
        let views =
            views.map(|((name, shape, _), bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        let bytes = serialize(views, None).unwrap();
        for (name, bytes) in [(file_names::CONFIG, config.to_string().into_bytes()), (file_names::WEIGHTS, bytes)] {
            let path = self.folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            self.parts.push(Part { path, name: name.into() });
        }
    }

    pub fn open(&self) -> Transformer {
        assert!(self.folder.path().exists());
        Transformer::open_on(&self.parts, candle_core::Device::Cpu).unwrap()
    }
}

/// Sequences of these lengths, the second half of each the response.
pub fn part(lengths: &[usize]) -> Sequences {
    let mut part = Sequences::default();
    for (i, length) in lengths.iter().enumerate() {
        let name = format!("ids {i}");
        let id = |t: usize| ((number(&name, t as u64) + 0.5) * VOCABULARY as f32) as u32;
        part.examples.push(format!("{i:016x}"));
        part.ids.push((0..*length).map(id).collect());
        part.response.push(((*length as u32).div_ceil(2), *length as u32));
        part.turn.push((*length as u32).div_ceil(2).saturating_sub(1));
    }
    part
}
