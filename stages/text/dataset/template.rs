//! Text built from a row: `{task}\n\n{code_template}`, where a slot is a column, or a place inside one
//! (`{conversations.0.value}`).

use std::ops::Range;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::cell::{cell, no_column};

/// A parsed template. A text without braces names a column, whose value must then be a string; in a slot,
/// numbers and booleans are written out too. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pieces: Vec<Piece>,
    /// Written as a bare column name, without braces.
    bare: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Slot(String),
}

impl Template {
    /// # Errors
    /// What is wrong with the braces, in words that fit after "the template".
    pub fn parse(text: &str) -> Result<Template, String> {
        if !text.contains(['{', '}']) {
            if text.is_empty() {
                return Err("is empty; expected a column name or a text with {column} slots".into());
            }
            return Ok(Template { pieces: vec![Piece::Slot(text.into())], bare: true });
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            let after = &rest[at + 1..];
            if after.starts_with(brace) {
                plain.push_str(brace);
                rest = &after[1..];
            } else if brace == "}" {
                return Err(format!(
                    "has a \"}}\" that closes nothing, after {:?}; write }}}} for a brace",
                    &text[..text.len() - after.len() - 1]
                ));
            } else {
                let Some(end) = after.find(['{', '}']).filter(|&end| after[end..].starts_with('}')) else {
                    return Err(format!("has a slot that is not closed: {:?}; write {{{{ for a brace", &rest[at..]));
                };
                if after[..end].trim().is_empty() {
                    return Err("has an empty slot {}; expected the name of a column in it".into());
                }
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Slot(after[..end].trim().into()));
                rest = &after[end + 1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template { pieces, bare: false })
    }

    /// The slots' names, in order; none for a template that is a bare column name.
    pub fn slots(&self) -> Vec<&str> {
        let slots = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) if !self.bare => Some(slot.as_str()),
            _ => None,
        });
        slots.collect()
    }

    /// Whether two slots stand beside each other with no text between, so that a rendered text does not show
    /// where the one ends.
    pub fn has_touching_slots(&self) -> bool {
        self.pieces.windows(2).any(|pair| matches!(pair, [Piece::Slot(_), Piece::Slot(_)]))
    }

    /// Where in a rendered text each slot's value stands (bytes): between the template's own texts, each taken
    /// at its first occurrence after the one before, and the last at the end. `None` where the text is not
    /// the template's.
    pub fn find_slots(&self, text: &str) -> Option<Vec<Range<usize>>> {
        let mut found = Vec::new();
        let mut at = 0;
        let mut open = false;
        for (i, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Slot(_) => open = true,
                Piece::Text(plain) => {
                    let start = match open {
                        false => text[at..].starts_with(plain.as_str()).then_some(at)?,
                        true if i + 1 == self.pieces.len() => {
                            text.strip_suffix(plain.as_str()).map(str::len).filter(|start| *start >= at)?
                        }
                        true => at + text[at..].find(plain.as_str())?,
                    };
                    if open {
                        found.push(at..start);
                    }
                    (at, open) = (start + plain.len(), false);
                }
            }
        }
        if open {
            found.push(at..text.len());
        } else if at != text.len() {
            return None;
        }
        Some(found)
    }

    /// The template's text for one row.
    ///
    /// # Errors
    /// When a slot's column is missing (the message lists those there are), null, a list or an object.
    pub fn render(&self, row: &Map<String, Value>) -> Result<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Slot(slot) => match find(row, slot)? {
                    Value::String(value) => text.push_str(value),
                    value @ (Value::Number(_) | Value::Bool(_)) if !self.bare => text.push_str(&value.to_string()),
                    value @ (Value::Number(_) | Value::Bool(_)) => {
                        bail!(
                            "column \"{slot}\" holds {}, not text; write \"{{{slot}}}\" to use it as text",
                            cell(value)
                        )
                    }
                    value => bail!("column \"{slot}\" holds {}, not text", cell(value)),
                },
            }
        }
        Ok(text)
    }
}

