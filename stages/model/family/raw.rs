//! A config.json's values by key, with errors that name key and value.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::defaults::Defaults;
use crate::contract::per_block::PerBlock;
use crate::model::ops::{Activation, HeadShape};

const LAYERS: usize = 10_000;

/// The object in a config.json. `null` counts as absent, but for [`Raw::size_or`] and [`Raw::number_or`].
pub struct Raw<'a>(pub &'a Map<String, Value>);

impl<'a> Raw<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Value> {
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

    /// How many blocks there are: no model has nearly as many as are allowed, and lists are made of so many.
    pub fn layers(&self) -> Result<usize> {
        match self.size("num_hidden_layers")? {
            layers @ ..=LAYERS => Ok(layers),
            layers => bail!("config.json: \"num_hidden_layers\" is {layers}, expected at most {LAYERS}"),
        }
    }

    /// `default` for a key that is left out; `null` means none.
    pub fn size_or(&self, key: &str, default: Option<usize>) -> Result<Option<usize>> {
        if self.0.contains_key(key) { self.optional_size(key) } else { Ok(default) }
    }

    /// A whole number that may be 0.
    pub fn size_or_zero(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let size =
            value.as_u64().with_context(|| format!("config.json: \"{key}\" is {value}, expected a whole number"))?;
        Ok(size as usize)
    }

    /// Whole numbers, 0 among them.
    pub fn sizes(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let sizes = value.as_array().and_then(|values| {
            values.iter().map(|value| value.as_u64().map(|size| size as usize)).collect::<Option<Vec<_>>>()
        });
        Ok(Some(sizes.with_context(|| format!("config.json: \"{key}\" is {value}, expected a list of whole numbers"))?))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_f64().with_context(|| format!("config.json: \"{key}\" is {value}, expected a number"))?))
    }

    /// `default` for a key that is left out; `null` means none.
    pub fn number_or(&self, key: &str, default: Option<f64>) -> Result<Option<f64>> {
        if self.0.contains_key(key) { self.number(key) } else { Ok(default) }
    }

    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers = value.as_array().and_then(|values| values.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
        Ok(Some(numbers.with_context(|| format!("config.json: \"{key}\" is {value}, expected a list of numbers"))?))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_bool().with_context(|| format!("config.json: \"{key}\" is {value}, expected true or false"))?))
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_str().with_context(|| format!("config.json: \"{key}\" is {value}, expected a string"))?))
    }

    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(value.as_object().with_context(|| format!("config.json: \"{key}\" is {value}, expected an object"))?))
    }

    /// How the attention's heads lie.
    ///
    /// # Errors
    /// When a key is missing, or the numbers do not fit each other.
    pub fn heads(&self, defaults: &Defaults) -> Result<HeadShape> {
        let (hidden_size, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let dim = match self.optional_size("head_dim")?.or(defaults.head_dim) {
            Some(dim) => dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => bail!("config.json: hidden_size {hidden_size} is no multiple of num_attention_heads {heads}"),
        };
        let kv_heads = self.size_or("num_key_value_heads", defaults.kv_heads)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            bail!("config.json: {heads} attention heads cannot share {kv_heads} key-value heads");
        }
        if dim % 2 != 0 {
            bail!("config.json: head_dim is {dim}, and rotary embeddings need an even one");
        }
        Ok(HeadShape { heads, kv_heads, dim })
    }

    /// The activation under this key, or the default.
    pub fn activation(&self, (key, default): (&str, &str)) -> Result<Activation> {
        match self.text(key)?.unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            // One formula, of which transformers has several spellings.
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => bail!(
                "config.json: the activation \"{other}\" is not supported; supported are: silu, gelu, \
                 gelu_pytorch_tanh, relu"
            ),
        }
    }

    /// How many tokens each token sees, by block: `window` in those that `layer_types` or else `kind` calls
    /// `sliding_attention`.
    ///
    /// # Errors
    /// When `layer_types` has another kind, does not fit the blocks, or has windows of a size that is not given.
    pub fn windows(
        &self,
        layers: usize,
        window: Option<usize>,
        kind: impl Fn(usize) -> &'static str,
    ) -> Result<PerBlock<Option<usize>>> {
        let mut of_block = Vec::new();
        for kind in self.kinds(layers, kind)? {
            of_block.push(match (kind.as_str(), window) {
                ("full_attention", _) => None,
                (_, Some(window)) => Some(window),
                (_, None) => bail!("config.json: \"layer_types\" has \"{kind}\", and there is no \"sliding_window\""),
            });
        }
        Ok(PerBlock::listed(of_block).unwrap_or(PerBlock::all(None)))
    }

    /// `layer_types`, or what `kind` says of each block: `full_attention` or `sliding_attention`.
    pub fn kinds(&self, layers: usize, kind: impl Fn(usize) -> &'static str) -> Result<Vec<String>> {
        let Some(listed) = self.get("layer_types") else {
            return Ok((0..layers).map(|block| kind(block).to_string()).collect());
        };
        let listed = listed.as_array().with_context(|| format!("config.json: \"layer_types\" is {listed}"))?;
        if listed.len() != layers {
            bail!("config.json: \"layer_types\" has {} kinds, expected {layers}", listed.len());
        }
        let known = |kind: &Value| match kind.as_str() {
            Some(kind @ ("full_attention" | "sliding_attention")) => Ok(kind.to_string()),
            _ => bail!(
                "config.json: \"layer_types\" has {kind}; only \"full_attention\" and \"sliding_attention\" are supported"
            ),
        };
        listed.iter().map(known).collect()
    }

    /// For a family whose blocks are all alike.
    pub fn refuse_windows(&self) -> Result<()> {
        if let Some(Value::Array(kinds)) = self.get("layer_types")
            && let Some(kind) = kinds.iter().find(|kind| *kind != "full_attention")
        {
            bail!("config.json: \"layer_types\" has {kind}; this family has only \"full_attention\"");
        }
        Ok(())
    }

    pub fn refuse_flag(&self, key: &str) -> Result<()> {
        if self.flag(key)?.unwrap_or(false) {
            bail!("config.json: \"{key}\" is true, which is not supported");
        }
        Ok(())
    }

    pub fn refuse_quantized_weights(&self) -> Result<()> {
        if let Some(quantization) = self.get("quantization_config") {
            let method = quantization.get("quant_method").unwrap_or(&Value::Null);
            // The blocks of its scales are told by the tensors.
            if method == "fp8" {
                return Ok(());
            }
            bail!(
                "config.json: quantised weights ({method}) are not supported; use an f32, f16, bf16 or fp8 model, or a GGUF file"
            );
        }
        Ok(())
    }
}
