//! Token ids that two models share.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail, ensure};

use crate::contract::sequences::Sequences;
use crate::text::chat::ChatTokenizer;

/// The id of a text that is one token.
///
/// # Errors
/// When it is several, or none; the message shows them.
pub fn one_token(tokenizer: &ChatTokenizer, text: &str) -> Result<u32> {
    let encoding = tokenizer.tokenizer.encode(text, false);
    let encoding = encoding.map_err(|error| anyhow!("tokenizing the target token {text:?}: {error}"))?;
    let ids = encoding.get_ids();
    // A decoder may strip a leading space, so the tokenizer's own spelling is shown.
    let pieces: Vec<String> = encoding.get_tokens().iter().map(|piece| format!("{piece:?}")).collect();
    match ids {
        [id] => Ok(*id),
        _ => bail!(
            "stages.patching.target.token is {text:?}, which is {} tokens ({}); expected one token, such as its first",
            ids.len(),
            pieces.join(", ")
        ),
    }
}

/// Both models must mean the same by every id that they are given.
///
/// # Errors
/// Names the first id that they read differently.
pub fn check_ids(
    source: &ChatTokenizer,
    target: &ChatTokenizer,
    sequences: &Sequences,
    token: Option<u32>,
) -> Result<()> {
    let said = |tokenizer: &ChatTokenizer, id: u32| {
        tokenizer.tokenizer.id_to_token(id).map_or("no token".to_string(), |text| format!("{text:?}"))
    };
    let used: BTreeSet<u32> = sequences.ids.iter().flatten().copied().chain(token).collect();
    for id in used {
        let (source, target) = (said(source, id), said(target, id));
        ensure!(
            source == target,
            "patching needs two models of one vocabulary: the token id {id} is {source} to the source's tokenizer and \
             {target} to the target's"
        );
    }
    Ok(())
}
