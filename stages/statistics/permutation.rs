//! Permutation tests (Fisher 1935): the labels are shuffled and the statistic is computed again.

use super::random::Random;

/// Permutations where a pipeline says nothing else.
pub const PERMUTATIONS: usize = 2000;

/// The two-sided p-value of `observed` among the values that permuted labels give:
/// (1 + #{|null - centre| >= |observed - centre|}) / (1 + permutations), so never 0.
pub fn p_value(observed: f64, null: &[f64], centre: f64) -> f64 {
    // A permutation that restores the labels gives the observed value up to rounding, and must count.
    let distance = (observed - centre).abs() * (1.0 - 1e-12);
    let as_far = null.iter().filter(|value| (*value - centre).abs() >= distance).count();
    (1 + as_far) as f64 / (1 + null.len()) as f64
}

/// Random signs, one per pair and permutation: labels exchanged within pairs.
pub struct PairFlips {
    pairs: usize,
    /// 1 and -1, in a byte each.
    signs: Vec<i8>,
}

impl PairFlips {
    pub fn new(pairs: usize, permutations: usize, seed: u64, stream: u64) -> PairFlips {
        let mut random = Random::new(seed, stream);
        let signs = (0..pairs * permutations).map(|_| if random.coin() { 1 } else { -1 }).collect();
        PairFlips { pairs, signs }
    }

    /// Row-major [permutations, pairs].
    pub fn signs(&self) -> &[i8] {
        &self.signs
    }

    /// The p-value of the mean of paired differences under the hypothesis that the labels of each pair
    /// could as well be exchanged. 1 where every difference is 0.
    pub fn p_value(&self, differences: &[f64]) -> f64 {
        assert_eq!(differences.len(), self.pairs, "one difference per pair");
        let null: Vec<f64> = self
            .signs
            .chunks_exact(self.pairs.max(1))
            .map(|signs| signs.iter().zip(differences).map(|(sign, value)| f64::from(*sign) * value).sum())
            .collect();
        p_value(differences.iter().sum(), &null, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_value_counts_both_tails_and_itself() {
        assert_eq!(p_value(2.0, &[0.0, -2.0, 1.0, 3.0], 0.0), 3.0 / 5.0);
        assert_eq!(p_value(9.0, &[0.0; 99], 0.0), 0.01);
    }

    #[test]
    fn flips_of_four_pairs_approach_the_exact_test() {
        // Of the 16 sign patterns of [1, 1, 1, 1] two are as far from 0 as the observed sum: p = 0.125.
        let p = PairFlips::new(4, 20_000, 3, 0).p_value(&[1.0; 4]);
        assert!((p - 0.125).abs() < 0.01, "{p}");
        assert_eq!(PairFlips::new(4, 100, 3, 0).p_value(&[0.0; 4]), 1.0);
    }

    #[test]
    fn a_difference_far_beyond_chance_has_the_least_p() {
        let p = PairFlips::new(40, 999, 3, 0).p_value(&[2.0; 40]);
        assert_eq!(p, 0.001);
    }
}
