//! Conversations as token ids, with the span of the response.

use std::ops::Range;

use anyhow::{Result, anyhow};
use tokenizers::Encoding;

use super::span::{self, Turn};
use super::template::{ChatTemplate, Message};
use super::tokenizer::ChatTokenizer;
use crate::table::guarded;

/// Bytes of a text that is tokenized whole.
const WHOLE: usize = 1 << 20;

/// Bytes for each token that is kept: ten times as many as tokens have.
const TOKEN: usize = 64;

/// Tokens that may be others where the text was cut than they are in the whole text.
const NEAR_THE_CUT: usize = 1024;

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
        let (text, turn) = self.rendered(template, messages)?;
        let encoding = self.first_tokens(&text, max_tokens)?;
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

    /// The conversation's text, and where in it the last assistant message stands (bytes).
    ///
    /// # Errors
    /// When the template fails on the messages or hides the content.
    pub fn rendered(&self, template: &ChatTemplate, messages: &[Message]) -> Result<(String, Turn)> {
        let written = messages.iter().map(Message::length).sum();
        let own = messages.to_vec();
        template.bounded(written, move |template| {
            let text = template.render(&own, false)?;
            let turn = span::find(template, &own, &text)?;
            Ok((text, turn))
        })
    }

    /// The tokens of a text, or more than `max_tokens` of its first ones. A tokenizer takes a hundred bytes of memory for each byte of
    /// text, so of a long text no more is tokenized than can reach the tokens that are kept.
    fn first_tokens(&self, text: &str, max_tokens: usize) -> Result<Encoding> {
        let mut length = WHOLE.max(max_tokens.saturating_mul(TOKEN));
        loop {
            let mut end = length.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let encoding = guarded("tokenizers", || self.tokenizer.encode(&text[..end], false))?;
            let encoding = encoding.map_err(|error| anyhow!("tokenizing: {error}"))?;
            if end == text.len() || encoding.len() > max_tokens.saturating_add(NEAR_THE_CUT) {
                return Ok(encoding);
            }
            length = length.saturating_mul(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::node::Part;
    use crate::text::chat::Date;

    #[test]
    fn of_a_long_text_the_first_tokens_are_those_of_the_whole() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/qwen2");
        let part = |name: &str| Part { path: golden.join(name), name: name.into() };
        let tokenizer = ChatTokenizer::open(&[part("tokenizer.json"), part("tokenizer_config.json")], None).unwrap();
        let template = tokenizer.template(Date::parse("2024-07-26").unwrap(), None).unwrap();
        let message = |role: &str, content: &str| Message::new(role, content);
        let words: String = (0..400_000).map(|i| format!("wörd {} ", i * 7919 % 1000)).collect();
        assert!(words.len() > 3 * WHOLE);
        for (user, answer) in [("a question", words.as_str()), (&words, "an answer"), ("a", &"a".repeat(2 * WHOLE))] {
            let messages = [message("user", user), message("assistant", answer)];
            let encoded = tokenizer.encode(&template, &messages, 100).unwrap();
            let whole = tokenizer.tokenizer.encode(template.render(&messages, false).unwrap(), false).unwrap();
            assert_eq!(encoded.ids, whole.get_ids()[..100]);
            assert!(encoded.truncated);
            let within = encoded.response.start < 100 && encoded.response.end == 100;
            assert!(within == (answer.len() > 100) && (within || encoded.response == (100..100)), "{encoded:?}");
        }
    }
}
