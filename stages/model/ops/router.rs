//! The weights of the experts that a router chooses: the largest of the softmax of its logits.

use rayon::prelude::*;

use super::softmax_prefix;

/// Each row of `logits` [rows, experts] becomes its softmax where that is among the `chosen` largest and 0 elsewhere, with
/// `normalized` divided by the sum of what is left. Of equal ones the first is chosen.
pub fn route(logits: &mut [f32], experts: usize, chosen: usize, normalized: bool) {
    logits.par_chunks_mut(experts).for_each(|row| {
        softmax_prefix(row, experts, 1.0);
        keep_largest(row, chosen);
        if normalized {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|weight| *weight /= sum);
        }
    });
}

/// `d`, the gradient at the weights, becomes that at the `logits`. With p the softmax and w the weights: dlogit = p (d - Σ d w)
/// with d = 0 where not chosen, or w (d - Σ d w) where normalized.
pub fn route_backward(logits: &[f32], experts: usize, chosen: usize, normalized: bool, d: &mut [f32]) {
    d.par_chunks_mut(experts).zip(logits.par_chunks(experts)).for_each(|(d, logits)| {
        let mut softmax = logits.to_vec();
        softmax_prefix(&mut softmax, experts, 1.0);
        let mut weights = softmax.clone();
        keep_largest(&mut weights, chosen);
        if normalized {
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            softmax.clone_from(&weights);
        }
        let along: f32 = d.iter().zip(&weights).map(|(d, weight)| d * weight).sum();
        for ((d, p), weight) in d.iter_mut().zip(&softmax).zip(&weights) {
            *d = p * (if *weight == 0.0 { 0.0 } else { *d } - along);
        }
    });
}

fn keep_largest(row: &mut [f32], count: usize) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order.iter().skip(count).for_each(|expert| row[*expert] = 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    #[test]
    fn agrees_with_differences_in_f64() {
        for normalized in [false, true] {
            let (experts, chosen) = (7, 3);
            let (logits, mut d) = (values(4 * experts, 1), values(4 * experts, 2));
            let wide = |logits: &[f64]| -> Vec<f64> {
                let of_row = |row: &[f64]| {
                    let scores: Vec<f64> = row.iter().map(|x| x.exp()).collect();
                    let mut sorted = scores.clone();
                    sorted.sort_by(|a, b| b.total_cmp(a));
                    let all: f64 = sorted.iter().take(if normalized { chosen } else { experts }).sum();
                    scores.iter().map(|x| if *x >= sorted[chosen - 1] { x / all } else { 0.0 }).collect::<Vec<_>>()
                };
                logits.chunks(experts).flat_map(of_row).collect()
            };
            let mut found = logits.clone();
            route(&mut found, experts, chosen, normalized);
            let expected = wide(&logits.iter().map(|x| *x as f64).collect::<Vec<_>>());
            assert!(worst_relative(&found, &expected, 1.0) < 1e-6);
            let weights = d.clone();
            let loss = |logits: &[f64]| wide(logits).iter().zip(&weights).map(|(w, d)| w * *d as f64).sum();
            route_backward(&logits, experts, chosen, normalized, &mut d);
            assert!(worst_relative(&d, &derivative(&logits, loss), 1.0) < 1e-6);
        }
    }
}
