//! SmolLM3 (Bakouch et al. 2025): Llama without rotary embeddings in every fourth block.

use anyhow::bail;

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::{Family, TokenizerFile};
use crate::contract::per_block::PerBlock;

pub static FAMILY: Family = Family {
    model_type: "smollm3",
    describe: |raw| {
        let defaults = Defaults { tied: true, kv_heads: Some(4), theta: 2e6, max_positions: 32_768, ..Defaults::LLAMA };
        let mut description = Sizes::read(raw, &defaults)?.describe("smollm3", Biases::read(raw)?);
        let layers = description.layers;
        let interval = raw.optional_size("no_rope_layer_interval")?.unwrap_or(4);
        let rotated = match raw.sizes("no_rope_layers")? {
            None => (0..layers).map(|block| (block + 1) % interval != 0).collect(),
            Some(listed) if listed.len() == layers => listed.iter().map(|rotated| *rotated != 0).collect::<Vec<_>>(),
            Some(listed) => {
                bail!("config.json: \"no_rope_layers\" has {} numbers, expected {layers}", listed.len())
            }
        };
        let attention = &mut description.block.attention;
        let rotary = attention.rotary.of(0).clone();
        let of_block = rotated.iter().map(|rotated| rotary.clone().filter(|_| *rotated)).collect();
        if let Some(of_block) = PerBlock::listed(of_block) {
            attention.rotary = of_block;
        }
        let slides = raw.flag("use_sliding_window")?.unwrap_or(false);
        let window = raw.optional_size("sliding_window")?.filter(|_| slides);
        let kind = |block: usize| match window {
            Some(_) if !rotated[block] => "sliding_attention",
            _ => "full_attention",
        };
        attention.window = raw.windows(layers, window, kind)?;
        Ok(description)
    },
    tokenizer: TokenizerFile::ByClass,
};
