//! Which of a conversation's assistant messages is the response: what follows it is left out.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::cell;
use super::message::Message;
use crate::contract::pipeline::PlanError;
use crate::contract::toml_path::TomlPath;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// The last message, which is the assistant's.
    #[default]
    Last,
    /// The assistant's message of this number, from 0, or from -1 backwards.
    At(i64),
    /// Each of the assistant's messages that has a content is the response of an example.
    All,
}

impl Turn {
    pub fn is_last(&self) -> bool {
        *self == Turn::Last
    }

    /// # Errors
    /// When the value is none.
    pub fn parse(written: &Value, at: &TomlPath) -> Result<Turn, PlanError> {
        match written {
            Value::String(text) if text == "last" => Ok(Turn::Last),
            Value::String(text) if text == "all" => Ok(Turn::All),
            Value::Number(number) if number.is_i64() => Ok(Turn::At(number.as_i64().unwrap_or_default())),
            other => {
                let message = format!("turn is \"last\", \"all\" or a whole number, found {}", cell(other));
                let help = "0 is the assistant's first message, -1 its last";
                Err(PlanError::new(at.clone(), message).help(help))
            }
        }
    }

    /// The conversations of which each ends with a response.
    ///
    /// # Errors
    /// When there is no such message, or it is empty.
    pub fn of(self, messages: Vec<Message>) -> Result<Vec<Vec<Message>>> {
        let Some(last) = messages.last() else {
            bail!("the conversation has no messages; expected at least an assistant's");
        };
        let theirs: Vec<usize> = (0..messages.len()).filter(|i| messages[*i].role == "assistant").collect();
        let chosen = match self {
            Turn::Last if last.role != "assistant" => bail!(
                "the conversation ends with a message of role \"{}\"; expected it to end with the assistant's, or turn = -1 in \
                 the dataset's table, which leaves out what follows the assistant's last message",
                last.role
            ),
            Turn::Last => messages.len() - 1,
            Turn::At(number) => {
                let from_start = if number < 0 { number.saturating_add(theirs.len() as i64) } else { number };
                let found = usize::try_from(from_start).ok().and_then(|number| theirs.get(number));
                let Some(found) = found else {
                    bail!(
                        "turn = {number} is not there: the conversation has {} messages of the assistant's",
                        theirs.len()
                    )
                };
                *found
            }
            Turn::All => {
                // What calls a tool need have no content.
                let said: Vec<usize> = theirs.into_iter().filter(|i| !messages[*i].content.is_empty()).collect();
                if said.is_empty() {
                    bail!("the conversation has no message of the assistant's with a content");
                }
                return Ok(said.into_iter().map(|i| messages[..=i].to_vec()).collect());
            }
        };
        if messages[chosen].content.is_empty() {
            bail!(
                "the response is empty; leave such rows out with a filter, as in filter = {{ response = {{ not = \"\" }} }}"
            );
        }
        let mut messages = messages;
        messages.truncate(chosen + 1);
        Ok(vec![messages])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn talk(said: &[(&str, &str)]) -> Vec<Message> {
        said.iter().map(|(role, content)| Message::new(role, content)).collect()
    }

    const TALK: [(&str, &str); 6] =
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", ""), ("tool", "d"), ("assistant", "e")];

    fn ends(turn: Turn, said: &[(&str, &str)]) -> Result<Vec<(usize, String)>> {
        let found = turn.of(talk(said))?;
        Ok(found.into_iter().map(|talk| (talk.len(), talk.last().expect("messages").content.clone())).collect())
    }

    #[test]
    fn a_turn_is_the_last_one_of_a_number_or_each() {
        let of = |turn| ends(turn, &TALK).expect("a turn");
        assert_eq!(of(Turn::Last), [(6, "e".into())]);
        assert_eq!(of(Turn::At(0)), [(2, "b".into())]);
        assert_eq!(of(Turn::At(-1)), [(6, "e".into())]);
        assert_eq!(of(Turn::At(-3)), [(2, "b".into())]);
        assert_eq!(of(Turn::All), [(2, "b".into()), (6, "e".into())]);
        // What follows the response is left out.
        assert_eq!(ends(Turn::At(-1), &TALK[..3]).expect("a turn"), [(2, "b".into())]);
    }

    #[test]
    fn a_turn_that_is_not_there_or_says_nothing_is_an_error() {
        let error = |turn, said: &[(&str, &str)]| ends(turn, said).expect_err("an error").to_string();
        assert!(error(Turn::At(3), &TALK).contains("turn = 3 is not there: the conversation has 3 messages"));
        assert!(error(Turn::At(-4), &TALK).contains("turn = -4 is not there"));
        assert!(error(Turn::At(i64::MIN), &TALK).contains("is not there"));
        assert!(error(Turn::At(1), &TALK).contains("the response is empty"));
        assert!(error(Turn::Last, &TALK[..3]).contains("ends with a message of role \"user\""));
        assert!(error(Turn::All, &TALK[2..5]).contains("no message of the assistant's with a content"));
        assert!(error(Turn::All, &[]).contains("no messages"));
    }

    #[test]
    fn what_is_written_is_checked() {
        let parse = |value: Value| Turn::parse(&value, &TomlPath::default()).map_err(|error| error.message);
        assert_eq!(parse(json!("all")), Ok(Turn::All));
        assert_eq!(parse(json!("last")), Ok(Turn::Last));
        assert_eq!(parse(json!(-2)), Ok(Turn::At(-2)));
        for wrong in [json!("first"), json!(1.5), json!(null), json!([0])] {
            assert!(
                parse(wrong).is_err_and(|message| message.starts_with("turn is \"last\", \"all\" or a whole number"))
            );
        }
    }
}
