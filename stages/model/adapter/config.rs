//! adapter_config.json, as far as the adapter's output depends on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Keys without effect on what a trained adapter computes.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    // The tensors that it ties are saved under both names.
    "ensure_weight_tying",
    "eva_config",
    // Of layers whose weights are transposed, which none of the families here has.
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "velora_config",
];

/// What a LoRA adapter says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    pub r: usize,
    pub lora_alpha: f64,
    pub use_rslora: bool,
    pub target_modules: Option<Names>,
    pub exclude_modules: Option<Names>,
    pub layers_to_transform: Option<Layers>,
    pub layers_pattern: Option<Names>,
    pub rank_pattern: Option<BTreeMap<String, usize>>,
    pub alpha_pattern: Option<BTreeMap<String, f64>>,
    pub modules_to_save: Option<Vec<String>>,
    pub bias: Option<String>,
    pub lora_bias: bool,
    /// What the adapter was trained on, as its trainer called it.
    pub base_model_name_or_path: Option<String>,
}

/// Ends of module names, or one pattern for the whole of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Names {
    Pattern(String),
    List(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    One(usize),
    Some(Vec<usize>),
}

impl AdapterConfig {
    /// Reads the text of an adapter_config.json.
    ///
    /// # Errors
    /// When a key is missing or asks for what is not computed: another kind of adapter than LoRA, or a variant of it.
    pub fn read(text: &str) -> Result<AdapterConfig> {
        let raw: Map<String, Value> = serde_json::from_str(text).context("adapter_config.json is not a JSON object")?;
        let kind = raw.get("peft_type").and_then(Value::as_str).context("adapter_config.json has no \"peft_type\"")?;
        if kind != "LORA" {
            bail!("adapter_config.json: adapters of the kind \"{kind}\" are not supported; supported is LORA");
        }
        for (key, value) in raw.iter().filter(|(_, value)| asks_for_something(value)) {
            refuse(key, value)?;
        }
        for key in ["r", "lora_alpha"] {
            if !asks_for_something(raw.get(key).unwrap_or(&Value::Null)) {
                bail!("adapter_config.json has no \"{key}\", by which the adapter's output is scaled");
            }
        }
        let config: AdapterConfig =
            serde_path_to_error::deserialize(Value::Object(raw)).context("adapter_config.json")?;
        if config.target_modules.is_none() {
            bail!("adapter_config.json has no \"target_modules\"");
        }
        Ok(config)
    }

    /// What a low-rank product of this rank and alpha is multiplied by.
    pub fn scale(&self, rank: usize, alpha: f64) -> f32 {
        let rank = rank as f64;
        (if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }) as f32
    }
}

/// Not null, false, 0 or empty.
fn asks_for_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
    }
}

fn refuse(key: &str, value: &Value) -> Result<()> {
    const READ: &[&str] = &[
        "peft_type",
        "r",
        "lora_alpha",
        "use_rslora",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "bias",
        "lora_bias",
    ];
    if READ.contains(&key) || WITHOUT_EFFECT.contains(&key) {
        return Ok(());
    }
    match (key, value.as_str()) {
        ("use_dora", _) => bail!(
            "adapter_config.json: \"use_dora\" asks for DoRA, which is not supported; peft's merge_and_unload makes a model of it"
        ),
        ("init_lora_weights", method) => match method.map(str::to_lowercase) {
            // These change the base's weights when training begins, and peft repeats that whenever it loads the adapter.
            Some(method)
                if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|name| method.starts_with(name)) =>
            {
                bail!(
                    "adapter_config.json: \"init_lora_weights\" is {value}, with which the base's weights are changed; \
                     peft's save_pretrained(…, path_initial_model_for_weight_conversion=…) makes an ordinary LoRA adapter of it"
                )
            }
            _ => Ok(()),
        },
        _ => bail!("adapter_config.json: \"{key}\" is {value}, which is not supported"),
    }
}
