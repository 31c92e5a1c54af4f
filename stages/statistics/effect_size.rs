//! Standardised differences of two groups.

use super::bootstrap::Interval;
use super::moments::{mean, std};
use super::student::quantile_975;

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
    (spread > rounding(a, b) && score.is_finite()).then_some(score)
}

/// The sum of two standard deviations below which they are rounding: 1e-6 of the largest value. States of f32 that are the
/// same but for rounding have no spread: at layer 0 the last token of every chat is one embedding, and a score of 1e14
/// would be the rounding's.
pub fn rounding(a: &[f64], b: &[f64]) -> f64 {
    1e-6 * a.iter().chain(b).fold(0.0_f64, |largest, value| largest.max(value.abs()))
}

/// The 95 % interval of the separation score of paired values, of which the examples have `each`, adjacent: the score and Student's quantile times its jackknife standard
/// error, from the scores without each of the examples in turn (Tukey 1958). A percentile bootstrap covers 80 % at n = 16 and
/// a score of 2, because resamples repeat examples and so spread less. `None` below three examples, and where a score is.
pub fn separation_interval(a: &[f64], b: &[f64], each: usize) -> Option<Interval> {
    let (score, n) = (separation_score(a, b)?, a.len() / each);
    if n < 3 {
        return None;
    }
    let centre = mean(a);
    let sums = |values: &[f64]| {
        let from_centre = values.iter().map(|value| value - centre);
        from_centre.fold((0.0, 0.0), |(sum, square), x| (sum + x, square + x * x))
    };
    let (sums_a, sums_b, rest) = (sums(a), sums(b), (n - 1) as f64);
    let values = rest * each as f64;
    let without = |(sum, square): (f64, f64), example: &[f64]| {
        let (of_example, square_of_example) = sums(example);
        let mean = (sum - of_example) / values;
        (mean, ((square - square_of_example) / values - mean * mean).max(0.0).sqrt())
    };
    let limit = rounding(a, b);
    let scores = a.chunks_exact(each).zip(b.chunks_exact(each)).map(|(of_a, of_b)| {
        let ((mean_a, std_a), (mean_b, std_b)) = (without(sums_a, of_a), without(sums_b, of_b));
        (std_a + std_b > limit).then_some((mean_b - mean_a) / (std_a + std_b))
    });
    let scores: Vec<f64> = scores.collect::<Option<_>>()?;
    // (n - 1) / n times the sum of squares about the mean.
    let error = rest.sqrt() * std(&scores);
    let half = quantile_975(n - 1) * error;
    Some(Interval { low: score - half, high: score + half })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn the_interval_is_the_jackknifes() {
        let (a, b) = ([1.0, 2.5, 3.0, -1.0], [3.0, 5.0, 7.5, 2.0]);
        let without = |values: &[f64; 4], i: usize| {
            values.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let scores: Vec<f64> = (0..4).map(|i| separation_score(&without(&a, i), &without(&b, i)).unwrap()).collect();
        let centre = mean(&scores);
        let error = (3.0 / 4.0 * scores.iter().map(|score| (score - centre).powi(2)).sum::<f64>()).sqrt();
        let found = separation_interval(&a, &b, 1).unwrap();
        // qt(0.975, 3) in R.
        assert!((found.high - separation_score(&a, &b).unwrap() - 3.182446305 * error).abs() < 1e-8);
        assert!((found.high + found.low - 2.0 * separation_score(&a, &b).unwrap()).abs() < 1e-12);
        assert_eq!(separation_interval(&a[..2], &b[..2], 1), None);
    }

    #[test]
    fn an_interval_of_tokens_leaves_out_whole_examples() {
        let (a, b) = ([1.0, 2.5, 3.0, -1.0, 0.5, 2.0], [3.0, 5.0, 7.5, 2.0, 4.0, 1.0]);
        let without = |values: &[f64; 6], example: usize| {
            values.iter().enumerate().filter(|(i, _)| i / 2 != example).map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let scores: Vec<f64> = (0..3).map(|i| separation_score(&without(&a, i), &without(&b, i)).unwrap()).collect();
        let centre = mean(&scores);
        let error = (2.0 / 3.0 * scores.iter().map(|score| (score - centre).powi(2)).sum::<f64>()).sqrt();
        // qt(0.975, 2) in R.
        let found = separation_interval(&a, &b, 2).unwrap();
        assert!((found.high - separation_score(&a, &b).unwrap() - 4.302652730 * error).abs() < 1e-8);
        assert_eq!(separation_interval(&a[..4], &b[..4], 2), None);
    }

    #[test]
    fn the_interval_covers() {
        let mut random = Random::new(2, 0);
        for (n, shift) in [(16, 0.0), (16, 4.0), (64, 1.0)] {
            let covered = (0..1000).filter(|_| {
                let text: Vec<f64> = (0..n).map(|_| random.normal()).collect();
                let mut model = |shift: f64| -> Vec<f64> {
                    text.iter().map(|text| shift + 0.8 * text + 0.6 * random.normal()).collect()
                };
                let (a, b) = (model(0.0), model(shift));
                let interval = separation_interval(&a, &b, 1).unwrap();
                interval.low <= shift / 2.0 && shift / 2.0 <= interval.high
            });
            let share = covered.count() as f64 / 1000.0;
            assert!((0.92..=0.97).contains(&share), "{n} {shift}: {share}");
        }
    }

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
