//! How messages name the values and columns of a row.

use serde_json::{Map, Value};

use crate::contract::pipeline::nearest;

/// A value for a message: `the number 3`, `a list`.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) if text.chars().count() > 40 => {
            format!("the text {:?}…", text.chars().take(40).collect::<String>())
        }
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// A row lacks a column: the nearest one it has, and all of them.
pub fn no_column(row: &Map<String, Value>, column: &str) -> anyhow::Error {
    let columns: Vec<&str> = row.keys().map(String::as_str).collect();
    let near = nearest(column, columns.iter().copied()).map(|name| format!(" did you mean \"{name}\"?"));
    let (semicolon, near) = (if near.is_some() { ";" } else { "." }, near.unwrap_or_default());
    anyhow::anyhow!("no column \"{column}\"{semicolon}{near} The columns are: {}", columns.join(", "))
}
