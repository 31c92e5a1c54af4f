//! The conversation of a row: its messages, whichever way the dataset writes them.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::cell::{cell, no_column};
use super::json;
use super::message::Message;
use super::template::Template;
use super::transcript;
use super::turn::Turn;

/// Where a row's messages are.
#[derive(Debug, Clone)]
pub enum Columns {
    /// `messages` where the row has it, else `prompt` and `response`.
    Usual,
    /// A list of messages, or a text that holds one as JSON.
    Messages(String),
    /// One text with the turns of a human and an assistant.
    Transcript(String),
    Mapped {
        prompt: Template,
        response: Template,
    },
}

/// A row's conversations, each ending with an answer of the assistant's: one, or with [`Turn::All`] one for each of its messages.
///
/// # Errors
/// When a column is missing or has another form, or the conversation has no such answer.
pub fn read(
    columns: &Columns,
    system: Option<&Template>,
    turn: Turn,
    row: &Map<String, Value>,
) -> Result<Vec<Vec<Message>>> {
    let mut messages = match columns {
        Columns::Usual if row.contains_key("messages") => listed("messages", row)?,
        Columns::Usual if row.contains_key("prompt") && row.contains_key("response") => {
            mapped(&text_column("prompt", row)?, &text_column("response", row)?)
        }
        Columns::Usual => {
            let columns: Vec<&str> = row.keys().map(String::as_str).collect();
            bail!(
                "no column \"messages\", nor \"prompt\" and \"response\"; say in the dataset's table which columns hold \
                 the conversation (messages = …, or prompt = … and response = …). The columns are: {}",
                columns.join(", ")
            );
        }
        Columns::Messages(column) => listed(column, row)?,
        Columns::Transcript(column) => {
            let said =
                transcript::messages(&text_column(column, row)?).with_context(|| format!("column \"{column}\""))?;
            said.into_iter().map(|(role, content)| Message::new(role, &content)).collect()
        }
        Columns::Mapped { prompt, response } => {
            let prompt = prompt.render(row).context("the prompt")?;
            mapped(&prompt, &response.render(row).context("the response")?)
        }
    };
    if let Some(system) = system
        && messages.first().is_none_or(|first| first.role != "system")
    {
        let content = system.render(row).context("the system message")?;
        messages.insert(0, Message::new("system", &content));
    }
    turn.of(messages)
}

fn text_column(column: &str, row: &Map<String, Value>) -> Result<String> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => bail!("column \"{column}\" holds {}, not text", cell(other)),
        None => Err(no_column(row, column)),
    }
}

fn mapped(prompt: &str, response: &str) -> Vec<Message> {
    vec![Message::new("user", prompt), Message::new("assistant", response)]
}

/// The messages in a column: `{role, content}`, or `{from, value}` with human and gpt, as ShareGPT has it.
fn listed(column: &str, row: &Map<String, Value>) -> Result<Vec<Message>> {
    let parsed;
    let value = match row.get(column) {
        // CSV has no lists, and some Parquet files keep them as JSON.
        Some(Value::String(text)) => {
            parsed = json::parse(text.as_bytes())
                .with_context(|| format!("column \"{column}\" holds a text that is not JSON"))?;
            &parsed
        }
        Some(value) => value,
        None => return Err(no_column(row, column)),
    };
    let Value::Array(list) = value else {
        bail!("column \"{column}\" holds {}; expected a list of messages", cell(value));
    };
    list.iter().enumerate().map(|(i, item)| message(item).with_context(|| format!("{column}[{i}]"))).collect()
}

fn message(item: &Value) -> Result<Message> {
    let Value::Object(fields) = item else {
        bail!("expected a message {{\"role\": …, \"content\": …}}, found {}", cell(item));
    };
    let (role, content) = match (fields.get("role"), fields.get("from")) {
        // A message that calls a tool need say nothing.
        (Some(_), _) if fields.contains_key(CALLS) && fields.get("content").is_none_or(Value::is_null) => {
            (text_column("role", fields)?, String::new())
        }
        (Some(_), _) => (text_column("role", fields)?, text_column("content", fields)?),
        (None, Some(_)) => (text_column("from", fields)?, text_column("value", fields)?),
        (None, None) => {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            bail!("expected a message {{\"role\": …, \"content\": …}}, found the keys: {}", keys.join(", "));
        }
    };
    let role = match role.as_str() {
        "human" => "user".into(),
        "gpt" => "assistant".into(),
        "" => bail!("the role is empty"),
        _ => role,
    };
    let of_tools: &[&str] = match role.as_str() {
        "assistant" => &[CALLS],
        "tool" | "function" | "ipython" => &["name", "tool_call_id"],
        _ => &[],
    };
    let field = |name: &&str| Some((name.to_string(), fields.get(*name).filter(|value| !value.is_null())?.clone()));
    Ok(Message { role, content, fields: of_tools.iter().filter_map(field).collect() })
}

