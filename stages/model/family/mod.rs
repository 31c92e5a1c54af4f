//! The model families, one file each: from config.json to the description that the arithmetic runs on, the names of
//! the tensors, and what transformers does differently with the family's tokenizers.

mod bpe;
pub mod common;
mod defaults;
mod family;
mod gemma2;
mod gemma3;
mod gpt_neox;
mod granite;
mod llama;
mod mistral;
mod mixtral;
mod moe;
mod olmo2;
mod phi3;
pub mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod raw;
mod raw_rotary;
mod smollm3;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::block::description::Description;
pub use family::{Family, TokenizerFile, TokenizerRules};
use raw::Raw;

/// Every family, in the order of messages.
pub static FAMILIES: &[&Family] = &[
    &gemma2::FAMILY,
    &gemma3::WITH_IMAGES,
    &gemma3::TEXT,
    &gpt_neox::FAMILY,
    &granite::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &olmo2::FAMILY,
    &phi3::FAMILY,
    &qwen2::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &smollm3::FAMILY,
];

/// Reads the text of a config.json.
///
/// # Errors
/// When it is no JSON object, lacks a key, or describes a model that this program would compute wrongly: another
/// family, activation, rotary scaling, quantised weights.
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
    let own = |family: &Family| model_type == Some(family.model_type);
    if FAMILIES.iter().any(|family| own(family) && matches!(family.tokenizer, TokenizerFile::AsItIs)) {
        return None;
    }
    FAMILIES.iter().find_map(|family| match family.tokenizer {
        TokenizerFile::Rules(rules) if rules.by_model_type && own(family) => Some(rules),
        TokenizerFile::Rules(rules) if rules.class == class.trim_end_matches("Fast") => Some(rules),
        _ => None,
    })
}

/// Whether this `model_type` alone changes how a tokenizer's files are read.
pub fn changes_tokenizers(model_type: &str) -> bool {
    FAMILIES.iter().filter(|family| family.model_type == model_type).any(|family| match family.tokenizer {
        TokenizerFile::ByClass => false,
        TokenizerFile::AsItIs => true,
        TokenizerFile::Rules(rules) => rules.by_model_type,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::block::description::{Head, Linear, Projections};
    use crate::model::ops::HeadShape;
    use crate::model::rotary::{Rotary, Scaling};

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
        assert!(matches!(attention.projections, Projections::Separate { query: Linear { bias: true, .. }, .. }));
        assert!(!attention.output.bias);
        assert_eq!(old.head, Head::Tied { copy: "lm_head" });
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused_by_name() {
        let text = message(|raw| drop(raw.insert("model_type".into(), "mamba".into())));
        assert!(text.contains("\"mamba\"") && text.contains("qwen2") && text.contains("llama"), "{text}");
        let text = message(|raw| drop(raw.insert("layer_types".into(), serde_json::json!(["chunked_attention"]))));
        assert!(text.contains("layer_types") && text.contains("chunked_attention"), "{text}");
        let text = message(|raw| {
            drop(raw.insert("rope_scaling".into(), serde_json::json!({"type": "proportional", "factor": 4})))
        });
        assert!(text.contains("\"proportional\"") && text.contains("yarn"), "{text}");
        let text = message(|raw| drop(raw.insert("partial_rotary_factor".into(), serde_json::json!(0.5))));
        assert!(text.contains("partial_rotary_factor"), "{text}");
        let text = message(|raw| drop(raw.insert("hidden_act".into(), "mish".into())));
        assert!(text.contains("\"mish\""), "{text}");
        let text = message(|raw| {
            drop(raw.insert("model_type".into(), "gemma3_text".into()));
            drop(raw.insert("use_bidirectional_attention".into(), true.into()));
        });
        assert!(text.contains("use_bidirectional_attention"), "{text}");
        let text = message(|raw| drop(raw.remove("vocab_size")));
        assert!(text.contains("\"vocab_size\""), "{text}");
        let text = message(|raw| drop(raw.insert("num_hidden_layers".into(), "4".into())));
        assert!(text.contains("num_hidden_layers") && text.contains("\"4\""), "{text}");
    }

    #[test]
    fn the_documentation_lists_every_family() {
        let documentation = include_str!("../../../docs/pipeline.md");
        for family in FAMILIES {
            assert!(documentation.contains(&format!("`{}`", family.model_type)), "{}", family.model_type);
        }
    }

    /// As the configs of Gemma 3 were before transformers 5: one theta for each kind of blocks, and scaling for one.
    #[test]
    fn rotary_parameters_by_kind_of_block_have_an_old_spelling() {
        let of = |own: serde_json::Value| {
            let described = with(|raw| {
                raw.insert("model_type".into(), "gemma3_text".into());
                raw.retain(|key, _| !key.starts_with("rope"));
                raw.extend(own.as_object().unwrap().clone());
            });
            described.unwrap().block.attention
        };
        let old = of(serde_json::json!({"rope_theta": 5e5, "rope_local_base_freq": 2e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window_pattern": 2}));
        let new = of(serde_json::json!({"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}},
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}));
        assert_eq!(old, new);
        assert_eq!(old.rotary.of(0), &Some(Rotary::new(2e4)));
        let full = Rotary { scaling: Scaling::Linear { factor: 8.0 }, ..Rotary::new(5e5) };
        assert_eq!((old.rotary.of(3), old.window.of(3)), (&Some(full), &None));
        assert_eq!(old.window.of(2), &Some(4096));
        assert_eq!(of(serde_json::json!({"sliding_window_pattern": 2})).rotary.of(1), &Some(Rotary::new(1e6)));
    }

    #[test]
    fn a_window_that_is_null_is_none_and_one_left_out_is_the_familys() {
        let window = |own: serde_json::Value| {
            let described = with(|raw| {
                raw.insert("model_type".into(), "mistral".into());
                raw.extend(own.as_object().unwrap().clone());
            });
            *described.unwrap().block.attention.window.of(0)
        };
        assert_eq!(window(serde_json::json!({})), Some(4096));
        assert_eq!(window(serde_json::json!({"sliding_window": null})), None);
        assert_eq!(window(serde_json::json!({"sliding_window": 7})), Some(7));
    }
}
