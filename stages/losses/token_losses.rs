//! How surprised a model is by each token of each example.

mod figure;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array, StringArray, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::node::Node;
use crate::contract::observer::{Observer, PassContext, Wants};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, parse_settings};
use crate::contract::sequences::Sequences;
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Work};
use crate::model::ops::entropy;
use crate::model::plan::watching_nodes;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{Kind, Table, column};
use crate::text::chat::ChatTokenizer;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    models: Selection,
    datasets: Selection,
}

pub const TABLE: Table = Table {
    name: "token_losses",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column("token", Kind::U32, "the predicted token's index in the conversation, from 1"),
        column("id", Kind::U32, "its token id"),
        column("text", Kind::Text, "its text; bytes that are no UTF-8 by themselves are U+FFFD"),
        column("in_response", Kind::Bool, "whether it belongs to the last assistant message's content"),
        column("logprob", Kind::F32, "log-probability of the token given those before it, in nats"),
        column("entropy", Kind::F32, "entropy of the distribution that predicted it, in nats"),
        column("rank", Kind::U32, "1 + how many tokens were likelier"),
        column(
            "joint_logprob",
            Kind::F64,
            "sum of the log-probabilities from the response's first token to this one, in nats; null before the response",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "token_losses",
    version: 3,
    about: "Log-probability, entropy and rank of every token of every example.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models to pass the examples through."),
        setting("datasets", "The datasets whose examples are passed."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: &[figure::FIGURES],
    work: Work::Watch(observer),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    watching_nodes(STAGE.name, &settings.models, &settings.datasets, pipeline, json!({}), true)
}

fn cost(_params: &Value, expected: &Expected) -> Option<Cost> {
    let [model] = expected.models.as_slice() else { return None };
    let predictions = expected.text.predicted();
    // Three floats and four small columns that compress.
    let written = 24.0 * predictions;
    let pass = Pass { blocks: model.layers(), predictions, ..Pass::default() };
    Some(Cost { pass, written, ..Cost::default() })
}

fn observer(_params: &Value, context: &PassContext) -> Result<Box<dyn Observer>> {
    let predicted = predicted_tokens(context.sequences);
    Ok(Box::new(Losses {
        tokenizer: ChatTokenizer::open(context.tokenizer, None)?,
        sequences: context.sequences.clone(),
        scores: Vec::with_capacity(predicted.len()),
        predicted,
    }))
}

/// A token that has others before it.
struct Predicted {
    /// The packed row whose distribution predicts it.
    row: usize,
    sequence: usize,
    token: usize,
}

fn predicted_tokens(sequences: &Sequences) -> Vec<Predicted> {
    let mut predicted = Vec::new();
    let mut start = 0;
    for (sequence, ids) in sequences.ids.iter().enumerate() {
        predicted.extend((1..ids.len()).map(|token| Predicted { row: start + token - 1, sequence, token }));
        start += ids.len();
    }
    predicted
}

struct Losses {
    tokenizer: Arc<ChatTokenizer>,
    sequences: Sequences,
    predicted: Vec<Predicted>,
    /// Log-probability, entropy and rank, for as many of the predicted tokens as have come by.
    scores: Vec<(f32, f32, u32)>,
}

impl Losses {
    fn id(&self, predicted: &Predicted) -> u32 {
        self.sequences.ids[predicted.sequence][predicted.token]
    }

    /// The running sums of log-probabilities from each response's first token on.
    fn joint_logprobs(&self) -> Vec<Option<f64>> {
        let (mut sum, mut sequence) = (0.0, None);
        let scores = self.predicted.iter().zip(&self.scores);
        let joint = scores.map(|(predicted, (logprob, ..))| {
            if sequence != Some(predicted.sequence) {
                (sum, sequence) = (0.0, Some(predicted.sequence));
            }
            if predicted.token < self.sequences.response[predicted.sequence].0 as usize {
                return None;
            }
            sum += f64::from(*logprob);
            Some(sum)
        });
        joint.collect()
    }
}

impl Observer for Losses {
    fn wants(&self) -> Wants {
        Wants { predictions: self.predicted.iter().map(|p| p.row).collect(), ..Wants::default() }
    }

    fn predictions(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) -> Result<()> {
        let next = &self.predicted[self.scores.len()..self.scores.len() + rows.len()];
        debug_assert!(next.iter().zip(rows).all(|(predicted, row)| predicted.row == *row));
        let scores: Vec<_> = next
            .par_iter()
            .zip(logprobs.par_chunks_exact(vocabulary))
            .map(|(predicted, logprobs)| {
                let logprob = logprobs[self.id(predicted) as usize];
                let likelier = logprobs.iter().filter(|other| **other > logprob).count() as u32;
                (logprob, entropy(logprobs), 1 + likelier)
            })
            .collect();
        self.scores.extend(scores);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Output>> {
        let (sequences, predicted) = (&self.sequences, &self.predicted);
        let mut pieces = HashMap::new();
        for p in predicted {
            let id = self.id(p);
            pieces.entry(id).or_insert_with(|| self.tokenizer.piece(id));
        }
        let in_response = |p: &Predicted| {
            let (start, end) = sequences.response[p.sequence];
            (start as usize..end as usize).contains(&p.token)
        };
        let batch = TABLE.batch(vec![
            Arc::new(StringArray::from_iter_values(predicted.iter().map(|p| &sequences.examples[p.sequence])))
                as ArrayRef,
            Arc::new(UInt32Array::from_iter_values(predicted.iter().map(|p| p.token as u32))),
            Arc::new(UInt32Array::from_iter_values(predicted.iter().map(|p| self.id(p)))),
            Arc::new(StringArray::from_iter_values(predicted.iter().map(|p| &pieces[&self.id(p)]))),
            Arc::new(BooleanArray::from_iter(predicted.iter().map(|p| Some(in_response(p))))),
            Arc::new(Float32Array::from_iter_values(self.scores.iter().map(|(logprob, ..)| *logprob))),
            Arc::new(Float32Array::from_iter_values(self.scores.iter().map(|(_, entropy, _)| *entropy))),
            Arc::new(UInt32Array::from_iter_values(self.scores.iter().map(|(.., rank)| *rank))),
            Arc::new(Float64Array::from(self.joint_logprobs())),
        ])?;
        Ok(vec![Output::table(batch)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_model::part;

    #[test]
    fn a_joint_log_probability_begins_with_the_response_and_goes_on_to_the_end() {
        let mut sequences = part(&[6, 5]);
        sequences.response = vec![(2, 4), (1, 5)];
        let predicted = predicted_tokens(&sequences);
        let scores = (0..predicted.len()).map(|i| (-(i as f32) - 0.5, 0.0, 1)).collect();
        let tokenizer = ChatTokenizer::open(&crate::testing::models::tokenizer(), None).unwrap();
        let found = Losses { tokenizer, sequences, predicted, scores }.joint_logprobs();
        // Tokens 1 to 5 of the first with -0.5 to -4.5, tokens 1 to 4 of the second with -5.5 to -8.5.
        let first = [None, Some(-1.5), Some(-4.0), Some(-7.5), Some(-12.0)];
        let second = [Some(-5.5), Some(-12.0), Some(-19.5), Some(-28.0)];
        assert_eq!(found, [&first[..], &second[..]].concat());
    }
}
