//! Which token's prediction is looked at, and where in a conversation it stands.

use crate::text::chat::ChatTokenizer;

/// Which token's prediction is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The response's first.
    Response,
    /// One by its index in the conversation, negative ones counted from the end.
    Token(i64),
    /// The one in which a word's first occurrence begins.
    Before(String),
}

impl Place {
    /// From `response`, `token:5` or `before:word`.
    pub fn parse(text: &str) -> Option<Place> {
        match (text, text.strip_prefix("token:"), text.strip_prefix("before:")) {
            ("response", ..) => Some(Place::Response),
            (_, Some(token), _) => token.parse().ok().map(Place::Token),
            (_, _, Some(word)) if !word.is_empty() => Some(Place::Before(word.to_string())),
            _ => None,
        }
    }

    /// The predicted token's index, from 1; `None` where the conversation has no such place.
    pub fn token(&self, ids: &[u32], response: (u32, u32), tokenizer: &ChatTokenizer) -> Option<usize> {
        let token = match self {
            Place::Response => Some(response.0 as usize),
            Place::Token(token) if *token < 0 => usize::try_from(*token + ids.len() as i64).ok(),
            Place::Token(token) => usize::try_from(*token).ok(),
            Place::Before(word) => {
                let pieces: Vec<String> = ids.iter().map(|id| tokenizer.piece(*id)).collect();
                token_of_word(&pieces, word)
            }
        };
        token.filter(|token| (1..ids.len()).contains(token))
    }
}

/// The piece in which the first occurrence of `word` begins, that is not part of a longer word.
fn token_of_word(pieces: &[String], word: &str) -> Option<usize> {
    let text = pieces.concat();
    let joins = |inner: Option<char>, outer: Option<char>| {
        inner.is_some_and(char::is_alphanumeric) && outer.is_some_and(char::is_alphanumeric)
    };
    let at = text.match_indices(word).map(|(at, _)| at).find(|at| {
        let (before, after) = (&text[..*at], &text[at + word.len()..]);
        !joins(word.chars().next(), before.chars().next_back())
            && !joins(word.chars().next_back(), after.chars().next())
    })?;
    let mut end = 0;
    pieces.iter().position(|piece| {
        end += piece.len();
        end > at
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_across_tokens_and_not_within_another() {
        let pieces = ["I oth", "erwise do", " n", "ot", " take", " it"].map(String::from);
        assert_eq!(token_of_word(&pieces, "not"), Some(2));
        assert_eq!(token_of_word(&pieces, "otherwise"), Some(0));
        assert_eq!(token_of_word(&pieces, "other"), None);
        assert_eq!(token_of_word(&pieces, " it"), Some(5));
        assert_eq!(Place::parse("before:not"), Some(Place::Before("not".into())));
        assert!(Place::parse("before:").is_none() && Place::parse("after:x").is_none());
    }
}
