//! What a model's token losses say of each example: the measures that are summarised and compared.

use anyhow::Result;
use arrow::array::{BooleanArray, Float32Array, StringArray};
use serde::{Deserialize, Serialize};

use crate::contract::node::Part;
use crate::table::{self, values};

/// The columns of `token_losses` that are read.
pub const COLUMNS: &[&str] = &["example", "in_response", "logprob", "entropy"];

/// What an example's tokens are summed up as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    JointLogprob,
    Logprob,
    Entropy,
    JointLogprobWithEnd,
    JointLogprobAll,
    LogprobAll,
    EntropyAll,
}

/// The measures of the response's tokens.
pub const OF_RESPONSE: [Measure; 3] = [Measure::JointLogprob, Measure::Logprob, Measure::Entropy];

/// What the column of the name of a measure of the response says.
pub const MEASURE_ABOUT: &str = "per example over the response's tokens: joint_logprob (sum of log-probabilities), logprob (their mean) or entropy \
                                 (mean entropy of the distributions), in nats";

impl Measure {
    pub fn name(self) -> &'static str {
        match self {
            Measure::JointLogprob => "joint_logprob",
            Measure::Logprob => "logprob",
            Measure::Entropy => "entropy",
            Measure::JointLogprobWithEnd => "joint_logprob_with_end",
            Measure::JointLogprobAll => "joint_logprob_all",
            Measure::LogprobAll => "logprob_all",
            Measure::EntropyAll => "entropy_all",
        }
    }

    /// The sums over the tokens that it looks at.
    pub fn sums(self, example: &ExampleLosses) -> &Sums {
        match self {
            Measure::JointLogprob | Measure::Logprob | Measure::Entropy => &example.response,
            Measure::JointLogprobWithEnd => &example.with_end,
            Measure::JointLogprobAll | Measure::LogprobAll | Measure::EntropyAll => &example.all,
        }
    }

    /// Its value, in nats; NaN for a mean over no token.
    pub fn of(self, example: &ExampleLosses) -> f64 {
        let sums = self.sums(example);
        match self {
            Measure::JointLogprob | Measure::JointLogprobWithEnd | Measure::JointLogprobAll => sums.logprob,
            Measure::Logprob | Measure::LogprobAll => sums.logprob / f64::from(sums.tokens),
            Measure::Entropy | Measure::EntropyAll => sums.entropy / f64::from(sums.tokens),
        }
    }
}

/// Sums over some of an example's tokens.
#[derive(Debug, Default)]
pub struct Sums {
    pub logprob: f64,
    pub entropy: f64,
    pub tokens: u32,
}

impl Sums {
    fn add(&mut self, logprob: f64, entropy: f64) {
        self.logprob += logprob;
        self.entropy += entropy;
        self.tokens += 1;
    }
}

/// An example's tokens, summed up.
#[derive(Debug)]
pub struct ExampleLosses {
    pub name: String,
    /// Every token that has a loss.
    pub all: Sums,
    pub response: Sums,
    /// From the response's first token to the conversation's last.
    pub with_end: Sums,
}

/// Reads the parts of `token_losses`, whose tokens of one example are adjacent and in order.
///
/// # Errors
/// When a part cannot be read or lacks a column.
pub fn read(parts: &[Part]) -> Result<Vec<ExampleLosses>> {
    let batch = table::read(parts, COLUMNS)?;
    let examples: &StringArray = values(&batch, "example")?;
    let in_response: &BooleanArray = values(&batch, "in_response")?;
    let logprobs: &Float32Array = values(&batch, "logprob")?;
    let entropies: &Float32Array = values(&batch, "entropy")?;
    let mut found: Vec<ExampleLosses> = Vec::new();
    for row in 0..batch.num_rows() {
        let name = examples.value(row);
        if found.last().is_none_or(|last| last.name != name) {
            found.push(ExampleLosses {
                name: name.to_string(),
                all: Sums::default(),
                response: Sums::default(),
                with_end: Sums::default(),
            });
        }
        let Some(example) = found.last_mut() else { continue };
        let (logprob, entropy) = (f64::from(logprobs.value(row)), f64::from(entropies.value(row)));
        let within = in_response.value(row);
        example.all.add(logprob, entropy);
        if within {
            example.response.add(logprob, entropy);
        }
        if within || example.with_end.tokens > 0 {
            example.with_end.add(logprob, entropy);
        }
    }
    Ok(found)
}
