//! Llama (Touvron et al. 2023): biases everywhere or nowhere.

use super::Family;
use super::common::{Biases, Sizes};

pub static FAMILY: Family = Family {
    model_type: "llama",
    describe: |raw| {
        let attention = raw.flag("attention_bias")?.unwrap_or(false);
        let feed_forward = raw.flag("mlp_bias")?.unwrap_or(false);
        let biases = Biases { query: attention, output: attention, feed_forward };
        Ok(Sizes::read(raw)?.describe("llama", biases))
    },
    tokenizer: None,
};
