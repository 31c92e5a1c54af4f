//! The rotary parameters of a config.json: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` beside
//! each other (before). What is left out is filled in as transformers does (`modeling_rope_utils`).

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::defaults::Defaults;
use super::raw::Raw;
use crate::model::rotary::{Rotary, Scaling, Yarn};

impl Raw<'_> {
    /// # Errors
    /// When a parameter is missing, has another type, or asks for what is not computed.
    pub fn rotary(&self, defaults: &Defaults) -> Result<Rotary> {
        match (self.object("rope_scaling")?, self.object("rope_parameters")?) {
            (Some(parameters), _) if !parameters.is_empty() => {
                self.rotary_of("rope_scaling", parameters, self.number("rope_theta")?, defaults)
            }
            (_, Some(parameters)) => {
                self.rotary_of("rope_parameters", parameters, self.number("rope_theta")?, defaults)
            }
            _ => self.rotary_of("rope_parameters", &Map::new(), self.number("rope_theta")?, defaults),
        }
    }

    /// From the object under `key`; `theta` is what config.json has beside it.
    pub fn rotary_of(
        &self,
        key: &str,
        parameters: &Map<String, Value>,
        theta: Option<f64>,
        defaults: &Defaults,
    ) -> Result<Rotary> {
        let inner = Raw(parameters);
        let need = |name: &str| inner.number(name)?.with_context(|| format!("config.json: {key} has no \"{name}\""));
        let theta = inner.number("rope_theta")?.or(theta).unwrap_or(defaults.theta);
        let share = match inner.number("partial_rotary_factor")? {
            Some(share) => Some(share),
            None => self.number("partial_rotary_factor")?,
        };
        let share = match (share, defaults.rotary_share) {
            (share, Some(default)) => share.unwrap_or(default),
            (None | Some(1.0), None) => 1.0,
            (Some(share), None) => {
                bail!("config.json: \"partial_rotary_factor\" is {share}; this family rotates whole heads")
            }
        };
        let positions = self.optional_size("max_position_embeddings")?.unwrap_or(defaults.max_positions);
        let original = match self.optional_size("original_max_position_embeddings")?.or(defaults.original_positions) {
            Some(original) => original,
            None => inner.optional_size("original_max_position_embeddings")?.unwrap_or(positions),
        };
        let attention_factor = inner.number("attention_factor")?;
        let kind = match inner.text("rope_type")? {
            Some(kind) => kind,
            None => inner.text("type")?.unwrap_or("default"),
        };
        let scaling = match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: need("factor")? },
            "dynamic" => Scaling::Dynamic { factor: need("factor")?, original_positions: positions },
            "llama3" => Scaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_positions: original as f64,
            },
            "yarn" => {
                let factor = inner.number("factor")?.unwrap_or(positions as f64 / original as f64);
                let of_scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
                let set = |name: &str| Ok::<_, anyhow::Error>(inner.number(name)?.filter(|number| *number != 0.0));
                let default = match (set("mscale")?, set("mscale_all_dim")?) {
                    (Some(above), Some(below)) => of_scale(above) / of_scale(below),
                    _ => of_scale(1.0),
                };
                Scaling::Yarn(Yarn {
                    factor,
                    beta_fast: set("beta_fast")?.unwrap_or(32.0),
                    beta_slow: set("beta_slow")?.unwrap_or(1.0),
                    truncate: inner.flag("truncate")?.unwrap_or(true),
                    original_positions: original as f64,
                    attention_factor: attention_factor.unwrap_or(default),
                })
            }
            // Phi-3's first name for it.
            "longrope" | "su" => {
                let list =
                    |name: &str| inner.numbers(name)?.with_context(|| format!("config.json: {key} has no \"{name}\""));
                let factor = inner.number("factor")?.unwrap_or(positions as f64 / original as f64);
                let default = match factor > 1.0 {
                    true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
                    false => 1.0,
                };
                let (short, long) = (list("short_factor")?, list("long_factor")?);
                let dims = (self.heads(defaults)?.dim as f64 * share) as usize;
                for (name, found) in [("short_factor", short.len()), ("long_factor", long.len())] {
                    if found != dims / 2 {
                        bail!("config.json: \"{name}\" has {found} numbers, expected {}", dims / 2);
                    }
                }
                let attention_factor = attention_factor.unwrap_or(default);
                Scaling::LongRope { short, long, original_positions: original, attention_factor }
            }
            other => bail!(
                "config.json: the rotary scaling \"{other}\" is not supported; supported are: default, linear, \
                 dynamic, llama3, yarn, longrope"
            ),
        };
        let rotary = Rotary { theta, share, scaling };
        let dims = rotary.dims(self.heads(defaults)?.dim);
        if dims == 0 || !dims.is_multiple_of(2) {
            bail!("config.json: {dims} dimensions of each head are to be rotated, expected an even number");
        }
        Ok(rotary)
    }
}
