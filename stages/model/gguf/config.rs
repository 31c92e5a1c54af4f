//! A GGUF file's metadata as the text of a config.json.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::file::Gguf;

/// Architectures by their name in the file, with the `model_type` of their config.json.
const ARCHITECTURES: &[(&str, &str)] = &[
    // Mistral's too.
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("phi3", "phi3"),
];

/// The text of a config.json.
///
/// # Errors
/// When the architecture is not supported or a key is missing.
pub fn config(gguf: &Gguf) -> Result<String> {
    let architecture = gguf.architecture()?;
    let Some((_, model_type)) = ARCHITECTURES.iter().find(|(name, _)| *name == architecture) else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        bail!(
            "the architecture \"{architecture}\" is not supported in a GGUF file; supported are: {}",
            known.join(", ")
        );
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let optional = |name: &str| gguf.number(&key(name));
    let need = |name: &str| optional(name).with_context(|| format!("the GGUF file has no \"{}\"", key(name)));
    let vocabulary = gguf.shape("token_embd.weight").context("the GGUF file has no tensor \"token_embd.weight\"")?;
    let (width, heads) = (need("embedding_length")?, need("attention.head_count")?);
    let head_dim = optional("attention.key_length").unwrap_or(match optional("rope.dimension_count") {
        // The part of a head that is rotated, in a family that may rotate a part.
        Some(rotated) if architecture != "phi3" => rotated,
        _ => width / heads,
    });
    let mut config = Map::new();
    let mut set = |name: &str, value: Value| drop(config.insert(name.to_string(), value));
    set("model_type", json!(model_type));
    set("vocab_size", json!(vocabulary.first()));
    for (name, of) in [
        ("hidden_size", Some(width)),
        ("num_hidden_layers", Some(need("block_count")?)),
        ("intermediate_size", Some(need("feed_forward_length")?)),
        ("num_attention_heads", Some(heads)),
        ("num_key_value_heads", Some(optional("attention.head_count_kv").unwrap_or(heads))),
        ("head_dim", (architecture != "phi3" && architecture != "qwen2").then_some(head_dim)),
        ("max_position_embeddings", optional("context_length")),
    ] {
        if let Some(of) = of {
            set(name, json!(of as u64));
        }
    }
    set("rms_norm_eps", json!(need("attention.layer_norm_rms_epsilon")?));
    set("tie_word_embeddings", json!(gguf.shape("output.weight").is_none()));
    if architecture == "llama" && gguf.shape("blk.0.attn_q.bias").is_some() {
        set("attention_bias", json!(true));
    }
    if let Some(window) = optional("attention.sliding_window").filter(|window| *window > 0.0) {
        set("sliding_window", json!(window as u64));
    } else if architecture == "phi3" {
        set("sliding_window", Value::Null);
    }
    for (name, of) in [
        ("attn_logit_softcapping", optional("attn_logit_softcapping")),
        ("final_logit_softcapping", optional("final_logit_softcapping")),
    ] {
        if let Some(of) = of {
            set(name, json!(of));
        }
    }
    if architecture.starts_with("gemma") {
        // The largest of both generations scales by the width that a head would have, and no key says so.
        let largest = [("gemma2", 46.0), ("gemma3", 62.0)].contains(&(architecture, need("block_count")?));
        set("query_pre_attn_scalar", json!(if largest { width / heads } else { head_dim }));
    }
    rotary(gguf, architecture, head_dim, &mut config)?;
    Ok(Value::Object(config).to_string())
}

fn rotary(gguf: &Gguf, architecture: &str, head_dim: f64, config: &mut Map<String, Value>) -> Result<()> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let optional = |name: &str| gguf.number(&key(name));
    if let Some(theta) = optional("freq_base") {
        config.insert("rope_theta".into(), json!(theta));
    }
    let original = optional("scaling.original_context_length");
    let long = gguf.vector("rope_factors_long.weight")?;
    let short = gguf.vector("rope_factors_short.weight")?;
    let scaling = if let (Some(long), Some(short)) = (long, short) {
        let mut scaling = json!({"rope_type": "longrope", "short_factor": short, "long_factor": long});
        if let Some(factor) = optional("scaling.attn_factor") {
            scaling["attention_factor"] = json!(factor);
        }
        Some(scaling)
    } else if let Some(factors) = gguf.vector("rope_freqs.weight")? {
        // How llama.cpp stores the scaling of Llama 3: what each frequency is divided by.
        Some(json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0}))
    } else {
        match (gguf.text(&key("scaling.type")), optional("scaling.factor")) {
            (None | Some("none"), None) => None,
            (None | Some("linear"), Some(factor)) => Some(json!({"rope_type": "linear", "factor": factor})),
            (Some("none"), Some(_)) => None,
            (Some("yarn"), Some(factor)) => Some(json!({"rope_type": "yarn", "factor": factor})),
            (Some(other), _) => bail!(
                "the rotary scaling \"{other}\" of the GGUF file is not supported; supported are: none, linear, yarn"
            ),
        }
    };
    if let Some(mut scaling) = scaling {
        if let Some(original) = original {
            scaling["original_max_position_embeddings"] = json!(original as u64);
        }
        match architecture {
            // Blocks that see all tokens have it, those with a window do not.
            "gemma3" => {
                scaling["rope_theta"] = json!(optional("freq_base").unwrap_or(1e6));
                let local = json!({"rope_type": "default", "rope_theta": 10_000.0});
                config.insert("rope_parameters".into(), json!({"full_attention": scaling, "sliding_attention": local}));
            }
            _ => drop(config.insert("rope_scaling".into(), scaling)),
        }
    }
    if architecture == "phi3"
        && let Some(rotated) = optional("dimension_count").filter(|rotated| *rotated < head_dim)
    {
        config.insert("partial_rotary_factor".into(), json!(rotated / head_dim));
    }
    Ok(())
}
