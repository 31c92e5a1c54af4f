//! The loss and its gradient: -log softmax(logits)[target] in nats, weighted by row.

use rayon::prelude::*;

use super::{exp, log_sum_exp, vectorized};

/// `logits` [rows, vocabulary] become weight * (softmax - one at the target), the loss' gradient; the result is
/// the loss, Σ weight * cross-entropy over the rows in their order.
pub fn cross_entropy_backward(logits: &mut [f32], targets: &[u32], weights: &[f32]) -> f64 {
    let vocabulary = logits.len() / targets.len();
    assert_eq!((logits.len(), weights.len()), (targets.len() * vocabulary, targets.len()), "cross_entropy: lengths");
    let rows = logits.par_chunks_mut(vocabulary).zip(targets).zip(weights);
    let losses: Vec<f64> = rows
        .map(|((row, target), weight)| {
            let logit = row[*target as usize];
            let (max, log_sum) = log_sum_exp(row);
            let logprob = (logit - max) - log_sum;
            weighted_softmax(row, max, log_sum, *weight);
            row[*target as usize] = (exp(logprob) - 1.0) * *weight;
            -logprob as f64 * *weight as f64
        })
        .collect();
    losses.iter().sum()
}

vectorized! {
    avx512:
    /// x becomes weight * exp(x - max - log_sum).
    pub fn weighted_softmax(x: &mut [f32], max: f32, log_sum: f32, weight: f32) {
        x.iter_mut().for_each(|x| *x = exp((*x - max) - log_sum) * weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    #[test]
    fn agrees_with_differences_in_f64() {
        let (targets, weights, vocabulary) = ([3, 0, 18, 7], [0.25f32, 0.0, 1.0, 0.5], 19);
        let mut logits: Vec<f32> = values(targets.len() * vocabulary, 1).iter().map(|x| x * 9.0).collect();
        let loss = |logits: &[f64]| {
            let row_loss = |((row, target), weight): ((&[f64], &u32), &f32)| {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                (sum.ln() - row[*target as usize]) * *weight as f64
            };
            logits.chunks(vocabulary).zip(&targets).zip(&weights).map(row_loss).sum::<f64>()
        };
        let expected_loss = loss(&logits.iter().map(|x| *x as f64).collect::<Vec<_>>());
        let expected = derivative(&logits, loss);
        let found = cross_entropy_backward(&mut logits, &targets, &weights);
        assert!((found - expected_loss).abs() < 1e-5, "{found} {expected_loss}");
        assert!(worst_relative(&logits, &expected, 1.0) < 1e-6);
    }
}
