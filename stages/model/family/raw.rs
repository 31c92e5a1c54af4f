//! A config.json's values by key, with errors that name key and value.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::model::ops::HeadShape;
use crate::model::rotary::{Rotary, Scaling};

/// The object in a config.json. `null` counts as absent.
pub struct Raw<'a>(pub &'a Map<String, Value>);

impl Raw<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if size > 0 => Ok(Some(size as usize)),
            _ => bail!("config.json: \"{key}\" is {value}, expected a positive whole number"),
        }
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.with_context(|| format!("config.json has no \"{key}\""))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_f64().with_context(|| format!("config.json: \"{key}\" is {value}, expected a number"))?))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_bool().with_context(|| format!("config.json: \"{key}\" is {value}, expected true or false"))?))
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_str().with_context(|| format!("config.json: \"{key}\" is {value}, expected a string"))?))
    }

    /// How the attention's heads lie.
    ///
    /// # Errors
    /// When a key is missing, or the numbers do not fit each other.
    pub fn heads(&self) -> Result<HeadShape> {
        let (hidden_size, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let dim = match self.optional_size("head_dim")? {
            Some(dim) => dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => bail!("config.json: hidden_size {hidden_size} is no multiple of num_attention_heads {heads}"),
        };
        let kv_heads = self.optional_size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            bail!("config.json: {heads} attention heads cannot share {kv_heads} key-value heads");
        }
        if dim % 2 != 0 {
            bail!("config.json: head_dim is {dim}, and rotary embeddings need an even one");
        }
        Ok(HeadShape { heads, kv_heads, dim })
    }

    pub fn refuse_what_is_not_computed(&self) -> Result<()> {
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
    pub fn rotary(&self) -> Result<Rotary> {
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
