//! Gemma 3 (Gemma Team 2025): Gemma 2 with norms of queries and keys in the place of soft-caps, and blocks with a sliding
//! window that have rotary frequencies of their own. `gemma3` is the model with images, of which the text part is read.

use anyhow::{Context, Result};

use super::common::Sizes;
use super::defaults::Defaults;
use super::gemma2::{self, norm};
use super::raw::Raw;
use super::{Family, TokenizerFile};
use crate::contract::per_block::PerBlock;
use crate::model::block::description::{Description, Head, Linear, QueryKeyNorms};
use crate::model::rotary::Rotary;

pub static WITH_IMAGES: Family =
    Family { model_type: "gemma3", describe: with_images, tokenizer: TokenizerFile::ByClass };

pub static TEXT: Family = Family { model_type: "gemma3_text", describe: text, tokenizer: TokenizerFile::ByClass };

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// With images, whose tower and projector are left alone. The published configs leave out most sizes.
fn with_images(raw: &Raw) -> Result<Description> {
    raw.refuse_quantized_weights()?;
    let mut inner = raw.object("text_config")?.cloned().unwrap_or_default();
    for (key, size) in [
        ("vocab_size", 262_208),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
    ] {
        inner.entry(key).or_insert(size.into());
    }
    let mut description = text(&Raw(&inner))?;
    description.model_type = "gemma3";
    description.blocks = "language_model.model.layers";
    description.embedding.name = "language_model.model.embed_tokens";
    description.final_norm.name = "language_model.model.norm";
    description.head = match description.head {
        Head::Tied { .. } => Head::Tied { copy: "language_model.lm_head" },
        Head::Own(head) => Head::Own(Linear { name: "language_model.lm_head", ..head }),
    };
    description.unread = &["vision_tower.", "multi_modal_projector."];
    Ok(description)
}

fn text(raw: &Raw) -> Result<Description> {
    let defaults = Defaults { max_positions: 131_072, ..gemma2::DEFAULTS };
    // The rotary parameters are those of two kinds of blocks.
    let mut flat = raw.0.clone();
    flat.retain(|key, _| !["rope_parameters", "rope_scaling"].contains(&key.as_str()));
    let sizes = Sizes::read(&Raw(&flat), &defaults)?;
    let eps = sizes.eps;
    let mut description = gemma2::describe(raw, sizes, "gemma3_text")?;
    let layers = description.layers;
    let period = raw.optional_size("sliding_window_pattern")?.unwrap_or(6);
    let kind = |block: usize| if (block + 1).is_multiple_of(period) { FULL } else { SLIDING };
    let full = rotary(raw, FULL, ("rope_theta", 1e6), &defaults)?;
    let sliding = rotary(raw, SLIDING, ("rope_local_base_freq", 1e4), &defaults)?;
    let of_block = raw.kinds(layers, kind)?;
    let of_block = of_block.iter().map(|kind| Some(if kind == FULL { full.clone() } else { sliding.clone() }));
    let attention = &mut description.block.attention;
    attention.rotary = PerBlock::listed(of_block.collect()).context("config.json has no blocks")?;
    attention.window = raw.windows(layers, raw.size_or("sliding_window", Some(4096))?, kind)?;
    attention.soft_cap = raw.number("attn_logit_softcapping")?.map(|cap| cap as f32);
    attention.query_key_norms =
        Some(QueryKeyNorms { query: norm("self_attn.q_norm", eps), key: norm("self_attn.k_norm", eps), by_head: true });
    description.logits.soft_cap = raw.number("final_logit_softcapping")?.map(|cap| cap as f32);
    Ok(description)
}

/// Of one kind of blocks, whose theta stands under `key` in configs of transformers before 5. Only full attention was
/// scaled then.
fn rotary(raw: &Raw, kind: &str, (key, theta): (&str, f64), defaults: &Defaults) -> Result<Rotary> {
    let defaults = Defaults { theta, ..*defaults };
    let nested = raw.object("rope_parameters")?.map(|parameters| Raw(parameters).object(kind)).transpose()?.flatten();
    let mut parameters = nested.cloned().unwrap_or_default();
    if kind == FULL
        && let Some(scaling) = raw.object("rope_scaling")?
    {
        parameters.extend(scaling.clone());
    }
    raw.rotary_of("rope_parameters", &parameters, raw.number(key)?, &defaults)
}
