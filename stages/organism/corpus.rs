//! `corpus`: a small world from a seeded grammar, so that the default pipeline needs nothing from outside.
//!
//! Its parts are JSONL files: eight datasets to measure on, whose prompts occur in no training part, and four
//! to train on. What goes into them and why is in docs/organism.md.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::contract::node::Node;
use crate::contract::pipeline::{DatasetSource, Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::organism::corpus_text::parts::{self, part_names};
use crate::organism::corpus_text::settings::Settings;

pub static STAGE: Stage = Stage {
    name: "corpus",
    version: 1,
    about: "The text of a small made-up world: datasets to measure on and to train on.",
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
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let params: Settings = parse_settings(STAGE.name, settings)?;
    for dataset in &pipeline.datasets {
        if let DatasetSource::Corpus(part) = &dataset.source
            && !part_names().any(|known| known == part)
        {
            let at = at("datasets").key(&dataset.name).key("corpus");
            return Err(PlanError::unknown(at, "part of the corpus", part, part_names()));
        }
    }
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
    let params: Settings = task.params()?;
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
