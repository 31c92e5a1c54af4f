//! Datasets in: rows of a file become examples, cut into the parts that every later stage works in.
//!
//! An example is its messages, and its identity their hash, so that a line that moves, a label or a column
//! that is not part of the conversation reruns nothing that reads only what was said.

mod draw;
mod example;
pub mod first;
mod part;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node, Part, Source};
use crate::contract::pipeline::{Dataset, Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Give, Output, Outputs, Stage, Task, Work};
use crate::table;
use crate::text::dataset::reading::{Reading, reading};
use crate::text::dataset::row::Found;
use crate::text::dataset::rows::Rows;
use crate::text::dataset::sample::Sample;
use crate::text::dataset::written;
use draw::{Draw, Drawn, Share};
use example::{Example, RowReader, TABLE, UNKNOWN_ROLES};
use part::{Cutter, PartSize};

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
    version: 2,
    about: "The examples of a dataset: each row's conversation, its label and its identity.",
    asked_by_default: false,
    notice: Some(notice),
    outputs: Outputs::Table(TABLE),
    settings: &[setting(
        "part",
        "examples in a part. A part is the unit of work: one edit reruns one part, and a pass holds one part \
             in memory, or several that answer the same prompts; about twice least on average",
    )
    .formerly("block")],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Stream(run),
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

fn run(task: &Task, give: &mut Give) -> Result<()> {
    let Params { reading, part, conversations } = task.params()?;
    let Some(sample) = &reading.sample else {
        let mut rows = match conversations {
            Some(conversations) => Rows::written(conversations),
            None => Rows::open(file(task)?, reading.format)?,
        };
        let mut parts = Parts { cutter: Cutter::new(part), stated: BTreeMap::new(), give };
        let mut left = reading.limit.unwrap_or(usize::MAX);
        read::each(&mut rows, &reading, task, &mut |kept| {
            parts.push(kept.example)?;
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        return parts.finish();
    };
    let path = file(task)?;
    let mut draw = Draw::new(sample, reading.limit);
    let mut rows = Rows::open(path, reading.format)?;
    read::each(&mut rows, &reading, task, &mut |kept| draw.look(&kept).map(|()| ControlFlow::Continue(())))?;
    let salt = draw.salt.clone();
    let (drawn, shares) = draw.finish();
    let mut parts = Parts { cutter: Cutter::new(part), stated: stated_of(sample, &shares)?, give };
    let reader = RowReader::new(&reading)?;
    let mut found: Vec<Found> = drawn.iter().map(|drawn| drawn.found).collect();
    found.dedup_by_key(|found| found.index);
    let mut rows = Rows::again(path, reading.format, found)?;
    let mut drawn = drawn.into_iter().peekable();
    loop {
        if (task.cancelled)() {
            bail!("stopped while reading the dataset");
        }
        let chunk = rows.chunk()?;
        if chunk.is_empty() {
            return parts.finish();
        }
        for row in chunk {
            let place = row.place;
            let columns = row.content.columns().with_context(|| rows.place(place))?;
            let examples = reader.examples(row.index, &columns).with_context(|| rows.place(place))?;
            for (turn, mut example) in examples.into_iter().enumerate() {
                let here = |drawn: &Drawn| (drawn.found.index, drawn.found.turn) == (row.index, turn as u32);
                let Some(drawn) = drawn.next_if(here) else { continue };
                example.repeat = drawn.repeat;
                if example.hash(&salt) != drawn.hash {
                    bail!("{} changed while it was being read", rows.place(place));
                }
                parts.push(example)?;
            }
            if drawn.peek().is_some_and(|drawn| drawn.found.index == row.index) {
                bail!("{} changed while it was being read", rows.place(place));
            }
        }
    }
}

fn file<'a>(task: &'a Task) -> Result<&'a Path> {
    let [file] = task.parts("dataset")? else { bail!("a dataset is one file") };
    Ok(&file.path)
}

/// Examples on their way to parts of the table.
struct Parts<'a> {
    cutter: Cutter<(u64, u64), Example>,
    /// What the first part says of all.
    stated: BTreeMap<String, String>,
    give: &'a mut Give<'a>,
}

impl Parts<'_> {
    fn push(&mut self, example: Example) -> Result<()> {
        let parts = self.cutter.push((example.opening, example.hash("block")), example);
        parts.into_iter().try_for_each(|part| self.part(&part))
    }

    fn part(&mut self, examples: &[Example]) -> Result<()> {
        let mut metadata = example::stated(examples)?;
        metadata.append(&mut self.stated);
        (self.give)(Output::Table { batch: example::batch(examples)?, metadata })
    }

    fn finish(mut self) -> Result<()> {
        let cutter = std::mem::replace(&mut self.cutter, Cutter::new(PartSize::default()));
        cutter.finish().iter().try_for_each(|part| self.part(part))
    }
}

/// Under which the first part states what the strata of a sample came to.
const STRATA: &str = "strata.sample";

#[derive(Serialize, Deserialize)]
struct StratifiedBy {
    by: String,
    /// Of the first strata.
    shares: Vec<Share>,
    /// What is to be said of those that came short.
    short: Vec<String>,
}

fn stated_of(sample: &Sample, shares: &[Share]) -> Result<BTreeMap<String, String>> {
    const MOST: usize = 100;
    let Sample::Strata(strata) = sample else { return Ok(BTreeMap::new()) };
    let mut short = draw::short(strata.n, &strata.by, strata.counts, shares);
    let more = short.len().saturating_sub(SHOWN);
    short.truncate(SHOWN);
    if more > 0 {
        short.push(format!("and {more} more of its values come short"));
    }
    let shares = shares.iter().take(MOST).cloned().collect();
    let stated = serde_json::to_string(&StratifiedBy { by: strata.by.clone(), shares, short })?;
    Ok(BTreeMap::from([(STRATA.to_string(), stated)]))
}

/// Strata, or roles, that a notice names.
const SHOWN: usize = 5;

/// What is to be said of examples: roles that are not usual, strata that came short.
fn notice(parts: &[Part]) -> Result<Option<String>> {
    let mut said: Vec<String> = unknown_roles(parts)?.into_iter().collect();
    for part in parts {
        if let Some(stated) = table::stated(&part.path, STRATA)? {
            said.extend(serde_json::from_str::<StratifiedBy>(&stated)?.short);
        }
    }
    Ok((!said.is_empty()).then(|| said.join("; ")))
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
    let first =
        counts.iter().take(SHOWN).map(|(role, count)| format!("{role:?} ({count})")).collect::<Vec<_>>().join(", ");
    let more = if counts.len() > SHOWN { format!(" and {} more", counts.len() - SHOWN) } else { String::new() };
    Ok((!counts.is_empty()).then(|| {
        format!(
            "messages have roles that are not usual, which a chat template may print or drop as they are: {first}{more}"
        )
    }))
}
