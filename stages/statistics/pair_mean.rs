//! The mean of a number that each pair of examples has, within a group or between two, and its interval.
//!
//! Such a mean is a U-statistic (Hoeffding 1948): pairs that share an example are dependent. Its variance is estimated from
//! the products of pairs, without resampling: V = E m² - θ², where θ² has the mean product of pairs that share no example as
//! its unbiased estimate. With h the deviations from the mean, R_e their sum over the pairs with example e, and P_ef their sum over the
//! pairs of e and f, that is V = (Σ_e R_e² - Σ_e<f P_ef²) / (number of ordered couples of pairs that share nothing).

use super::bootstrap::Interval;
use super::student;

/// Numbers of pairs of the rows of two groups, the first group's rows first.
pub struct Pairs<'a> {
    /// Symmetric, row-major [rows, rows]; 0 for pairs that do not count.
    pub values: &'a [f64],
    /// 1 for pairs that count and 0 for others, of the same shape; where there is none, all count.
    pub counted: Option<&'a [f64]>,
    /// Rows of the first group.
    pub first: usize,
    /// For each row of one group the row of the same example in the other.
    pub partner: &'a [Option<usize>],
    /// Whether pairs of one example count between groups.
    pub same_example: bool,
}

/// A mean over pairs; the sums behind it are over unordered pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairMean {
    pub pairs: usize,
    pub mean: f64,
    /// 95 %; `None` where there are too few examples for two pairs that share none.
    pub interval: Option<Interval>,
}

/// Sums of products of deviations, and of ones in their place.
#[derive(Default)]
pub(super) struct Products {
    /// Over couples of pairs that share an example, those that share both counted twice.
    pub by_example: [f64; 2],
    /// Over couples of pairs that have the same two examples.
    pub by_pair: [f64; 2],
    /// Squares of deviations of pairs of one example.
    pub same_example: f64,
}

