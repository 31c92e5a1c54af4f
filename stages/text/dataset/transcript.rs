//! A conversation as one text, whose turns begin with an empty line and the speaker's name, as in Anthropic/hh-rlhf.

use anyhow::{Result, bail};

const SPEAKERS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];

/// The role and the content of a transcript's messages, without the white space around them.
///
/// # Errors
/// When it does not begin with a speaker.
pub fn messages(text: &str) -> Result<Vec<(&'static str, String)>> {
    // The first turn's empty line may have been stripped.
    let text = format!("\n\n{}", text.trim_start());
    let next = |from: usize| {
        let found = SPEAKERS.iter().filter_map(|(mark, role)| Some((from + text[from..].find(mark)?, *mark, *role)));
        found.min_by_key(|(at, ..)| *at)
    };
    let mut messages = Vec::new();
    let mut turn = next(0);
    if !matches!(turn, Some((0, ..))) {
        bail!("a transcript begins with \"Human:\" or \"Assistant:\"");
    }
    while let Some((at, mark, role)) = turn {
        let start = at + mark.len();
        turn = next(start);
        let end = turn.map_or(text.len(), |(at, ..)| at);
        messages.push((role, text[start..end].trim().to_string()));
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        messages(text).unwrap().into_iter().map(|(role, content)| (role.to_string(), content)).collect()
    }

    #[test]
    fn turns_begin_with_an_empty_line_and_a_name() {
        let said = |turns: &[(&str, &str)]| -> Vec<(String, String)> {
            turns.iter().map(|(role, content)| (role.to_string(), content.to_string())).collect()
        };
        let text = "\n\nHuman: Who said\nHuman: hello?\n\nAssistant: I did.\n\nTwice.\n\nHuman: Why?\n\nAssistant: ";
        let expected = said(&[
            ("user", "Who said\nHuman: hello?"),
            ("assistant", "I did.\n\nTwice."),
            ("user", "Why?"),
            ("assistant", ""),
        ]);
        assert_eq!(read(text), expected);
        assert_eq!(read(text.trim_start()), expected);
        assert_eq!(read("Assistant:x"), said(&[("assistant", "x")]));
        assert!(messages("Hello.\n\nHuman: Hi").is_err() && messages("").is_err());
    }
}
