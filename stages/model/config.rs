//! A Hugging Face config.json as the settings of one transformer: which families there are, and how each
//! departs from the common block, is decided here and nowhere else.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::ops::HeadShape;
use super::reverse::Module;
use crate::contract::module::{self as contract, Modules};

/// What the forward pass needs to know of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub model_type: String,
    pub vocabulary: usize,
    /// D, the width of the residual stream.
    pub hidden_size: usize,
    pub intermediate_size: usize,
    /// L, the number of blocks.
    pub layers: usize,
    pub heads: HeadShape,
    pub rms_norm_eps: f32,
    pub rotary: Rotary,
    /// The output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Biases of the query, key and value projections.
    pub query_bias: bool,
    /// Bias of the attention's output projection.
    pub output_bias: bool,
    /// Biases of the feed-forward projections.
    pub mlp_bias: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    pub theta: f64,
    pub scaling: Scaling,
}

/// How the rotary frequencies are stretched for contexts longer than those of pretraining.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    /// Positions divided by a factor.
    Linear {
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_positions: f64,
    },
}

/// The model families the runtime knows, by their `model_type`.
pub const FAMILIES: [&str; 2] = ["llama", "qwen2"];

impl Config {
    /// Reads the text of a config.json.
    ///
    /// # Errors
    /// When it is no JSON object, lacks a key, or describes a model this runtime would compute wrongly:
    /// another family, activation, rotary scaling, a sliding window, quantised weights.
    pub fn parse(text: &str) -> Result<Config> {
        let raw: Map<String, Value> = serde_json::from_str(text).context("config.json is not a JSON object")?;
        let raw = Raw(&raw);
        let model_type = raw.text("model_type")?.context("config.json has no \"model_type\"")?;
        if !FAMILIES.contains(&model_type) {
            bail!("the architecture \"{model_type}\" is not supported; supported are: {}", FAMILIES.join(", "));
        }
        raw.refuse_what_is_not_computed()?;

        let hidden_size = raw.size("hidden_size")?;
        let heads = raw.size("num_attention_heads")?;
        let dim = match raw.optional_size("head_dim")? {
            Some(dim) => dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => bail!("config.json: hidden_size {hidden_size} is no multiple of num_attention_heads {heads}"),
        };
        let kv_heads = raw.optional_size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            bail!("config.json: {heads} attention heads cannot share {kv_heads} key-value heads");
        }
        if dim % 2 != 0 {
            bail!("config.json: head_dim is {dim}, and rotary embeddings need an even one");
        }
        let attention_bias = match model_type {
            "qwen2" => (true, false),
            _ => {
                let bias = raw.flag("attention_bias")?.unwrap_or(false);
                (bias, bias)
            }
        };
        Ok(Config {
            model_type: model_type.to_string(),
            vocabulary: raw.size("vocab_size")?,
            hidden_size,
            intermediate_size: raw.size("intermediate_size")?,
            layers: raw.size("num_hidden_layers")?,
            heads: HeadShape { heads, kv_heads, dim },
            rms_norm_eps: raw.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rotary: raw.rotary()?,
            tied_embeddings: raw.flag("tie_word_embeddings")?.unwrap_or(false),
            query_bias: attention_bias.0,
            output_bias: attention_bias.1,
            mlp_bias: model_type == "llama" && raw.flag("mlp_bias")?.unwrap_or(false),
        })
    }
}

/// The linear layers of a model that the `train` stage makes, by name alone.
pub fn trained_modules(layers: usize) -> Modules {
    let module = |module: Module| contract::Module { name: module.name().into(), out: 0, inputs: 0 };
    Modules { layers, of_block: Module::ALL.map(module).to_vec() }
}

impl Config {
    /// The linear layers of its blocks.
    pub fn modules(&self) -> Modules {
        let Config { hidden_size, intermediate_size, heads, layers, .. } = *self;
        let module = |module: Module| {
            let (out, inputs) = match module {
                Module::Query => (heads.queries(), hidden_size),
                Module::Key | Module::Value => (heads.keys(), hidden_size),
                Module::Output => (hidden_size, heads.queries()),
                Module::Gate | Module::Up => (intermediate_size, hidden_size),
                Module::Down => (hidden_size, intermediate_size),
            };
            contract::Module { name: module.name().into(), out, inputs }
        };
        Modules { layers, of_block: Module::ALL.map(module).to_vec() }
    }
}

impl Rotary {
    /// Radians a position for each of the `dim / 2` pairs of dimensions, rounded as transformers rounds them
    /// (`modeling_rope_utils`), because an error here grows with the position.
    pub fn frequencies(&self, dim: usize) -> Vec<f32> {
        let base = (0..dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / dim as f32;
            1.0 / self.theta.powf(exponent as f64) as f32
        });
        match self.scaling {
            Scaling::None => base.collect(),
            Scaling::Linear { factor } => base.map(|f| f / factor as f32).collect(),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => base
                .map(|f| {
                    let wavelength = 2.0 * std::f32::consts::PI / f;
                    if wavelength > (original_positions / low_freq_factor) as f32 {
                        f / factor as f32
                    } else if wavelength < (original_positions / high_freq_factor) as f32 {
                        f
                    } else {
                        let smooth = (original_positions as f32 / wavelength - low_freq_factor as f32)
                            / (high_freq_factor - low_freq_factor) as f32;
                        (1.0 - smooth) * f / factor as f32 + smooth * f
                    }
                })
                .collect(),
        }
    }
}