/// The value of a slot: the column of that name, or a dotted path into one.
fn find<'a>(row: &'a Map<String, Value>, slot: &str) -> Result<&'a Value> {
    if let Some(value) = row.get(slot) {
        return Ok(value);
    }
    let Some((column, path)) = slot.split_once('.') else { return Err(no_column(row, slot)) };
    let Some(mut value) = row.get(column) else { return Err(no_column(row, slot)) };
    for (depth, step) in path.split('.').enumerate() {
        let next = match value {
            Value::Object(fields) => fields.get(step),
            Value::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            _ => None,
        };
        let Some(next) = next else {
            let seen: Vec<&str> = slot.split('.').take(depth + 1).collect();
            bail!("slot {{{slot}}}: \"{}\" holds {}, which has no \"{step}\"", seen.join("."), cell(value));
        };
        value = next;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str, row: Value) -> Result<String> {
        let Value::Object(row) = row else { panic!("a row is an object") };
        Template::parse(template).map_err(anyhow::Error::msg)?.render(&row)
    }

    #[test]
    fn slots_escapes_and_paths() {
        let row = json!({"task": "Sort", "n": 3, "ok": true, "talk": [{"value": "hi"}], "a.b": "dotted"});
        assert_eq!(render("task", row.clone()).unwrap(), "Sort");
        assert_eq!(render("{task}\n\n{n} {ok}", row.clone()).unwrap(), "Sort\n\n3 true");
        assert_eq!(render("{{{task}}} }}{{", row.clone()).unwrap(), "{Sort} }{");
        assert_eq!(render("{ task }é{talk.0.value}", row.clone()).unwrap(), "Sortéhi");
        assert_eq!(render("a.b", row).unwrap(), "dotted");
    }

    #[test]
    fn what_cannot_be_text_is_named() {
        let row = json!({"task": "Sort", "n": 3, "none": null, "talk": [{"value": "hi"}]});
        let error = |template: &str| render(template, row.clone()).unwrap_err().to_string();
        assert_eq!(error("tsak"), "no column \"tsak\"; did you mean \"task\"? The columns are: n, none, talk, task");
        assert_eq!(error("n"), "column \"n\" holds the number 3, not text; write \"{n}\" to use it as text");
        assert_eq!(error("{none}"), "column \"none\" holds null, not text");
        assert_eq!(error("{talk}"), "column \"talk\" holds a list, not text");
        assert_eq!(error("{talk.1.value}"), "slot {talk.1.value}: \"talk\" holds a list, which has no \"1\"");
    }

    #[test]
    fn slots_are_found_in_a_rendered_text() {
        let found = |template: &str, text: &'static str| {
            let slots = Template::parse(template).unwrap().find_slots(text)?;
            Some(slots.into_iter().map(|slot| &text[slot]).collect::<Vec<_>>())
        };
        assert_eq!(found("{task}\n\n{code}", "Sort it\n\ndef f():\n\nx").unwrap(), ["Sort it", "def f():\n\nx"]);
        assert_eq!(found("Do: {task}.", "Do: a. b.").unwrap(), ["a. b"]);
        assert_eq!(found("{a}, {b}!", "é, !!").unwrap(), ["é", "!"]);
        assert_eq!(found("{a}", "").unwrap(), [""]);
        assert_eq!(found("Do: {task}", "Don't"), None);
        assert_eq!(found("{a}xx{b}x", "xx"), None);
        let slots = |template: &str| Template::parse(template).unwrap().slots().join(" ");
        assert_eq!((slots("{a}{b.0} c"), slots("a")), ("a b.0".to_string(), String::new()));
        assert!(Template::parse("x{a}{b}").unwrap().has_touching_slots());
        assert!(!Template::parse("{a} {b}").unwrap().has_touching_slots());
    }

    #[test]
    fn braces_that_do_not_match() {
        assert!(Template::parse("{task").unwrap_err().contains("not closed"));
        assert!(Template::parse("{a{b}").unwrap_err().contains("not closed"));
        assert!(Template::parse("task}").unwrap_err().contains("closes nothing"));
        assert!(Template::parse("{ }").unwrap_err().contains("empty slot"));
        assert!(Template::parse("").unwrap_err().contains("is empty"));
    }
}
