//! Datasets in: rows of a file become examples, cut into the parts that every later stage works in.
//!
//! An example is its messages, and its identity their hash, so that a line that moves, a label or a column
//! that is not part of the conversation reruns nothing that reads only what was said.

mod example;
mod part;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node, Part, Source};
use crate::contract::pipeline::{Dataset, Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::table;
use crate::text::dataset::reading::{Reading, reading};
use crate::text::dataset::rows::Rows;
use crate::text::dataset::written;
use example::{TABLE, UNKNOWN_ROLES};
use part::PartSize;

/// `[stages.examples]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    #[serde(alias = "block")]
    part: PartSize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    reading: Reading,
    /// Named as in the keys of earlier versions, which would be stale under another name.
    #[serde(rename = "block")]
    part: PartSize,
    /// The conversations, where they stand in pipeline.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversations: Option<Vec<Value>>,
}

pub static STAGE: Stage = Stage {
    name: "examples",
    version: 1,
    about: "The examples of a dataset: each row's conversation, its label and its identity.",
    asked_by_default: false,
    notice: Some(unknown_roles),
    outputs: Outputs::Table(TABLE),
    settings: &[setting(
        "part",
        "examples in a part. A part is the unit of work: one edit reruns one part, and one pass holds \
             one part in memory; about twice least on average",
    )
    .formerly("block")],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let Settings { part } = parse_settings(STAGE.name, settings)?;
    if part.least == 0 {
        return Err(PlanError::new("stages.examples.part.least", "a part holds at least 1 example"));
    }
    if part.greatest < 2 * part.least {
        let message = format!("greatest is {}, less than twice least ({})", part.greatest, part.least);
        return Err(PlanError::new("stages.examples.part.greatest", message));
    }
    let node = |dataset: &Dataset| {
        let reading = reading(dataset)?;
        let conversations = written::conversations(dataset)?;
        let file = Input {
            role: "dataset".into(),
            source: Source::Dataset { dataset: dataset.name.clone() },
            columns: None,
            alike: None,
        };
        Ok(Node {
            stage: STAGE.name,
            bindings: vec![("dataset", dataset.name.clone())],
            inputs: if conversations.is_some() { Vec::new() } else { vec![file] },
            params: json!(Params { reading, part, conversations }),
            per_part: None,
        })
    };
    pipeline.datasets.iter().map(node).collect()
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let Params { reading, part, conversations } = task.params()?;
    let mut rows = match conversations {
        Some(conversations) => Rows::written(conversations),
        None => {
            let [file] = task.parts("dataset")? else { bail!("a dataset is one file") };
            Rows::open(&file.path, reading.format)?
        }
    };
    let examples = example::read(&mut rows, &reading, task)?;
    let hashes: Vec<u64> = examples.iter().map(|example| example.hash("block")).collect();
    let output = |range| {
        let examples = &examples[range];
        Ok(Output::Table { batch: example::batch(examples)?, metadata: example::stated(examples)? })
    };
    part.cut(&hashes).into_iter().map(output).collect()
}

/// Which roles of these parts' messages no chat template is known to know.
fn unknown_roles(parts: &[Part]) -> Result<Option<String>> {
    let mut counts = BTreeMap::<String, u64>::new();
    for part in parts {
        let stated = table::stated(&part.path, UNKNOWN_ROLES)?.unwrap_or("{}".into());
        for (role, count) in serde_json::from_str::<BTreeMap<String, u64>>(&stated)? {
            *counts.entry(role).or_default() += count;
        }
    }
    let first = counts.iter().take(5).map(|(role, count)| format!("{role:?} ({count})")).collect::<Vec<_>>().join(", ");
    let more = if counts.len() > 5 { format!(" and {} more", counts.len() - 5) } else { String::new() };
    Ok((!counts.is_empty()).then(|| {
        format!(
            "messages have roles that are not usual, which a chat template may print or drop as they are: {first}{more}"
        )
    }))
}