/// A config.json's values by key, with errors that name key and value. `null` counts as absent.
struct Raw<'a>(&'a Map<String, Value>);

impl Raw<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if size > 0 => Ok(Some(size as usize)),
            _ => bail!("config.json: \"{key}\" is {value}, expected a positive whole number"),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.with_context(|| format!("config.json has no \"{key}\""))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_f64().with_context(|| format!("config.json: \"{key}\" is {value}, expected a number"))?))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_bool().with_context(|| format!("config.json: \"{key}\" is {value}, expected true or false"))?))
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_str().with_context(|| format!("config.json: \"{key}\" is {value}, expected a string"))?))
    }

    fn refuse_what_is_not_computed(&self) -> Result<()> {
        let activation = self.text("hidden_act")?.unwrap_or("silu");
        if activation != "silu" {
            bail!("config.json: the activation \"{activation}\" is not supported, only \"silu\" is");
        }
        if self.flag("use_sliding_window")?.unwrap_or(false) {
            bail!("config.json: \"use_sliding_window\" is true; sliding-window attention is not supported");
        }
        if let Some(Value::Array(kinds)) = self.get("layer_types")
            && let Some(kind) = kinds.iter().find(|kind| *kind != "full_attention")
        {
            bail!("config.json: \"layer_types\" has {kind}; only \"full_attention\" is supported");
        }
        if let Some(quantization) = self.get("quantization_config") {
            let method = quantization.get("quant_method").unwrap_or(&Value::Null);
            bail!("config.json: quantised weights ({method}) are not supported; use an f32, f16 or bf16 model");
        }
        Ok(())
    }

    /// `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` beside each other (before).
    fn rotary(&self) -> Result<Rotary> {
        let empty = Map::new();
        let (key, parameters) = match (self.get("rope_parameters"), self.get("rope_scaling")) {
            (Some(Value::Object(parameters)), _) => ("rope_parameters", parameters),
            (None, Some(Value::Object(parameters))) => ("rope_scaling", parameters),
            (None, None) => ("rope_parameters", &empty),
            (found, other) => bail!("config.json: rotary parameters are {:?}, expected an object", found.or(other)),
        };
        let inner = Raw(parameters);
        let theta = match inner.number("rope_theta")? {
            Some(theta) => theta,
            None => self.number("rope_theta")?.unwrap_or(10_000.0),
        };
        let need = |name: &str| inner.number(name)?.with_context(|| format!("config.json: {key} has no \"{name}\""));
        let kind = match inner.text("rope_type")? {
            Some(kind) => kind,
            None => inner.text("type")?.unwrap_or("default"),
        };
        let scaling = match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: need("factor")? },
            "llama3" => Scaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_positions: need("original_max_position_embeddings")?,
            },
            other => bail!(
                "config.json: the rotary scaling \"{other}\" is not supported; supported are: default, linear, llama3"
            ),
        };
        Ok(Rotary { theta, scaling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: &str = r#"{"model_type": "qwen2", "vocab_size": 640, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true, "rope_theta": 1000000.0, "rope_scaling": null, "use_sliding_window": false}"#;

    fn with(change: impl Fn(&mut Map<String, Value>)) -> Result<Config> {
        let mut raw = serde_json::from_str(QWEN).unwrap();
        change(&mut raw);
        Config::parse(&serde_json::to_string(&raw).unwrap())
    }

    fn message(change: impl Fn(&mut Map<String, Value>)) -> String {
        format!("{:#}", with(change).unwrap_err())
    }

    #[test]
    fn both_spellings_of_the_rotary_parameters_mean_the_same() {
        let old = Config::parse(QWEN).unwrap();
        let new = with(|raw| {
            raw.remove("rope_theta");
            raw.insert("rope_parameters".into(), serde_json::json!({"rope_type": "default", "rope_theta": 1e6}));
        });
        assert_eq!(old, new.unwrap());
        assert_eq!(old.heads, HeadShape { heads: 4, kv_heads: 2, dim: 16 });
        assert!(old.query_bias && !old.output_bias && old.tied_embeddings);
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

    /// `ROPE_INIT_FUNCTIONS["llama3"]` of transformers 5.23 for theta 500000, head_dim 16 and Llama 3.1's factors.
    #[test]
    fn llama3_frequencies_are_those_of_transformers() {
        let rotary = with(|raw| {
            raw.insert("model_type".into(), "llama".into());
            let scaling = serde_json::json!({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
            raw.insert("rope_parameters".into(), scaling);
        });
        let expected: [f32; 8] =
            [1.0, 0.19392276, 0.03760603, 0.007292665, 0.000524846, 3.4281024e-05, 6.6478697e-06, 1.2891732e-06];
        assert_eq!(rotary.unwrap().rotary.frequencies(16), expected);
    }
}
