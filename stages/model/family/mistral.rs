//! Mistral (Jiang et al. 2023): Llama with a sliding window, unless its config says that there is none.

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::{Family, TokenizerFile};
use crate::contract::per_block::PerBlock;

pub static FAMILY: Family = Family {
    model_type: "mistral",
    describe: |raw| {
        let defaults = Defaults { kv_heads: Some(8), max_positions: 131_072, ..Defaults::LLAMA };
        let mut description = Sizes::read(raw, &defaults)?.describe("mistral", Biases::default());
        raw.refuse_windows()?;
        description.block.attention.window = PerBlock::all(raw.size_or("sliding_window", Some(4096))?);
        Ok(description)
    },
    tokenizer: TokenizerFile::AsItIs,
};
