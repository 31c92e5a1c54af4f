//! The text to train on: corpus parts as documents, and documents as packed batches.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Deserialize;

use super::input;
use crate::contract::node::Part;

/// A line of a corpus part.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Text {
    Messages { messages: Vec<Message> },
    Plain { text: String },
}

#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

/// Token ids, and for each whether the loss is taken over its prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub ids: Vec<u32>,
    pub counts: Vec<bool>,
}

impl Document {
    /// Tokens that are predicted: all counted ones but a first.
    pub fn targets(&self) -> usize {
        self.counts.iter().skip(1).filter(|counts| **counts).count()
    }
}

/// The documents of the part `name` of the corpus.
pub fn read(corpus: &[Part], name: &str) -> Result<Vec<Text>> {
    let bytes = input::read(corpus, &format!("{name}.jsonl"))?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{name}.jsonl is not UTF-8"))?;
    let parse = |(i, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{name}.jsonl:{}: expected messages or text", i + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

/// Some documents packed one after another.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    pub ids: Vec<u32>,
    pub sequences: Vec<Range<usize>>,
    /// Rows whose next token counts, ascending, and those tokens.
    pub rows: Vec<usize>,
    pub targets: Vec<u32>,
}

impl Batch {
    /// The batch in at most `most` parts of about as many tokens, whole documents each, those that have a target.
    pub fn shards(&self, most: usize) -> Vec<Batch> {
        let mut shards: Vec<Batch> = (0..most).map(|_| Batch::default()).collect();
        let mut rows = self.rows.iter().zip(&self.targets).peekable();
        for sequence in &self.sequences {
            let shard = &mut shards[(sequence.start + sequence.end) / 2 * most / self.ids.len()];
            let start = shard.ids.len();
            shard.ids.extend(&self.ids[sequence.clone()]);
            shard.sequences.push(start..shard.ids.len());
            while let Some((row, target)) = rows.next_if(|(row, _)| **row < sequence.end) {
                shard.rows.push(start + row - sequence.start);
                shard.targets.push(*target);
            }
        }
        shards.retain(|shard| !shard.rows.is_empty());
        shards
    }
}

/// Batches without end: the documents in a new order each time round.
pub struct Batches<'a> {
    documents: &'a [Document],
    tokens: usize,
    order: Vec<usize>,
    rng: ChaCha8Rng,
}

impl<'a> Batches<'a> {
    pub fn new(documents: &'a [Document], tokens: usize, seed: u64) -> Result<Batches<'a>> {
        ensure!(documents.iter().any(|document| document.targets() > 0), "there is no token to train on");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        Ok(Batches { documents, tokens, order: Vec::new(), rng })
    }

    /// Documents until there are `tokens` tokens or more, at least one of them a target.
    pub fn next(&mut self) -> Batch {
        let mut batch = Batch::default();
        while batch.ids.len() < self.tokens || batch.rows.is_empty() {
            let document = &self.documents[self.draw()];
            let start = batch.ids.len();
            batch.ids.extend(&document.ids);
            batch.sequences.push(start..batch.ids.len());
            for (i, _) in document.counts.iter().enumerate().skip(1).filter(|(_, counts)| **counts) {
                batch.rows.push(start + i - 1);
                batch.targets.push(document.ids[i]);
            }
        }
        batch
    }

    fn draw(&mut self) -> usize {
        if self.order.is_empty() {
            self.order = (0..self.documents.len()).collect();
            for i in (1..self.order.len()).rev() {
                let j = (u64::from(self.rng.next_u32()) * (i as u64 + 1)) >> 32;
                self.order.swap(i, j as usize);
            }
        }
        self.order.pop().expect("filled above from documents that are not empty")
    }
}
