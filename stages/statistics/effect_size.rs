//! Standardised differences of two groups.

use super::moments::{mean, std};

/// Cohen's d: (mean of b - mean of a) / pooled standard deviation, the pooled variance being
/// (n_a s_a^2 + n_b s_b^2) / (n_a + n_b - 2) with s of divisor n. `None` where that is 0 or undefined.
pub fn cohens_d(a: &[f64], b: &[f64]) -> Option<f64> {
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let pooled = (n_a * std(a).powi(2) + n_b * std(b).powi(2)) / (n_a + n_b - 2.0);
    let effect = (mean(b) - mean(a)) / pooled.sqrt();
    (pooled > 0.0 && effect.is_finite()).then_some(effect)
}

/// (mean_b - mean_a) / (std_a + std_b), the separation score of Giordani 2025 (arXiv:2507.03662).
/// `None` where both standard deviations are 0 but for rounding (below 1e-6 of the largest value).
pub fn separation_score(a: &[f64], b: &[f64]) -> Option<f64> {
    let spread = std(a) + std(b);
    let score = (mean(b) - mean(a)) / spread;
    // States of f32 that are the same but for rounding have no spread: at layer 0 the last token of every chat
    // is one embedding, and a score of 1e14 would be the rounding's.
    let rounding = 1e-6 * a.iter().chain(b).fold(0.0_f64, |largest, value| largest.max(value.abs()));
    (spread > rounding && score.is_finite()).then_some(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_hand_computation() {
        // Unbiased variances 1 and 4, pooled 2.5; means 2 and 5.
        let (a, b) = ([1.0, 2.0, 3.0], [3.0, 5.0, 7.0]);
        assert!((cohens_d(&a, &b).unwrap() - 3.0 / 2.5f64.sqrt()).abs() < 1e-12);
        let spread = (2.0f64 / 3.0).sqrt() + (8.0f64 / 3.0).sqrt();
        assert!((separation_score(&a, &b).unwrap() - 3.0 / spread).abs() < 1e-12);
        assert_eq!(separation_score(&b, &a).unwrap(), -separation_score(&a, &b).unwrap());
        assert_eq!(separation_score(&[1.0], &[2.0]), None);
        assert_eq!(cohens_d(&[1.0], &[2.0]), None);
    }
}
