//! Conversations that stand in pipeline.toml itself: `messages = [{ role = "user", content = "…" }, …]`.

use serde_json::{Map, Value, json};

use super::conversation::{self, Columns};
use super::turn::Turn;
use crate::contract::pipeline::{Dataset, DatasetSource, PlanError};
use crate::contract::toml_path::at;

/// The dataset's conversations, each a list of messages; `None` where it is read from a file.
///
/// # Errors
/// At `datasets.<name>.messages`, when there are none, or one is no conversation that ends with the assistant's message.
pub fn conversations(dataset: &Dataset) -> Result<Option<Vec<Value>>, PlanError> {
    let DatasetSource::Written(written) = &dataset.source else { return Ok(None) };
    let at = at("datasets").key(&dataset.name).key("messages");
    let several = matches!(written, Value::Array(list) if list.first().is_some_and(Value::is_array));
    let found = match written {
        Value::Array(list) if several => list.clone(),
        one => vec![one.clone()],
    };
    for (i, messages) in found.iter().enumerate() {
        let at = if several { at.index(i) } else { at.clone() };
        if let Err(error) = conversation::read(&Columns::Usual, None, Turn::Last, &row(messages)) {
            return Err(PlanError::new(at, format!("{error:#}")));
        }
    }
    Ok(Some(found))
}

/// A conversation as the row of a file whose column `messages` holds it.
pub fn row(messages: &Value) -> Map<String, Value> {
    Map::from_iter([("messages".to_string(), json!(messages))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Value) -> Result<Option<Vec<Value>>, PlanError> {
        conversations(&Dataset { name: "d".into(), source: DatasetSource::Written(messages), reading: json!({}) })
    }

    #[test]
    fn one_conversation_or_a_list_of_them() {
        let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        assert_eq!(read(messages.clone()).unwrap().unwrap(), vec![messages.clone()]);
        assert_eq!(read(json!([messages, messages])).unwrap().unwrap(), vec![messages.clone(), messages]);
    }

    #[test]
    fn what_is_no_conversation_is_named_with_its_place() {
        let user = json!({"role": "user", "content": "a"});
        let assistant = json!({"role": "assistant", "content": "b"});
        for (messages, place, what) in [
            (json!([]), "datasets.d.messages", "no messages"),
            (json!([user]), "datasets.d.messages", "ends with a message of role \"user\""),
            (json!([{"role": "assistant"}]), "datasets.d.messages", "messages[0]: no column \"content\""),
            (json!([[user, assistant], [assistant, user]]), "datasets.d.messages[1]", "ends with"),
        ] {
            let error = read(messages).unwrap_err();
            assert_eq!(error.at, place);
            assert!(error.message.contains(what), "{}", error.message);
        }
    }
}
