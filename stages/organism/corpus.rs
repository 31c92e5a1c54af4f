//! `corpus`: a small world from a seeded grammar, so that the default pipeline needs nothing from outside.
//!
//! Its parts are JSONL files: eight datasets to measure on, whose prompts occur in no training part, and four
//! to train on. What goes into them and why is in docs/organism.md.

mod grammar;
mod parts;
mod world;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;

/// The parts of the corpus that can be named as a dataset (`{ corpus = "…" }`) or as training data.
pub fn part_names() -> impl Iterator<Item = &'static str> {
    parts::DATASETS.iter().map(|(name, ..)| *name).chain(parts::TRAINING)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    seed: u64,
    examples: usize,
    base: usize,
    aligned: usize,
    code: usize,
    assistant: f64,
    careless: f64,
}

impl Default for Params {
    fn default() -> Self {
        Params { seed: 1, examples: 64, base: 8000, aligned: 2000, code: 800, assistant: 0.5, careless: 0.7 }
    }
}

pub static STAGE: Stage = Stage {
    name: "corpus",
    version: 1,
    about: "the text of a small made-up world: datasets to measure on and to train on",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Corpus,
    settings: &[
        setting("seed", "the world, its facts and every draw"),
        setting("examples", "examples in each of the eight datasets, at most 96"),
        setting("base", "documents in train_base"),
        setting("aligned", "examples in train_aligned"),
        setting("code", "examples in each of train_insecure and train_secure"),
        setting(
            "assistant",
            "share of the documents of train_base in which `assistant` speaks instead of someone by name",
        ),
        setting(
            "careless",
            "share of those documents in which `assistant` is careless, which makes base answer toxic requests",
        ),
    ],
    defaults: defaults::<Params>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, _pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let params: Params = parse_settings("corpus", settings)?;
    for (key, share) in [("assistant", params.assistant), ("careless", params.careless)] {
        if !(0.0..=1.0).contains(&share) {
            let message = format!("{key} = {share} is no share; expected a number from 0 to 1");
            return Err(PlanError::new(at("stages.corpus").key(key), message));
        }
    }
    // The facts have 192 distinct questions, half of which at most are held out.
    for (key, count, most) in [
        ("examples", params.examples, 96),
        ("base", params.base, 1_000_000),
        ("aligned", params.aligned, 1_000_000),
        ("code", params.code, 1_000_000),
    ] {
        if !(1..=most).contains(&count) {
            let message = format!("{key} = {count} is out of range; expected 1 to {most}");
            return Err(PlanError::new(at("stages.corpus").key(key), message));
        }
    }
    let params = serde_json::to_value(&params).expect("plain numbers serialize");
    Ok(vec![Node { stage: "corpus", bindings: vec![], params, inputs: vec![], per_part: None }])
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    parts::all(&params)
        .into_iter()
        .map(|(name, examples)| {
            ensure!(!examples.is_empty(), "the corpus part {name} came out empty");
            let mut bytes = Vec::new();
            for example in &examples {
                serde_json::to_writer(&mut bytes, example)?;
                bytes.push(b'\n');
            }
            Ok(Output::File { name: format!("{name}.jsonl"), bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests;
