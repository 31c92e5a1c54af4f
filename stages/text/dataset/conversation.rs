//! The conversation of a row: its messages, whichever way the dataset writes them.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use super::cell::{cell, no_column};
use super::json;
use super::template::Template;
use super::transcript;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

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

/// A row's messages, ending with the assistant's.
///
/// # Errors
/// When a column is missing or has another form, or the conversation does not end with an answer.
pub fn read(columns: &Columns, system: Option<&Template>, row: &Map<String, Value>) -> Result<Vec<Message>> {
    let mut messages = match columns {
        Columns::Usual if row.contains_key("messages") => listed("messages", row)?,
        Columns::Usual if row.contains_key("prompt") && row.contains_key("response") => {
            mapped(text_column("prompt", row)?, text_column("response", row)?)
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
            said.into_iter().map(|(role, content)| Message { role: role.into(), content }).collect()
        }
        Columns::Mapped { prompt, response } => {
            let prompt = prompt.render(row).context("the prompt")?;
            mapped(prompt, response.render(row).context("the response")?)
        }
    };
    if let Some(system) = system
        && messages.first().is_none_or(|first| first.role != "system")
    {
        let content = system.render(row).context("the system message")?;
        messages.insert(0, Message { role: "system".into(), content });
    }
    match messages.last() {
        None => bail!("the conversation has no messages; expected at least an assistant's"),
        Some(last) if last.role != "assistant" => {
            bail!(
                "the conversation ends with a message of role \"{}\"; expected it to end with the assistant's",
                last.role
            )
        }
        Some(last) if last.content.is_empty() => {
            bail!(
                "the response is empty; leave such rows out with a filter, as in filter = {{ response = {{ not = \"\" }} }}"
            )
        }
        Some(_) => Ok(messages),
    }
}

fn text_column(column: &str, row: &Map<String, Value>) -> Result<String> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => bail!("column \"{column}\" holds {}, not text", cell(other)),
        None => Err(no_column(row, column)),
    }
}

fn mapped(prompt: String, response: String) -> Vec<Message> {
    vec![Message { role: "user".into(), content: prompt }, Message { role: "assistant".into(), content: response }]
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
    Ok(Message { role, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
