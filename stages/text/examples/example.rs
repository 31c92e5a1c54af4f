//! From rows to examples: what an example is, its identity, and the table's columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{RecordBatch, StringArray, UInt32Array};
use serde_json::{Map, Value};

use crate::table::folders::DATASET;
use crate::table::{Kind, Table, column};
use crate::text::dataset::cell::{cell, no_column};
use crate::text::dataset::conversation::{self, Columns};
use crate::text::dataset::message::Message;
use crate::text::dataset::reading::Reading;
use crate::text::dataset::template::Template;

pub const TABLE: Table = Table {
    name: "examples",
    folders: &[DATASET],
    columns: &[
        column("example", Kind::Text, "identity: 16 hex digits of the hash of the messages, -2, -3 … for repeats"),
        column("row", Kind::U32, "0-based line (JSON lines) or row in the dataset's file"),
        column("label", Kind::Text, "the example's label, where the dataset has one"),
        column("prompt", Kind::Text, "the last user message"),
        column("response", Kind::Text, "the last assistant message, which ends the conversation"),
        column("messages", Kind::Text, "the conversation as a JSON list of {role, content}"),
    ],
};

#[derive(Debug)]
pub struct Example {
    /// The hash of the messages.
    pub identity: u64,
    /// The hash of the messages before the last.
    pub opening: u64,
    /// Which of the file's examples with these messages it is, from 1.
    pub repeat: u32,
    row: u32,
    label: Option<String>,
    prompt: Option<String>,
    response: String,
    /// As JSON.
    pub messages: String,
    /// Roles of its messages that chat templates do not know.
    unknown_roles: Vec<String>,
}

impl Example {
    fn name(&self) -> String {
        match self.repeat {
            1 => format!("{:016x}", self.identity),
            repeat => format!("{:016x}-{repeat}", self.identity),
        }
    }

    /// A hash of the identity, another one for every salt.
    pub fn hash(&self, salt: &str) -> u64 {
        first_bytes(&blake3::hash(format!("{salt} {}", self.name()).as_bytes()), u64::from_le_bytes)
    }
}

fn first_bytes(hash: &blake3::Hash, number: fn([u8; 8]) -> u64) -> u64 {
    number(std::array::from_fn(|i| hash.as_bytes()[i]))
}

/// How rows become examples.
pub struct RowReader<'a> {
    reading: &'a Reading,
    columns: Columns,
    system: Option<Template>,
}

impl RowReader<'_> {
    /// # Errors
    /// When a template does not parse, which planning has ruled out.
    pub fn new(reading: &Reading) -> Result<RowReader<'_>> {
        let (columns, system) = reading.conversation()?;
        Ok(RowReader { reading, columns, system })
    }

    /// The examples of a row; their identities are not yet told from repeats.
    ///
    /// # Errors
    /// When the row is no conversation that ends with an answer, or lacks the label's column.
    pub fn examples(&self, row: u32, columns: &Map<String, Value>) -> Result<Vec<Example>> {
        let conversations = conversation::read(&self.columns, self.system.as_ref(), self.reading.turn, columns)?;
        let label = match (&self.reading.label, &self.reading.label_column) {
            (Some(label), _) => Some(label.clone()),
            (None, None) => None,
            (None, Some(column)) => match columns.get(column) {
                Some(Value::Null) => None,
                Some(Value::String(label)) => Some(label.clone()),
                Some(label @ (Value::Number(_) | Value::Bool(_))) => Some(label.to_string()),
                Some(other) => bail!("the label column \"{column}\" holds {}", cell(other)),
                None => return Err(no_column(columns, column).context("the label")),
            },
        };
        conversations.into_iter().map(|messages| Example::of(row, label.clone(), messages)).collect()
    }
}

impl Example {
    fn of(row: u32, label: Option<String>, mut messages: Vec<Message>) -> Result<Example> {
        let text = serde_json::to_string(&messages)?;
        let unknown = messages.iter().filter(|message| !ROLES.contains(&message.role.as_str()));
        let unknown_roles = unknown.map(|message| message.role.clone()).collect();
        let response = messages.pop().context("a conversation without messages")?.content;
        let opening = first_bytes(&blake3::hash(serde_json::to_string(&messages)?.as_bytes()), u64::from_le_bytes);
        let prompt = messages.into_iter().rev().find(|message| message.role == "user").map(|message| message.content);
        let identity = first_bytes(&blake3::hash(text.as_bytes()), u64::from_be_bytes);
        Ok(Example { identity, opening, repeat: 1, row, label, prompt, response, messages: text, unknown_roles })
    }
}

/// What chat templates know, of one family or another.
const ROLES: [&str; 9] =
    ["system", "developer", "user", "assistant", "tool", "function", "ipython", "environment", "observation"];

/// Under which a part states the roles of its messages that are none of these, with how often each is there.
pub const UNKNOWN_ROLES: &str = "strata.unknown_roles";

/// What the part of these examples states of itself.
pub fn stated(examples: &[Example]) -> Result<BTreeMap<String, String>> {
    let mut counts = BTreeMap::<&str, u64>::new();
    examples.iter().flat_map(|example| &example.unknown_roles).for_each(|role| *counts.entry(role).or_default() += 1);
    if counts.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(BTreeMap::from([(UNKNOWN_ROLES.to_string(), serde_json::to_string(&counts)?)]))
}

/// Examples as a part of the table.
pub fn batch(examples: &[Example]) -> Result<RecordBatch> {
    let text = |column: fn(&Example) -> Option<&str>| Arc::new(StringArray::from_iter(examples.iter().map(column)));
    TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values(examples.iter().map(Example::name))),
        Arc::new(UInt32Array::from_iter_values(examples.iter().map(|example| example.row))),
        text(|example| example.label.as_deref()),
        text(|example| example.prompt.as_deref()),
        text(|example| Some(&example.response)),
        text(|example| Some(&example.messages)),
    ])
}
