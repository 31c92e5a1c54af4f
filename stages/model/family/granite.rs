//! Granite (IBM 2024): Llama with factors at the embeddings, the scores, the residual stream and the logits.

use super::common::{Biases, Sizes};
use super::defaults::Defaults;
use super::{Family, TokenizerFile};

pub static FAMILY: Family = Family {
    model_type: "granite",
    describe: |raw| {
        raw.refuse_windows()?;
        let mut description = Sizes::read(raw, &Defaults::LLAMA)?.describe("granite", Biases::read(raw)?);
        let factor = |key: &str| Ok::<_, anyhow::Error>(raw.number(key)?.unwrap_or(1.0));
        description.embedding.factor = factor("embedding_multiplier")? as f32;
        description.block.residual_factor = factor("residual_multiplier")? as f32;
        description.block.attention.scale = factor("attention_multiplier")? as f32;
        description.logits.factor = (1.0 / factor("logits_scaling")?) as f32;
        Ok(description)
    },
    tokenizer: TokenizerFile::AsItIs,
};
