//! What a patch is judged by: an example's loss, the log-probability of a target token, the entropy at its place.

use std::ops::Range;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::contract::intervention::Intervention;
use crate::contract::observer::{Observer, Wants};
use crate::contract::sequences::Sequences;
use crate::model::forward::{Start, watch};
use crate::model::ops::entropy;
use crate::model::transformer::Transformer;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean negative log-probability of the example's tokens.
    Loss,
    /// Log-probability of the target token.
    Logprob,
    /// Entropy of the distribution that predicts the target token.
    Entropy,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Logprob => "logprob",
            Metric::Entropy => "entropy",
        }
    }
}

/// Which tokens the loss is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// All that have others before them.
    All,
    /// The response's.
    Response,
    /// Those of the assistant's turn after its first two, the opening marker and the role in ChatML, to the conversation's
    /// last.
    Turn,
}

/// The tokens of sequence `i` that its loss is the mean of.
fn predicted(over: Over, sequences: &Sequences, i: usize) -> Range<usize> {
    let (start, end) = match over {
        Over::All => (0, sequences.ids[i].len()),
        Over::Response => (sequences.response[i].0 as usize, sequences.response[i].1 as usize),
        Over::Turn => (sequences.turn[i] as usize + 2, sequences.ids[i].len()),
    };
    start.max(1)..end.min(sequences.ids[i].len())
}

/// The values of one sequence, one for each metric; `None` where the sequence has no such token.
pub type Values = Vec<Option<f64>>;

/// The metrics of packed sequences.
pub struct Measure<'a> {
    metrics: &'a [Metric],
    /// The number of sequences.
    count: usize,
    /// Ascending by row.
    rows: Vec<Row>,
}

/// A packed row whose distribution is looked at.
struct Row {
    row: usize,
    sequence: usize,
    /// The token that follows, where the loss counts it.
    next: Option<u32>,
    /// The target token, where this is its place.
    target: Option<u32>,
}

impl<'a> Measure<'a> {
    /// `targets` holds each sequence's target: the index of the token in whose place it stands, and its id.
    pub fn new(
        metrics: &'a [Metric],
        over: Over,
        targets: &[Option<(usize, u32)>],
        sequences: &Sequences,
    ) -> Measure<'a> {
        let placed = metrics.iter().any(|metric| *metric != Metric::Loss);
        let mut rows = Vec::new();
        let mut start = 0;
        for (i, ids) in sequences.ids.iter().enumerate() {
            let counted = if metrics.contains(&Metric::Loss) { predicted(over, sequences, i) } else { 0..0 };
            let aim = targets[i].filter(|_| placed);
            for (t, &id) in ids.iter().enumerate().skip(1) {
                let next = counted.contains(&t).then_some(id);
                let target = aim.filter(|(at, _)| *at == t).map(|(_, id)| id);
                if next.is_some() || target.is_some() {
                    rows.push(Row { row: start + t - 1, sequence: i, next, target });
                }
            }
            start += ids.len();
        }
        Measure { metrics, count: sequences.ids.len(), rows }
    }

    /// The metrics of a pass of `model`.
    ///
    /// # Errors
    /// When the pass fails, or the target token is unknown to the model.
    pub fn of(
        &self,
        model: &Transformer,
        sequences: &Sequences,
        start: Start,
        interventions: &[&dyn Intervention],
    ) -> Result<Vec<Values>> {
        let mut measuring =
            Measuring { rows: &self.rows, losses: vec![(0.0, 0); self.count], at_target: vec![None; self.count] };
        watch(model, sequences, start, &mut measuring, interventions)?;
        let values = measuring.losses.iter().zip(&measuring.at_target).map(|((sum, count), at_target)| {
            let value = |metric: &Metric| match metric {
                Metric::Loss => (*count > 0).then(|| sum / f64::from(*count)),
                Metric::Logprob => at_target.map(|(logprob, _)| logprob),
                Metric::Entropy => at_target.map(|(_, entropy)| entropy),
            };
            self.metrics.iter().map(value).collect()
        });
        Ok(values.collect())
    }
}

/// Sums up what the rows' distributions say, sequence by sequence.
struct Measuring<'a> {
    /// Those that have not come by.
    rows: &'a [Row],
    /// Sum and number of the cross-entropies.
    losses: Vec<(f64, u32)>,
    /// The target token's log-probability, and the entropy at its place.
    at_target: Vec<Option<(f64, f64)>>,
}

impl Observer for Measuring<'_> {
    fn wants(&self) -> Wants {
        Wants { predictions: self.rows.iter().map(|row| row.row).collect(), ..Wants::default() }
    }

    fn predictions(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) -> Result<()> {
        let (passed, left) = self.rows.split_at(rows.len());
        self.rows = left;
        for (logprobs, row) in logprobs.chunks_exact(vocabulary).zip(passed) {
            let of = |id: u32| match logprobs.get(id as usize) {
                Some(logprob) => Ok(*logprob as f64),
                None => bail!("the token id {id} is not in the model's vocabulary of {vocabulary} tokens"),
            };
            if let Some(next) = row.next {
                let (sum, count) = &mut self.losses[row.sequence];
                *sum -= of(next)?;
                *count += 1;
            }
            if let Some(target) = row.target {
                self.at_target[row.sequence] = Some((of(target)?, entropy(logprobs) as f64));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences() -> Sequences {
        Sequences {
            examples: vec!["a".into(), "b".into(), "c".into()],
            ids: vec![vec![1; 6], vec![2; 3], vec![3]],
            response: vec![(3, 5), (3, 3), (0, 1)],
            turn: vec![1, 2, 0],
        }
    }

    #[test]
    fn the_head_runs_only_for_the_rows_that_are_asked_for() {
        let rows = |metrics: &[Metric], over| {
            let measure = Measure::new(metrics, over, &[Some((3, 9)), None, None], &sequences());
            measure.rows.iter().map(|row| row.row).collect::<Vec<_>>()
        };
        assert_eq!(rows(&[Metric::Loss], Over::All), [0, 1, 2, 3, 4, 6, 7]);
        assert_eq!(rows(&[Metric::Loss], Over::Response), [2, 3]);
        // Tokens 3 to 5 of the first, none of the others.
        assert_eq!(rows(&[Metric::Loss], Over::Turn), [2, 3, 4]);
        assert_eq!(rows(&[Metric::Entropy, Metric::Logprob], Over::All), [2]);
    }
}
