//! What a model would say next at chosen places of each example.

mod figure;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Float32Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::node::Node;
use crate::contract::observer::{Observer, PassContext, Wants};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Work};
use crate::contract::toml_path::at;
use crate::model::ops::entropy;
use crate::model::plan::watching_nodes;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{Kind, Table, column};
use crate::text::chat::ChatTokenizer;
use crate::text::place::Place;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    models: Selection,
    datasets: Selection,
    places: Vec<String>,
    k: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            places: vec!["response".into()],
            k: 10,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Params {
    places: Vec<String>,
    k: usize,
}

pub const TABLE: Table = Table {
    name: "next_tokens",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column(
            "place",
            Kind::Text,
            "response (the response's first token), token:index, or before:word (where the word's first occurrence \
             begins); examples without such a place have no row",
        ),
        column("token", Kind::U32, "index of the predicted token in the conversation"),
        column("rank", Kind::U32, "1 for the likeliest"),
        column("id", Kind::U32, "token id"),
        column("text", Kind::Text, "its text; bytes that are no UTF-8 by themselves are U+FFFD"),
        column("probability", Kind::F32, "its probability given the tokens before the place"),
        column("entropy", Kind::F32, "entropy of the whole distribution, in nats"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "next_tokens",
    version: 2,
    about: "The likeliest next tokens at chosen places of each example.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models to ask."),
        setting("datasets", "The datasets whose examples are passed."),
        setting(
            "places",
            "Which token's prediction is kept: \"response\" (the first of the response), \"token:12\" (by \
                    its index; negative ones count from the end), or \"before:word\" (the one in which the \
                    word's first occurrence begins).",
        ),
        setting("k", "How many of the likeliest tokens are kept."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: &[figure::FIGURES],
    work: Work::Watch(observer),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    for (i, place) in settings.places.iter().enumerate() {
        if Place::parse(place).is_none() {
            let at = at("stages.next_tokens.places").index(i);
            return Err(PlanError::unknown(at, "place", place, ["response", "token:12", "before:word"]));
        }
    }
    if settings.k == 0 {
        return Err(PlanError::new("stages.next_tokens.k", "k must be at least 1"));
    }
    let params = json!({ "places": settings.places, "k": settings.k });
    watching_nodes(STAGE.name, &settings.models, &settings.datasets, pipeline, params, true)
}

fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let [model] = expected.models.as_slice() else { return None };
    let predictions = expected.text.examples * params.places.len() as f64;
    let written = 16.0 * predictions * params.k as f64;
    let pass = Pass { blocks: model.layers(), predictions, ..Pass::default() };
    Some(Cost { pass, written, ..Cost::default() })
}

fn observer(params: &Value, context: &PassContext) -> Result<Box<dyn Observer>> {
    let params = Params::deserialize(params)?;
    let tokenizer = ChatTokenizer::open(context.tokenizer, None)?;
    let mut probes = Vec::new();
    let mut missing = BTreeMap::new();
    for name in &params.places {
        let place = Place::parse(name).with_context(|| format!("unknown place \"{name}\""))?;
        for (i, ids) in context.sequences.ids.iter().enumerate() {
            match place.token(ids, context.sequences.response[i], &tokenizer) {
                Some(token) => probes.push(Probe {
                    example: context.sequences.examples[i].clone(),
                    place: name.clone(),
                    token,
                    row: context.sequences.span(i).start + token - 1,
                    likeliest: Vec::new(),
                    entropy: f32::NAN,
                }),
                None => *missing.entry(format!("strata.examples_without.{name}")).or_insert(0) += 1,
            }
        }
    }
    Ok(Box::new(Probing { tokenizer, probes, missing, k: params.k }))
}

struct Probe {
    example: String,
    place: String,
    token: usize,
    /// The packed row whose distribution predicts it.
    row: usize,
    /// Ids and log-probabilities.
    likeliest: Vec<(u32, f32)>,
    entropy: f32,
}

struct Probing {
    tokenizer: Arc<ChatTokenizer>,
    probes: Vec<Probe>,
    missing: BTreeMap<String, usize>,
    k: usize,
}

impl Observer for Probing {
    fn wants(&self) -> Wants {
        Wants { predictions: self.probes.iter().map(|probe| probe.row).collect(), ..Wants::default() }
    }

    fn predictions(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) -> Result<()> {
        for probe in &mut self.probes {
            if let Ok(index) = rows.binary_search(&probe.row) {
                let logprobs = &logprobs[index * vocabulary..(index + 1) * vocabulary];
                probe.likeliest = likeliest(logprobs, self.k);
                probe.entropy = entropy(logprobs);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Output>> {
        let rows: Vec<(&Probe, usize)> =
            self.probes.iter().flat_map(|probe| (0..probe.likeliest.len()).map(move |rank| (probe, rank))).collect();
        let id = |(probe, rank): &(&Probe, usize)| probe.likeliest[*rank].0;
        let texts = |of: &dyn Fn(&(&Probe, usize)) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let numbers = |of: &dyn Fn(&(&Probe, usize)) -> u32| -> ArrayRef {
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(of)))
        };
        let floats = |of: &dyn Fn(&(&Probe, usize)) -> f32| -> ArrayRef {
            Arc::new(Float32Array::from_iter_values(rows.iter().map(of)))
        };
        let batch = TABLE.batch(vec![
            texts(&|(probe, _)| probe.example.clone()),
            texts(&|(probe, _)| probe.place.clone()),
            numbers(&|(probe, _)| probe.token as u32),
            numbers(&|(_, rank)| *rank as u32 + 1),
            numbers(&id),
            texts(&|row| self.tokenizer.piece(id(row))),
            floats(&|(probe, rank)| probe.likeliest[*rank].1.exp()),
            floats(&|(probe, _)| probe.entropy),
        ])?;
        let metadata = self.missing.into_iter().map(|(key, count)| (key, count.to_string())).collect();
        Ok(vec![Output::Table { batch, metadata }])
    }
}

/// The `k` likeliest ids in order; of equally likely ones the lower id first.
fn likeliest(logprobs: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = logprobs.iter().enumerate().map(|(id, x)| (id as u32, *x)).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_in_order_and_ties_by_id() {
        assert_eq!(likeliest(&[-2.0, -0.5, -2.0, -1.0], 3), [(1, -0.5), (3, -1.0), (0, -2.0)]);
        assert_eq!(likeliest(&[-1.0], 5), [(0, -1.0)]);
    }
}
