//! Conversations as token ids, with the span of the response.

use std::ops::Range;

use anyhow::{Result, anyhow};

use super::span;
use super::template::{ChatTemplate, Message};
use super::tokenizer::ChatTokenizer;

/// A conversation as token ids. Spans are of tokens, end exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// The tokens that overlap the last assistant message's content; empty at the end where there are none.
    pub response: Range<u32>,
    /// The first token of its turn, the opening marker included.
    pub turn_start: u32,
    /// Whether there were more than `max_tokens`.
    pub truncated: bool,
}

impl Encoded {
    /// The ids of the response's tokens.
    pub fn target(&self) -> &[u32] {
        &self.ids[self.response.start as usize..self.response.end as usize]
    }
}

impl ChatTokenizer {
    /// The conversation's ids, at most `max_tokens` of them. The template has printed the special tokens,
    /// so the tokenizer adds none.
    ///
    /// # Errors
    /// When the template fails on the messages or hides the content, or the text cannot be tokenized.
    pub fn encode(&self, template: &ChatTemplate, messages: &[Message], max_tokens: usize) -> Result<Encoded> {
        let text = template.render(messages, false)?;
        let turn = span::find(template, messages, &text)?;
        let encoding = self.tokenizer.encode(text.as_str(), false).map_err(|error| anyhow!("tokenizing: {error}"))?;
        let (mut ids, offsets) = (encoding.get_ids().to_vec(), encoding.get_offsets());
        let inside = |(a, b): &(usize, usize)| *a < turn.content.end && *b > turn.content.start;
        let (start, end) = match (offsets.iter().position(inside), offsets.iter().rposition(inside)) {
            (Some(first), Some(last)) => (first, last + 1),
            _ => (ids.len(), ids.len()),
        };
        let turn_start = offsets.iter().position(|(_, b)| *b > turn.start).unwrap_or(ids.len());
        let truncated = ids.len() > max_tokens;
        ids.truncate(max_tokens);
        let within = |token: usize| token.min(ids.len()) as u32;
        Ok(Encoded { response: within(start)..within(end), turn_start: within(turn_start), truncated, ids })
    }
}
