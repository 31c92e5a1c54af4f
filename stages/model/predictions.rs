//! Which tokens' losses are taken, and what each counts.

use anyhow::{Result, bail};

use super::block::Packing;
use super::transformer::Transformer;
use crate::contract::observer::Over;
use crate::contract::sequences::Sequences;

/// The predictions whose losses are taken.
pub struct Predictions {
    /// The packed rows that predict, ascending.
    pub rows: Vec<usize>,
    /// The token that comes after each.
    pub targets: Vec<u32>,
    /// One over the number of predictions of the example.
    pub weights: Vec<f32>,
}

impl Predictions {
    /// # Errors
    /// When a token id lies outside the vocabulary.
    pub fn of(model: &Transformer, sequences: &Sequences, packing: &Packing, over: Over) -> Result<Predictions> {
        let vocabulary = model.description.vocabulary;
        let mut found = Predictions { rows: Vec::new(), targets: Vec::new(), weights: Vec::new() };
        for (i, sequence) in packing.sequences.iter().enumerate() {
            let tokens = over.tokens(sequences, i);
            for token in tokens.clone() {
                let target = sequences.ids[i][token];
                if target as usize >= vocabulary {
                    let example = &sequences.examples[i];
                    bail!("example {example} has the token id {target}, of a vocabulary of {vocabulary}");
                }
                found.rows.push(sequence.start + token - 1);
                found.targets.push(target);
                found.weights.push(1.0 / tokens.len() as f32);
            }
        }
        Ok(found)
    }
}
