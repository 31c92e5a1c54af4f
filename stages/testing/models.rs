//! The two models of tests/golden/interventions.py: tests/golden/models/qwen2, and the same with its weights moved.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::contract::node::Part;
use crate::model::golden_tests;
use crate::model::test_model::number;

/// A folder of the files that are changed, removed when dropped.
pub struct TestModels {
    folder: tempfile::TempDir,
}

/// What tests/golden/interventions.py computed with transformers.
pub fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/interventions.json")).expect("interventions.json")
}

/// The conversations of the golden numbers.
pub fn conversations() -> Vec<Value> {
    golden_tests::reference("qwen2").into_iter().map(|example| example["messages"].clone()).collect()
}

pub fn source() -> Vec<Part> {
    golden_tests::weights("qwen2")
}

pub fn tokenizer() -> Vec<Part> {
    golden_tests::tokenizer("qwen2")
}

impl TestModels {
    pub fn new() -> TestModels {
        TestModels { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Part {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("a model file");
        Part { path, name: name.into() }
    }

    /// The source with all weights but the embeddings moved.
    pub fn target(&self) -> Vec<Part> {
        let changed = |part: Part| match part.name.as_str() {
            "model.safetensors" => self.write(&part.name, &moved(&std::fs::read(&part.path).expect("the weights"))),
            _ => part,
        };
        source().into_iter().map(changed).collect()
    }

    /// The tokenizer with its tokenizer.json changed.
    pub fn changed_tokenizer(&self, change: impl Fn(String) -> String) -> Vec<Part> {
        let changed = |part: Part| match part.name.as_str() {
            "tokenizer.json" => {
                let text = std::fs::read_to_string(&part.path).expect("the tokenizer");
                self.write(&part.name, change(text).as_bytes())
            }
            _ => part,
        };
        tokenizer().into_iter().map(changed).collect()
    }
}

fn moved(file: &[u8]) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).expect("a safetensors file");
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, view)| {
            let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            let step = if name.contains("embed_tokens") { 0.0 } else { 0.25 };
            let values = values.enumerate().map(|(i, x)| x + step * number(name, i as u64));
            (name.to_string(), view.shape().to_vec(), values.flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    let metadata: Option<HashMap<String, String>> = None;
    safetensors::serialize(views, metadata).expect("a safetensors file")
}