impl Pairs<'_> {
    fn rows(&self) -> usize {
        self.partner.len()
    }

    fn counts(&self, i: usize, j: usize) -> bool {
        let left_out = i == j || !self.same_example && self.partner[i] == Some(j);
        !left_out && self.counted.is_none_or(|counted| counted[i * self.rows() + j] > 0.0)
    }

    /// Calls with each pair that counts of rows of `a` and `b`, and its value.
    fn each(
        &self,
        a: std::ops::Range<usize>,
        b: impl Fn(usize) -> std::ops::Range<usize>,
        mut with: impl FnMut(usize, usize, f64),
    ) {
        for i in a {
            for j in b(i) {
                if self.counts(i, j) {
                    with(i, j, self.values[i * self.rows() + j]);
                }
            }
        }
    }

    /// The mean over pairs of a row of the first group and one of the second.
    pub fn between(&self) -> Option<PairMean> {
        let (first, rows) = (self.first, self.rows());
        let (mut sum, mut pairs) = (0.0, 0usize);
        self.each(
            0..first,
            |_| first..rows,
            |_, _, value| {
                sum += value;
                pairs += 1;
            },
        );
        if pairs == 0 {
            return None;
        }
        let mean = sum / pairs as f64;
        let deviation = |i: usize, j: usize| match self.counts(i, j) {
            true => [self.values[i * rows + j] - mean, 1.0],
            false => [0.0; 2],
        };
        let mut sums = vec![[0.0; 2]; rows];
        let mut products = Products::default();
        for i in 0..first {
            for j in first..rows {
                let pair = deviation(i, j);
                let same = self.partner[i] == Some(j);
                for kind in 0..2 {
                    sums[i][kind] += pair[kind];
                    sums[j][kind] += pair[kind];
                    if same && kind == 0 {
                        products.same_example += pair[kind] * pair[kind];
                    }
                    if same {
                        // The pair of an example with itself is one pair with it, not two.
                        sums[j][kind] -= pair[kind];
                    } else {
                        products.by_pair[kind] += pair[kind] * pair[kind];
                    }
                }
            }
        }
        // A pair of two examples occurs twice where both are in both groups: i of the first with the partner of k, k with i's.
        let paired: Vec<(usize, usize)> = (0..first).filter_map(|i| Some((i, self.partner[i]?))).collect();
        for (at, &(i, of_i)) in paired.iter().enumerate() {
            for &(k, of_k) in &paired[at + 1..] {
                let (one, other) = (deviation(i, of_k), deviation(k, of_i));
                (0..2).for_each(|kind| products.by_pair[kind] += 2.0 * one[kind] * other[kind]);
            }
        }
        for (i, partner) in self.partner.iter().enumerate() {
            // An example in both groups counts once, at its row of the first.
            let other = match partner {
                Some(_) if i >= first => continue,
                Some(partner) => sums[*partner],
                None => [0.0; 2],
            };
            for (kind, total) in products.by_example.iter_mut().enumerate() {
                let sum: f64 = sums[i][kind] + other[kind];
                *total += sum * sum;
            }
        }
        let examples = rows - paired.len();
        let groups = if paired.is_empty() { 2 } else { 1 };
        Some(PairMean { pairs, mean, interval: products.interval(mean, pairs, examples.saturating_sub(groups)) })
    }

    /// The mean over pairs of different rows of the first group (`false`) or of the second.
    pub fn within(&self, second: bool) -> Option<PairMean> {
        let range = if second { self.first..self.rows() } else { 0..self.first };
        let after = |i: usize| i + 1..range.end;
        let (mut sum, mut pairs) = (0.0, 0usize);
        self.each(range.clone(), after, |_, _, value| {
            sum += value;
            pairs += 1;
        });
        if pairs == 0 {
            return None;
        }
        let mean = sum / pairs as f64;
        let mut sums = vec![[0.0; 2]; self.rows()];
        let mut products = Products::default();
        self.each(range.clone(), after, |i, j, value| {
            for (kind, value) in [value - mean, 1.0].into_iter().enumerate() {
                sums[i][kind] += value;
                sums[j][kind] += value;
                products.by_pair[kind] += value * value;
            }
        });
        sums.iter().for_each(|sum| (0..2).for_each(|kind| products.by_example[kind] += sum[kind] * sum[kind]));
        Some(PairMean { pairs, mean, interval: products.interval(mean, pairs, range.len() - 1) })
    }
}

