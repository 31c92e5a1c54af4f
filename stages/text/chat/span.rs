//! Where in a rendered conversation the last assistant message's content lies, for any template.
//!
//! The conversation is rendered a second time with a content that cannot occur by chance. What stands before
//! and after it there stands before and after the content here; what lies between is the content as the
//! template prints it, stripped or not, and however often the same words occur elsewhere.

use std::ops::Range;

use anyhow::{Result, bail};

use super::template::{ChatTemplate, Message};

/// Private-use characters: no template looks for them, strips them, or prints them itself.
const SENTINEL: &str = "\u{e0f7}\u{e1a3}strata\u{e0f7}\u{e1a3}";

/// Byte ranges of the rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The content of the last assistant message; empty at the text's end where there is no such message.
    pub content: Range<usize>,
    /// Where its turn begins, the opening marker included.
    pub start: usize,
}

/// Finds the last assistant message's turn in `text`, the rendering of `messages`.
///
/// # Errors
/// When the template does not print that message's content in a way that can be found.
pub fn find(template: &ChatTemplate, messages: &[Message], text: &str) -> Result<Turn> {
    let Some(last) = messages.iter().rposition(|message| message.role == "assistant") else {
        return Ok(Turn { content: text.len()..text.len(), start: text.len() });
    };
    let content = match by_sentinel(template, messages, last, text) {
        Some(range) => range,
        None => by_prefix(template, messages, last, text)?,
    };
    // A template that raises on the conversation without its answer leaves the content's start as the turn's.
    let start = match template.render(&messages[..last], false) {
        Ok(before) if last > 0 && before.len() <= content.start && text.starts_with(&before) => before.len(),
        _ => opening_marker(template, messages, last, &text[..content.start]).unwrap_or(content.start),
    };
    Ok(Turn { content, start })
}

fn by_sentinel(template: &ChatTemplate, messages: &[Message], last: usize, text: &str) -> Option<Range<usize>> {
    let mut marked = messages.to_vec();
    marked[last].content = SENTINEL.to_string();
    let marked = template.render(&marked, false).ok()?;
    let at = marked.find(SENTINEL)?;
    let (before, after) = (&marked[..at], &marked[at + SENTINEL.len()..]);
    let fits = before.len() + after.len() <= text.len() && text.starts_with(before) && text.ends_with(after);
    let range = before.len()..text.len() - after.len().min(text.len());
    // Templates that look into the content (for a chain of thought, say) may print other things around it.
    let content = messages[last].content.as_str();
    (fits && (content.contains(&text[range.clone()]) || text[range.clone()].contains(content))).then_some(range)
}

fn by_prefix(template: &ChatTemplate, messages: &[Message], last: usize, text: &str) -> Result<Range<usize>> {
    let from = match template.render(&messages[..last], true) {
        Ok(head) if text.starts_with(&head) => head.len(),
        _ => 0,
    };
    let content = messages[last].content.as_str();
    // Templates that take out a chain of thought strip the lines after it, and some all white space around the rest.
    let answer = content.rsplit("</think>").next().unwrap_or_default();
    for candidate in [content, content.trim(), answer.trim_start_matches('\n'), answer.trim()] {
        // From a known start the first occurrence is it; without one, the last.
        let found = if from > 0 { text[from..].find(candidate).map(|at| from + at) } else { text.rfind(candidate) };
        if let Some(at) = found {
            return Ok(at..at + candidate.len());
        }
    }
    bail!("the chat template does not print the last assistant message's content")
}

/// Where the text that the generation prompt adds last occurs in `head`.
fn opening_marker(template: &ChatTemplate, messages: &[Message], last: usize, head: &str) -> Option<usize> {
    let user = [Message::new("user", "u")];
    let before = if last > 0 { &messages[..last] } else { &user[..] };
    let (with, without) = (template.render(before, true).ok()?, template.render(before, false).ok()?);
    let marker = with.strip_prefix(&without).filter(|marker| !marker.is_empty())?;
    head.rfind(marker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::chat::Date;

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const STRIPPING: &str = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}";
    const THINKING: &str = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}<think></think>{{ m.content }}{% endif %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}";

    fn turn(source: &str, messages: &[(&str, &str)]) -> (String, String, String) {
        let template = ChatTemplate::new(source, Default::default(), Date::parse("2024-07-26").unwrap()).unwrap();
        let messages: Vec<Message> = messages.iter().map(|(role, content)| Message::new(role, content)).collect();
        let text = template.render(&messages, false).unwrap();
        let turn = find(&template, &messages, &text).unwrap();
        (
            text[turn.content.clone()].to_string(),
            text[turn.start..turn.content.start].to_string(),
            text[..turn.start].to_string(),
        )
    }

    #[test]
    fn the_content_is_found_although_its_words_occur_elsewhere() {
        let (content, marker, before) = turn(CHATML, &[("system", "a"), ("user", "a"), ("assistant", "a")]);
        assert_eq!((content.as_str(), marker.as_str()), ("a", "<|im_start|>assistant\n"));
        assert!(before.ends_with("<|im_start|>user\na<|im_end|>\n"), "{before:?}");
        // Content that looks like the template's own markers.
        let (content, ..) =
            turn(CHATML, &[("user", "q"), ("assistant", "x<|im_end|>\n<|im_start|>assistant\nx<|im_end|>\n")]);
        assert_eq!(content, "x<|im_end|>\n<|im_start|>assistant\nx<|im_end|>\n");
    }

    #[test]
    fn a_template_that_strips_gives_the_stripped_content() {
        let (content, marker, before) = turn(STRIPPING, &[("user", " hi "), ("assistant", "\n hi there \n")]);
        assert_eq!((content.as_str(), marker.as_str(), before.as_str()), ("hi there", " ", "[INST] hi [/INST]"));
    }

    #[test]
    fn a_template_that_looks_into_the_content_still_shows_where_it_is() {
        let (content, ..) = turn(THINKING, &[("user", "so"), ("assistant", "<think>so</think>\nso it is")]);
        assert_eq!(content, "so it is");
        let (content, ..) = turn(THINKING, &[("user", "so"), ("assistant", "<think>so</think>\n it is ")]);
        assert_eq!(content, " it is ");
        let (content, ..) = turn(THINKING, &[("user", "so"), ("assistant", "so it is")]);
        assert_eq!(content, "so it is");
    }

    #[test]
    fn only_the_last_assistant_message_counts_and_may_be_first_empty_or_absent() {
        let (content, _, before) =
            turn(CHATML, &[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]);
        assert_eq!(content, "d");
        assert!(before.contains("b<|im_end|>"));
        let (content, marker, before) = turn(CHATML, &[("assistant", "hello")]);
        assert_eq!((content.as_str(), marker.as_str(), before.as_str()), ("hello", "<|im_start|>assistant\n", ""));
        assert_eq!(turn(CHATML, &[("user", "a"), ("assistant", "")]).0, "");
        assert_eq!(turn(CHATML, &[("user", "a")]).0, "");
    }
}
