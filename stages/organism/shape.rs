//! `[stages.train]`: the shape of the models that are trained from nothing.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::contract::cost::ModelSize;
use crate::contract::pipeline::PlanError;
use crate::contract::toml_path::at;
use crate::model::size::size;

/// The section, whose defaults are those of the small models of the default pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub vocabulary: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { hidden_size: 96, intermediate_size: 256, layers: 4, heads: 4, kv_heads: 2, vocabulary: 1024 }
    }
}

impl Shape {
    pub fn check(&self) -> Result<(), PlanError> {
        let error = |key: &str, message: String| Err(PlanError::new(at("stages.train").key(key), message));
        for (key, size, most) in [
            ("hidden_size", self.hidden_size, 1 << 14),
            ("intermediate_size", self.intermediate_size, 1 << 16),
            ("layers", self.layers, 256),
            ("heads", self.heads, 256),
            ("kv_heads", self.kv_heads, 256),
        ] {
            if !(1..=most).contains(&size) {
                return error(key, format!("{key} = {size} is out of range; expected 1 to {most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(2 * self.heads) {
            let message = format!("hidden_size = {} does not split into {} heads", self.hidden_size, self.heads);
            return error("hidden_size", format!("{message} of an even width"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return error("kv_heads", format!("{} heads cannot share {} key-value heads", self.heads, self.kv_heads));
        }
        // 256 bytes and the three special tokens.
        if !(259..=1 << 17).contains(&self.vocabulary) {
            return error(
                "vocabulary",
                format!("vocabulary = {} is out of range; expected 259 to 131072", self.vocabulary),
            );
        }
        Ok(())
    }

    /// The size of a model of this shape whose tokenizer fills its vocabulary; `None` when no model has the shape.
    pub fn size(&self) -> Option<ModelSize> {
        let config = json!({
            "model_type": "qwen2", "vocab_size": self.vocabulary, "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "tie_word_embeddings": true,
            "torch_dtype": "float32",
        });
        size(&config.to_string()).ok()
    }
}
