//! From rows to examples: identity, filter, limit, sample, and the table's columns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{RecordBatch, StringArray, UInt32Array};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::contract::stage::Task;
use crate::table::folders::DATASET;
use crate::table::{Kind, Table, column};
use crate::text::dataset::cell::{cell, no_column};
use crate::text::dataset::conversation::{self, Columns};
use crate::text::dataset::reading::Reading;
use crate::text::dataset::row::Row;
use crate::text::dataset::rows::Rows;
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
    pub identity: String,
    row: u32,
    label: Option<String>,
    prompt: Option<String>,
    response: String,
    messages: String,
    /// Roles of its messages that chat templates do not know.
    unknown_roles: Vec<String>,
}

impl Example {
    /// A hash of the identity, another one for every salt.
    pub fn hash(&self, salt: &str) -> u64 {
        let hash = blake3::hash(format!("{salt} {}", self.identity).as_bytes());
        u64::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i]))
    }
}

/// The file's examples in its order: those of the rows that the filter keeps, up to the limit.
///
/// # Errors
/// The first row that cannot be read, with its line; a filter on a column that no row has; no examples left.
pub fn read(rows: &mut Rows, reading: &Reading, task: &Task) -> Result<Vec<Example>> {
    let (columns, system) = reading.conversation()?;
    let reader = RowReader { reading, columns, system };
    let mut examples: Vec<Example> = Vec::new();
    let mut repeats: HashMap<String, u32> = HashMap::new();
    let mut unseen: Vec<&str> = reading.filter.columns().collect();
    let mut first_row = Map::new();
    let mut count = 0u64;
    // Rows after the last example that is kept are not looked at, so 400 examples of a large file are read at once.
    let stop = if reading.sample.is_none() { reading.limit.unwrap_or(usize::MAX) } else { usize::MAX };
    while examples.len() < stop {
        if (task.cancelled)() {
            bail!("stopped while reading the dataset");
        }
        let chunk = rows.chunk()?;
        if chunk.is_empty() {
            break;
        }
        let read: Vec<_> = chunk.into_par_iter().map(|row| (row.place, reader.read(row))).collect();
        for (place, read) in read {
            if examples.len() == stop {
                break;
            }
            let Read { example, lacks, names } = read.with_context(|| rows.place(place))?;
            unseen.retain(|column| lacks.contains(column));
            if count == 0 && !unseen.is_empty() {
                first_row = names.into_iter().map(|name| (name, Value::Null)).collect();
            }
            count += 1;
            let Some(mut example) = example else { continue };
            let seen = repeats.entry(example.identity.clone()).or_default();
            *seen += 1;
            if *seen > 1 {
                example.identity = format!("{}-{seen}", example.identity);
            }
            examples.push(example);
        }
        (task.progress)(count, 0);
    }
    let path = rows.path().display();
    if count == 0 {
        bail!("{path}: the dataset is empty: the file has no rows");
    }
    if let Some(column) = unseen.first() {
        return Err(
            no_column(&first_row, column).context(format!("{path}: the filter looks at a column that no row has"))
        );
    }
    if examples.is_empty() {
        bail!("{path}: the dataset is empty: {count} rows were read, and the filter kept none of them");
    }
    if let (Some(seed), Some(limit)) = (reading.sample, reading.limit) {
        sample(&mut examples, limit, seed);
    }
    Ok(examples)
}

/// Keeps the `limit` examples of least hash under the seed: a uniform draw that an added or removed example
/// changes by one.
fn sample(examples: &mut Vec<Example>, limit: usize, seed: u64) {
    if limit >= examples.len() {
        return;
    }
    let salt = format!("sample {seed}");
    let mut hashes: Vec<u64> = examples.iter().map(|example| example.hash(&salt)).collect();
    let last = *hashes.select_nth_unstable(limit - 1).1;
    examples.retain(|example| example.hash(&salt) <= last);
}

struct RowReader<'a> {
    reading: &'a Reading,
    columns: Columns,
    system: Option<Template>,
}

struct Read<'a> {
    /// None where the filter drops the row.
    example: Option<Example>,
    /// The filter's columns that the row does not have; where there are any, `names` has those it does.
    lacks: Vec<&'a str>,
    names: Vec<String>,
}

impl<'a> RowReader<'a> {
    fn read(&self, row: Row) -> Result<Read<'a>> {
        let index = row.index;
        let row = row.content.columns()?;
        let lacks: Vec<&str> = self.reading.filter.columns().filter(|column| !row.contains_key(*column)).collect();
        let names = if lacks.is_empty() { Vec::new() } else { row.keys().cloned().collect() };
        let example = if self.reading.filter.keeps(&row)? { Some(self.example(index, &row)?) } else { None };
        Ok(Read { example, lacks, names })
    }

    fn example(&self, row: u32, columns: &Map<String, Value>) -> Result<Example> {
        let mut messages = conversation::read(&self.columns, self.system.as_ref(), columns)?;
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
        let text = serde_json::to_string(&messages)?;
        let unknown = messages.iter().filter(|message| !ROLES.contains(&message.role.as_str()));
        let unknown_roles = unknown.map(|message| message.role.clone()).collect();
        let response = messages.pop().context("a conversation without messages")?.content;
        let prompt = messages.into_iter().rev().find(|message| message.role == "user").map(|message| message.content);
        let identity = blake3::hash(text.as_bytes()).to_hex()[..16].to_string();
        Ok(Example { identity, row, label, prompt, response, messages: text, unknown_roles })
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
        text(|example| Some(&example.identity)),
        Arc::new(UInt32Array::from_iter_values(examples.iter().map(|example| example.row))),
        text(|example| example.label.as_deref()),
        text(|example| example.prompt.as_deref()),
        text(|example| Some(&example.response)),
        text(|example| Some(&example.messages)),
    ])
}
