//! What a model's token losses say of each example's response: the measures that are summarised and compared.

use anyhow::Result;
use arrow::array::{BooleanArray, Float32Array, StringArray};

use crate::contract::node::Part;
use crate::table::{self, values};

/// The columns of `token_losses` that are read.
pub const COLUMNS: &[&str] = &["example", "in_response", "logprob", "entropy"];

/// The measures in their order, as tables name them.
pub const MEASURES: [&str; 3] = ["joint_logprob", "logprob", "entropy"];

/// What the column of a measure's name says.
pub const MEASURE_ABOUT: &str = "per example over the response's tokens: joint_logprob (sum of log-probabilities), logprob (their mean) or entropy \
                                 (mean entropy of the distributions), in nats";

/// The examples that have response tokens, in the table's order.
#[derive(Default)]
pub struct ResponseLosses {
    pub examples: Vec<String>,
    /// Response tokens of all of them.
    pub tokens: u32,
    /// For each of [`MEASURES`] a value for each example.
    pub measures: [Vec<f64>; 3],
}

/// Reads the parts of `token_losses`. The tokens of one example are adjacent.
///
/// # Errors
/// When a part cannot be read or lacks a column.
pub fn read(parts: &[Part]) -> Result<ResponseLosses> {
    let batch = table::read(parts, COLUMNS)?;
    let examples: &StringArray = values(&batch, "example")?;
    let in_response: &BooleanArray = values(&batch, "in_response")?;
    let logprobs: &Float32Array = values(&batch, "logprob")?;
    let entropies: &Float32Array = values(&batch, "entropy")?;
    let mut found = ResponseLosses::default();
    let mut sums: Vec<Sums> = Vec::new();
    for row in (0..batch.num_rows()).filter(|&row| in_response.value(row)) {
        if found.examples.last().is_none_or(|last| last != examples.value(row)) {
            found.examples.push(examples.value(row).to_string());
            sums.push(Sums::default());
        }
        if let Some(sums) = sums.last_mut() {
            sums.logprob += f64::from(logprobs.value(row));
            sums.entropy += f64::from(entropies.value(row));
            sums.tokens += 1;
        }
    }
    found.tokens = sums.iter().map(|sums| sums.tokens).sum();
    found.measures = [
        sums.iter().map(|sums| sums.logprob).collect(),
        sums.iter().map(|sums| sums.logprob / f64::from(sums.tokens)).collect(),
        sums.iter().map(|sums| sums.entropy / f64::from(sums.tokens)).collect(),
    ];
    Ok(found)
}

#[derive(Default)]
struct Sums {
    logprob: f64,
    entropy: f64,
    tokens: u32,
}
