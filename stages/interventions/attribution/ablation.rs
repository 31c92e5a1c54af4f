//! The log-probability of a conversation's answer, with the whole prompt and without each of its pieces.

use anyhow::{Context, Result, ensure};

use super::pieces::Piece;
use crate::contract::observer::{Observer, Wants};
use crate::contract::sequences::Sequences;
use crate::model::forward::{Start, watch};
use crate::model::transformer::Transformer;
use crate::text::chat::{ChatTemplate, ChatTokenizer, Encoded, Message};

/// A conversation with the target in the place of its answer, and the pieces of its last user message.
pub struct Case {
    pub example: String,
    pub prompt: String,
    pub target: String,
    pub pieces: Vec<Piece>,
    /// The whole conversation, then one without each piece.
    pub variants: Vec<Encoded>,
}

impl Case {
    /// Renders and encodes the conversation and its ablations.
    ///
    /// # Errors
    /// When the chat template or the tokenizer fails on one of them.
    pub fn new(
        example: &str,
        mut messages: Vec<Message>,
        asked: usize,
        pieces: Vec<Piece>,
        tokenizer: &ChatTokenizer,
        template: &ChatTemplate,
    ) -> Result<Case> {
        let target = messages.last().context("the conversation is empty")?.content.clone();
        // An ablated conversation may be a few tokens longer than the whole one, where words were split anew.
        let mut variants = vec![tokenizer.encode(template, &messages, usize::MAX)?];
        let prompt = messages[asked].content.clone();
        for (i, piece) in pieces.iter().enumerate() {
            messages[asked].content = piece.ablated(&prompt);
            let encoded = tokenizer.encode(template, &messages, usize::MAX);
            variants.push(encoded.with_context(|| format!("without piece {i}"))?);
        }
        Ok(Case { example: example.to_string(), prompt, target, pieces, variants })
    }
}

/// Tokens that are packed into one pass.
const PASS_TOKENS: usize = 8192;

/// The log-probabilities of the target's tokens in every variant of every case, in order. A sequence's values do not
/// depend on those it is packed with. `step` is told after each pass, and its error ends the work.
///
/// # Errors
/// When a token is unknown to the model, or a value is not finite.
pub fn target_logprobs(
    model: &Transformer,
    cases: &[Case],
    step: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let mut found: Vec<Vec<Vec<f64>>> = cases.iter().map(|_| Vec::new()).collect();
    let mut waiting: Vec<(usize, &Encoded)> = Vec::new();
    let mut tokens = 0;
    let mut pass = |waiting: &mut Vec<(usize, &Encoded)>| -> Result<()> {
        let values = pass(model, cases, waiting)?;
        for ((case, _), values) in waiting.iter().zip(values) {
            let (example, finite) = (&cases[*case].example, values.iter().all(|value| value.is_finite()));
            ensure!(finite, "the target's log-probability is not finite for example {example}");
            found[*case].push(values);
        }
        step(waiting.len())?;
        waiting.clear();
        Ok(())
    };
    for (case, variant) in cases.iter().enumerate().flat_map(|(i, case)| case.variants.iter().map(move |v| (i, v))) {
        if !waiting.is_empty() && tokens + variant.ids.len() > PASS_TOKENS {
            pass(&mut waiting)?;
            tokens = 0;
        }
        tokens += variant.ids.len();
        waiting.push((case, variant));
    }
    if !waiting.is_empty() {
        pass(&mut waiting)?;
    }
    Ok(found)
}

/// One pass over packed variants.
fn pass(model: &Transformer, cases: &[Case], variants: &[(usize, &Encoded)]) -> Result<Vec<Vec<f64>>> {
    let sequences = Sequences {
        examples: variants.iter().map(|(case, _)| cases[*case].example.clone()).collect(),
        ids: variants.iter().map(|(_, variant)| variant.ids.clone()).collect(),
        response: variants.iter().map(|(_, variant)| (variant.response.start, variant.response.end)).collect(),
        turn: variants.iter().map(|(_, variant)| variant.turn_start).collect(),
    };
    let mut targets = Targets { predicted: Vec::new(), passed: 0, found: vec![Vec::new(); variants.len()] };
    for (i, rows) in sequences.spans().iter().enumerate() {
        let (start, end) = sequences.response[i];
        // Nothing predicts a conversation's first token.
        let tokens = (start.max(1)..end).map(|t| (rows.start + t as usize - 1, i, sequences.ids[i][t as usize]));
        targets.predicted.extend(tokens);
    }
    watch(model, &sequences, Start::Tokens, &mut targets, &[])?;
    Ok(targets.found)
}

/// Collects the log-probabilities of the targets' tokens.
struct Targets {
    /// (row, sequence, id) of each token of a target.
    predicted: Vec<(usize, usize, u32)>,
    /// How many of these have come by.
    passed: usize,
    /// For each sequence.
    found: Vec<Vec<f64>>,
}

impl Observer for Targets {
    fn wants(&self) -> Wants {
        Wants { predictions: self.predicted.iter().map(|(row, ..)| *row).collect(), ..Wants::default() }
    }

    fn predictions(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) -> Result<()> {
        let these = &self.predicted[self.passed..][..rows.len()];
        for (logprobs, (_, sequence, id)) in logprobs.chunks_exact(vocabulary).zip(these) {
            self.found[*sequence].push(logprobs[*id as usize] as f64);
        }
        self.passed += rows.len();
        Ok(())
    }
}
