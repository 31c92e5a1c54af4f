//! Softmax, its logarithm, and the entropy of a distribution. Nats.

use rayon::prelude::*;

use super::{LANES, exp, vectorized};

/// Each row of `logits` [rows, vocabulary] becomes its log-probabilities.
pub fn log_softmax(logits: &mut [f32], vocabulary: usize) {
    logits.par_chunks_mut(vocabulary).for_each(log_softmax_row);
}

vectorized! {
    avx512:
    /// The greatest logit of one row, and the logarithm of the sum of exp(logit - greatest). Taken away in two steps, the first is
    /// nearly exact, and the second takes away a small number.
    pub fn log_sum_exp(logits: &[f32]) -> (f32, f32) {
        let max = max(logits);
        let mut sum = 0f64;
        for part in logits.chunks(SPAN) {
            sum += sum_lanes(part, |x| exp(x - max)) as f64;
        }
        (max, sum.ln() as f32)
    }

    /// One row.
    pub fn log_softmax_row(logits: &mut [f32]) {
        let (max, log_sum) = log_sum_exp(logits);
        logits.iter_mut().for_each(|x| *x = (*x - max) - log_sum);
    }
}

vectorized! {
    avx512:
    /// -Σ p ln p of one row of log-probabilities.
    pub fn entropy(logprobs: &[f32]) -> f32 {
        let mut sum = 0f64;
        for part in logprobs.chunks(SPAN) {
            sum += sum_lanes(part, |x| exp(x) * x) as f64;
        }
        -sum as f32
    }
}

vectorized! {
    avx512:
    /// scores[..] becomes softmax(scale * scores[..visible]) followed by zeros: one row of causal attention.
    pub fn softmax_prefix(scores: &mut [f32], visible: usize, scale: f32) {
        let (seen, hidden) = scores.split_at_mut(visible);
        let max = max(seen);
        for x in seen.iter_mut() {
            *x = exp((*x - max) * scale);
        }
        let sum = seen.chunks(SPAN).map(|part| sum_lanes(part, |x| x) as f64).sum::<f64>();
        let factor = (1.0 / sum) as f32;
        seen.iter_mut().for_each(|x| *x *= factor);
        hidden.fill(0.0);
    }
}

/// So many terms are summed in f32 before the sum is carried on in f64.
const SPAN: usize = 1024;

#[inline(always)]
fn sum_lanes(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += term(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| term(*x)).sum::<f32>()
}

#[inline(always)]
fn max(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{values, worst_relative};

    #[test]
    fn log_probabilities_and_entropy_agree_with_f64() {
        for (rows, vocabulary) in [(3, 5), (2, 640), (2, 151_936)] {
            let logits: Vec<f32> = values(rows * vocabulary, 1).iter().map(|x| x * 12.0 + 100.0).collect();
            let mut found = logits.clone();
            log_softmax(&mut found, vocabulary);
            for (found, logits) in found.chunks(vocabulary).zip(logits.chunks(vocabulary)) {
                let sum: f64 = logits.iter().map(|x| (*x as f64 - 112.0).exp()).sum();
                let expected: Vec<f64> = logits.iter().map(|x| *x as f64 - 112.0 - sum.ln()).collect();
                assert!(worst_relative(found, &expected, 1.0) < 2e-5, "{vocabulary}");
                let h: f64 = -expected.iter().map(|x| x.exp() * x).sum::<f64>();
                assert!((entropy(found) as f64 - h).abs() < 2e-5, "{vocabulary}: {} {h}", entropy(found));
            }
        }
    }

    #[test]
    fn a_causal_row_is_a_distribution_over_what_it_sees() {
        let scores = values(100, 2);
        let mut found = scores.clone();
        softmax_prefix(&mut found, 37, 0.7);
        let sum: f64 = scores[..37].iter().map(|x| (*x as f64 * 0.7f32 as f64).exp()).sum();
        let expected: Vec<f64> =
            (0..100).map(|i| if i < 37 { (scores[i] as f64 * 0.7f32 as f64).exp() / sum } else { 0.0 }).collect();
        assert!(worst_relative(&found, &expected, 1.0) < 1e-7);
    }

    #[test]
    fn nan_is_not_hidden() {
        let mut logits = vec![0.0, f32::NAN, 1.0];
        log_softmax(&mut logits, 3);
        assert!(logits.iter().all(|x| x.is_nan()));
    }
}
