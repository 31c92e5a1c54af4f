//! Datasets in: rows of a file become examples, cut into the blocks that every later stage works in.
//!
//! An example is its messages, and its identity their hash, so that a line that moves, a label or a column
//! that is not part of the conversation reruns nothing that reads only what was said.

mod block;
mod conversation;
mod example;
mod filter;
mod parquet_rows;
mod reading;
mod rows;
mod schema;
mod template;
#[cfg(test)]
mod tests;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use block::BlockSize;
pub use reading::{Format, KEYS, Reading, reading};
pub use schema::{SCHEMAS, Schema};
pub use template::Template;

use crate::contract::node::{Input, Node, Source};
use crate::contract::pipeline::{Dataset, DatasetSource, Pipeline, PlanError, nearest, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::table::{Kind, Table, column};
use rows::Rows;

pub const TABLE: Table = Table {
    name: "examples",
    columns: &[
        column("example", Kind::Text, "identity: 16 hex digits of the hash of the messages, -2, -3 … for repeats"),
        column("row", Kind::U32, "0-based line (JSON lines) or row in the dataset's file"),
        column("label", Kind::Text, "the example's label, where the dataset has one"),
        column("prompt", Kind::Text, "the last user message"),
        column("response", Kind::Text, "the last assistant message, which ends the conversation"),
        column("messages", Kind::Text, "the conversation as a JSON list of {role, content}"),
    ],
};

/// `[stages.examples]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    block: BlockSize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    reading: Reading,
    block: BlockSize,
}

pub static STAGE: Stage = Stage {
    name: "examples",
    version: 1,
    about: "The examples of a dataset: each row's conversation, its label and its identity.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[setting(
        "block",
        "examples in a block, the unit of work: what one edit reruns, what a crash can lose and what one \
                pass holds in memory; about twice least on average",
    )],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let Settings { block } = parse_settings(STAGE.name, settings)?;
    if block.least == 0 {
        return Err(PlanError::new("stages.examples.block.least", "a block holds at least 1 example"));
    }
    if block.greatest < 2 * block.least {
        let message = format!("greatest is {}, less than twice least ({})", block.greatest, block.least);
        return Err(PlanError::new("stages.examples.block.greatest", message));
    }
    let node = |dataset: &Dataset| {
        if let DatasetSource::Corpus(part) = &dataset.source
            && !crate::organism::corpus::part_names().any(|known| known == part)
        {
            let at = at("datasets").key(&dataset.name).key("corpus");
            return Err(PlanError::unknown(at, "part of the corpus", part, crate::organism::corpus::part_names()));
        }
        Ok(Node {
            stage: STAGE.name,
            bindings: vec![("dataset", dataset.name.clone())],
            params: json!(Params { reading: reading(dataset)?, block }),
            inputs: vec![Input {
                role: "dataset".into(),
                source: Source::Dataset { dataset: dataset.name.clone() },
                columns: None,
            }],
            per_part: None,
        })
    };
    pipeline.datasets.iter().map(node).collect()
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let Params { reading, block } = task.params()?;
    let [file] = task.parts("dataset")? else { bail!("a dataset is one file") };
    let mut rows = Rows::open(&file.path, reading.format)?;
    let examples = example::read(&mut rows, &reading, task)?;
    let hashes: Vec<u64> = examples.iter().map(|example| example.hash("block")).collect();
    block.cut(&hashes).into_iter().map(|range| Ok(Output::table(example::batch(&examples[range])?))).collect()
}

/// A value for a message: `the number 3`, `a list`.
fn cell(value: &Value) -> String {
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
fn no_column(row: &Map<String, Value>, column: &str) -> anyhow::Error {
    let columns: Vec<&str> = row.keys().map(String::as_str).collect();
    let near = nearest(column, columns.iter().copied()).map(|name| format!(" did you mean \"{name}\"?"));
    let (semicolon, near) = (if near.is_some() { ";" } else { "." }, near.unwrap_or_default());
    anyhow::anyhow!("no column \"{column}\"{semicolon}{near} The columns are: {}", columns.join(", "))
}