impl Products {
    /// Mean ± t √V. V is at least what it is where pairs that share one example are uncorrelated, since its estimate may
    /// come out below 0.
    pub fn interval(&self, mean: f64, pairs: usize, degrees: usize) -> Option<Interval> {
        let pairs = pairs as f64;
        let apart = pairs * pairs - self.by_example[1] + self.by_pair[1];
        if apart < 0.5 {
            return None;
        }
        let variance = ((self.by_example[0] - self.by_pair[0]) / apart)
            .max((self.by_pair[0] + self.same_example) / (pairs * pairs));
        let half = student::quantile_975(degrees) * variance.max(0.0).sqrt();
        Some(Interval { low: mean - half, high: mean + half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear_algebra::{gram, scale_to_unit};
    use crate::statistics::random::Random;

    /// The interval's half length from the couples of pairs one by one.
    fn half(pairs: &[(usize, usize, f64)], degrees: usize) -> f64 {
        let mean = pairs.iter().map(|pair| pair.2).sum::<f64>() / pairs.len() as f64;
        let (mut apart, mut product, mut alike) = (0.0, 0.0, 0.0);
        for a in pairs {
            for b in pairs {
                let shared = [b.0, b.1].iter().any(|example| *example == a.0 || *example == a.1);
                let both = (a.0.min(a.1), a.0.max(a.1)) == (b.0.min(b.1), b.0.max(b.1));
                let of_deviations = (a.2 - mean) * (b.2 - mean);
                if !shared {
                    apart += 1.0;
                    product += of_deviations;
                }
                alike += if both { of_deviations } else { 0.0 };
            }
        }
        let variance = (-product / apart).max(alike / (pairs.len() * pairs.len()) as f64);
        student::quantile_975(degrees) * variance.sqrt()
    }

    fn unit_vectors(rows: usize, width: usize, shift: f64, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed, 0);
        let mut values: Vec<f64> = (0..rows * width).map(|_| shift + random.normal()).collect();
        values.chunks_exact_mut(width).for_each(|row| {
            scale_to_unit(row);
        });
        values
    }

    #[test]
    fn variances_are_those_of_all_couples_of_pairs() {
        let values = gram(&unit_vectors(11, 5, 0.4, 1), 5);
        let at = |i: usize, j: usize| values[i * 11 + j];
        // Rows 0..5 and 5..11; 1 and 6, 3 and 9 are one example each.
        let mut partner = [None; 11];
        for (a, b) in [(1, 6), (3, 9)] {
            (partner[a], partner[b]) = (Some(b), Some(a));
        }
        let example = |row: usize| {
            if row == 6 {
                1
            } else if row == 9 {
                3
            } else {
                row
            }
        };
        let mut counted = vec![1.0; 121];
        (counted[2 * 11 + 7], counted[7 * 11 + 2], counted[2 * 11 + 4], counted[4 * 11 + 2]) = (0.0, 0.0, 0.0, 0.0);
        let near = |found: &PairMean, pairs: Vec<(usize, usize, f64)>, degrees: usize| {
            let mean = pairs.iter().map(|pair| pair.2).sum::<f64>() / pairs.len() as f64;
            assert_eq!(found.pairs, pairs.len());
            assert!((found.mean - mean).abs() < 1e-12);
            let interval = found.interval.unwrap();
            assert!(((interval.high - interval.low) / 2.0 / half(&pairs, degrees) - 1.0).abs() < 1e-9, "{found:?}");
        };
        for mask in [None, Some(counted.as_slice())] {
            let known = |i: usize, j: usize| mask.is_none_or(|mask| mask[i * 11 + j] > 0.0);
            for same_example in [false, true] {
                let pairs = Pairs { values: &values, counted: mask, first: 5, partner: &partner, same_example };
                let all = (0..5).flat_map(|i| (5..11).map(move |j| (i, j)));
                let all = all.filter(|&(i, j)| known(i, j) && (same_example || example(i) != example(j)));
                let all = all.map(|(i, j)| (example(i), example(j), at(i, j))).collect();
                near(&pairs.between().unwrap(), all, 8);
                let own = (0..5).flat_map(|i| (i + 1..5).map(move |j| (i, j))).filter(|&(i, j)| known(i, j));
                near(&pairs.within(false).unwrap(), own.map(|(i, j)| (i, j, at(i, j))).collect(), 4);
            }
        }
    }

    #[test]
    fn too_few_examples_have_no_interval() {
        let none = [None; 3];
        let pairs = Pairs { values: &[1.0; 9], counted: None, first: 1, partner: &none, same_example: false };
        assert_eq!(pairs.within(false), None);
        assert_eq!(pairs.between().unwrap(), PairMean { pairs: 2, mean: 1.0, interval: None });
    }

    /// Groups around a centre: 95 % intervals cover the mean cosine of the distribution.
    #[test]
    fn intervals_cover() {
        const N: usize = 16;
        let width = 24;
        let population = unit_vectors(40_000, width, 0.3, 99);
        let mut centre = vec![0.0; width];
        population.chunks_exact(width).for_each(|row| centre.iter_mut().zip(row).for_each(|(c, x)| *c += x / 40_000.0));
        let truth: f64 = centre.iter().map(|c| c * c).sum();
        let mut covered = [0; 2];
        let none = [None; 2 * N];
        for seed in 0..400 {
            let values = gram(&unit_vectors(2 * N, width, 0.3, 1000 + seed), width);
            let pairs = Pairs { values: &values, counted: None, first: N, partner: &none, same_example: false };
            for (covered, found) in covered.iter_mut().zip([pairs.within(false), pairs.between()]) {
                let interval = found.unwrap().interval.unwrap();
                *covered += usize::from(interval.low <= truth && truth <= interval.high);
            }
        }
        assert!(covered.iter().all(|covered| (366..=392).contains(covered)), "{covered:?} of 400");
    }
}