/// Where an assistant's message calls tools.
const CALLS: &str = "tool_calls";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(columns: &Columns, system: Option<&Template>, row: &Map<String, Value>) -> Result<Vec<Message>> {
        super::read(columns, system, Turn::Last, row).map(|mut found| found.remove(0))
    }

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(row) = value else { panic!("a row is an object") };
        row
    }

    fn roles(messages: &[Message]) -> Vec<(&str, &str)> {
        messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect()
    }

    #[test]
    fn every_way_to_write_a_conversation() {
        let usual = read(
            &Columns::Usual,
            None,
            &object(json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})),
        );
        assert_eq!(roles(&usual.unwrap()), [("user", "a"), ("assistant", "b")]);

        let columns = read(&Columns::Usual, None, &object(json!({"prompt": "a", "response": "b"})));
        assert_eq!(roles(&columns.unwrap()), [("user", "a"), ("assistant", "b")]);

        let talk = json!({"talk": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]});
        let shared = read(&Columns::Messages("talk".into()), None, &object(talk));
        assert_eq!(roles(&shared.unwrap()), [("user", "a"), ("assistant", "b")]);

        let text = json!({"talk": "[{\"role\": \"assistant\", \"content\": \"b\"}]"});
        let system = Template::parse("You are {who}.").unwrap();
        let mut row = object(text);
        row.insert("who".into(), json!("kind"));
        let parsed = read(&Columns::Messages("talk".into()), Some(&system), &row);
        assert_eq!(roles(&parsed.unwrap()), [("system", "You are kind."), ("assistant", "b")]);
    }

    #[test]
    fn what_calls_a_tool_and_what_it_answers_keep_what_templates_look_at() {
        let call = json!([{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]);
        let row = object(json!({"messages": [
            {"role": "user", "content": "1 + 1?", "name": "Ann", "tool_call_id": "x"},
            {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "tool", "content": "2", "tool_call_id": "7", "name": "add", "other": 1},
            {"role": "assistant", "content": "2.", "tool_calls": null},
        ]}));
        let expected = json!([
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": "", "tool_calls": call},
            {"role": "tool", "content": "2", "tool_call_id": "7", "name": "add"},
            {"role": "assistant", "content": "2."},
        ]);
        assert_eq!(json!(read(&Columns::Usual, None, &row).unwrap()), expected);
    }

    #[test]
    fn a_system_message_of_its_own_stays() {
        let row =
            object(json!({"messages": [{"role": "system", "content": "own"}, {"role": "assistant", "content": "b"}]}));
        let system = Template::parse("{messages.0.role} other").unwrap();
        assert_eq!(roles(&read(&Columns::Usual, Some(&system), &row).unwrap())[0], ("system", "own"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |row: Value| format!("{:#}", read(&Columns::Usual, None, &object(row)).unwrap_err());
        let user = json!({"role": "user", "content": "a"});
        assert!(error(json!({"messages": [user]})).contains("ends with a message of role \"user\""));
        assert!(error(json!({"messages": []})).contains("no messages"));
        assert!(error(json!({"messages": {"role": "user"}})).contains("holds an object; expected a list"));
        assert!(error(json!({"messages": [user, 3]})).contains("messages[1]: expected a message"));
        assert!(
            error(json!({"messages": [user, {"role": "assistant", "content": null}]}))
                .contains("messages[1]: column \"content\" holds null")
        );
        assert!(error(json!({"messages": "nonsense"})).contains("not JSON"));
        assert!(error(json!({"prompt": "a", "response": ""})).contains("response is empty"));
        assert!(error(json!({"prompt": "a", "answer": "b"})).contains("The columns are: answer, prompt"));
        assert!(error(json!({"messages": [{"author": "x"}]})).contains("found the keys: author"));
    }
}
