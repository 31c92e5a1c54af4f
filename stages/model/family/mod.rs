//! The model families, one file each: from config.json to the description that the arithmetic runs on, the names of
//! the tensors, and what transformers does differently with the family's tokenizers.

pub mod common;
mod family;
mod llama;
pub mod qwen2;
mod qwen3;
mod raw;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::block::description::Description;
pub use family::{Family, TokenizerRules};
use raw::Raw;

/// Every family, in the order of messages.
pub static FAMILIES: &[&Family] = &[&llama::FAMILY, &qwen2::FAMILY, &qwen3::FAMILY];

/// Reads the text of a config.json.
///
/// # Errors
/// When it is no JSON object, lacks a key, or describes a model that this program would compute wrongly: another
/// family, activation, rotary scaling, a sliding window, quantised weights.
pub fn describe(text: &str) -> Result<Description> {
    let raw: Map<String, Value> = serde_json::from_str(text).context("config.json is not a JSON object")?;
    let raw = Raw(&raw);
    let model_type = raw.text("model_type")?.context("config.json has no \"model_type\"")?;
    match FAMILIES.iter().find(|family| family.model_type == model_type) {
        Some(family) => (family.describe)(&raw),
        None => {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            bail!("the architecture \"{model_type}\" is not supported; supported are: {}", known.join(", "))
        }
    }
}

/// The rules for a tokenizer of this class beside a model of this family.
pub fn tokenizer_rules(model_type: Option<&str>, class: &str) -> Option<TokenizerRules> {
    let asks = |family: &&Family, rules: &TokenizerRules| {
        rules.by_model_type && model_type == Some(family.model_type) || rules.class == class.trim_end_matches("Fast")
    };
    FAMILIES.iter().find_map(|family| family.tokenizer.filter(|rules| asks(family, rules)))
}

/// Whether this `model_type` alone changes how a tokenizer's files are read.
pub fn changes_tokenizers(model_type: &str) -> bool {
    let rules = FAMILIES.iter().filter(|family| family.model_type == model_type).filter_map(|family| family.tokenizer);
    rules.into_iter().any(|rules| rules.by_model_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::block::description::Head;
    use crate::model::ops::HeadShape;

    const QWEN: &str = r#"{"model_type": "qwen2", "vocab_size": 640, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true, "rope_theta": 1000000.0, "rope_scaling": null, "use_sliding_window": false}"#;

    fn with(change: impl Fn(&mut Map<String, Value>)) -> Result<Description> {
        let mut raw = serde_json::from_str(QWEN).unwrap();
        change(&mut raw);
        describe(&serde_json::to_string(&raw).unwrap())
    }

    fn message(change: impl Fn(&mut Map<String, Value>)) -> String {
        format!("{:#}", with(change).unwrap_err())
    }

    #[test]
    fn both_spellings_of_the_rotary_parameters_mean_the_same() {
        let old = describe(QWEN).unwrap();
        let new = with(|raw| {
            raw.remove("rope_theta");
            raw.insert("rope_parameters".into(), serde_json::json!({"rope_type": "default", "rope_theta": 1e6}));
        });
        assert_eq!(old, new.unwrap());
        let attention = &old.block.attention;
        assert_eq!(attention.heads, HeadShape { heads: 4, kv_heads: 2, dim: 16 });
        assert!(attention.query.bias && !attention.output.bias);
        assert_eq!(old.head, Head::Tied { copy: "lm_head" });
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused_by_name() {
        let text = message(|raw| drop(raw.insert("model_type".into(), "mamba".into())));
        assert!(text.contains("\"mamba\"") && text.contains("qwen2") && text.contains("llama"), "{text}");
        let text = message(|raw| drop(raw.insert("use_sliding_window".into(), true.into())));
        assert!(text.contains("use_sliding_window"), "{text}");
        let text =
            message(|raw| drop(raw.insert("rope_scaling".into(), serde_json::json!({"type": "yarn", "factor": 4}))));
        assert!(text.contains("\"yarn\""), "{text}");
        let text = message(|raw| drop(raw.insert("hidden_act".into(), "gelu".into())));
        assert!(text.contains("\"gelu\""), "{text}");
        let text = message(|raw| drop(raw.remove("vocab_size")));
        assert!(text.contains("\"vocab_size\""), "{text}");
        let text = message(|raw| drop(raw.insert("num_hidden_layers".into(), "4".into())));
        assert!(text.contains("num_hidden_layers") && text.contains("\"4\""), "{text}");
    }
}
