//! What [`Pairs`](super::pair_mean::Pairs) says of inner products, from the vectors, in time and memory that grow with the examples and not
//! with their pairs.

use super::pair_mean::{PairMean, Products};
use super::vector_products::{Centred, VectorProducts};

/// Vectors of two groups, whose inner products are the pairs' values. All pairs of different rows count.
pub struct VectorPairs<'a> {
    /// Row-major, the first group's rows first.
    pub vectors: &'a [f64],
    pub width: usize,
    /// Rows of the first group.
    pub first: usize,
    /// For each row of one group the row of the same example in the other.
    pub partner: &'a [Option<usize>],
    /// Whether pairs of one example count between groups.
    pub same_example: bool,
}

impl VectorPairs<'_> {
    fn rows(&self) -> usize {
        self.partner.len()
    }

    fn group(&self, second: bool) -> Centred<'_> {
        let (a, b) = self.vectors.split_at(self.first * self.width);
        Centred::new(if second { b } else { a }, self.width)
    }

    /// As [`Pairs::within`](super::pair_mean::Pairs::within).
    pub fn within(&self, second: bool) -> Option<PairMean> {
        let rows = if second { self.rows() - self.first } else { self.first };
        if rows < 2 {
            return None;
        }
        let group = self.group(second);
        let (own, all) = (group.squares(), VectorProducts::new(&group, &group));
        let pairs = rows * (rows - 1) / 2;
        let mean = (all.total() - own.iter().sum::<f64>()) / (2 * pairs) as f64;
        let others = rows as f64 - 1.0;
        let mut found = Products { by_example: [0.0, rows as f64 * others * others], ..Products::default() };
        for (sum, own) in all.sums().0.iter().zip(&own) {
            found.by_example[0] += (sum - own - others * mean).powi(2);
        }
        let squares = all.squares_with(&all.rows, &all.columns, all.level - mean);
        let of_own: f64 = own.iter().map(|own| (own - mean).powi(2)).sum();
        found.by_pair = [((squares - of_own) / 2.0).max(0.0), pairs as f64];
        Some(PairMean { pairs, mean, interval: found.interval(mean, pairs, rows - 1) })
    }

    /// As [`Pairs::between`](super::pair_mean::Pairs::between).
    pub fn between(&self) -> Option<PairMean> {
        let (first, second) = (self.first, self.rows() - self.first);
        // Rows of the first and of the second group that are one example.
        let paired: Vec<(usize, usize)> = (0..first).filter_map(|i| Some((i, self.partner[i]? - first))).collect();
        let pairs = first * second - if self.same_example { 0 } else { paired.len() };
        if pairs == 0 {
            return None;
        }
        let (a, b) = (self.group(false), self.group(true));
        let all = VectorProducts::new(&a, &b);
        let of_paired: Vec<f64> = paired.iter().map(|&(i, j)| all.at(i, j)).collect();
        let left_out = if self.same_example { 0.0 } else { of_paired.iter().sum::<f64>() };
        let mean = (all.total() - left_out) / pairs as f64;

        // The sum of the deviations of each row, and how many there are. The pair of an example with itself is one pair with it, at
        // its row of the first group, where it counts at all.
        let deviations = |sums: Vec<f64>, others: usize| -> Vec<[f64; 2]> {
            sums.iter().map(|sum| [sum - others as f64 * mean, others as f64]).collect()
        };
        let (of_rows, of_columns) = all.sums();
        let (mut of_a, mut of_b) = (deviations(of_rows, second), deviations(of_columns, first));
        let mut found = Products::default();
        for (&(i, j), value) in paired.iter().zip(&of_paired) {
            for (kind, pair) in [value - mean, 1.0].into_iter().enumerate() {
                of_b[j][kind] -= pair;
                of_a[i][kind] -= if self.same_example { 0.0 } else { pair };
            }
            found.same_example += if self.same_example { (value - mean).powi(2) } else { 0.0 };
        }
        let apart = all.level - mean;
        let same: f64 = of_paired.iter().map(|value| (value - mean).powi(2)).sum();
        let count = paired.len() as f64;
        let squares = all.squares_with(&all.rows, &all.columns, apart) - same;
        found.by_pair = [squares.max(0.0), (first * second) as f64 - count];
        if !paired.is_empty() {
            // A pair of two examples occurs twice where both are in both groups.
            found.by_pair[0] += all.crossed(&paired, &all.rows, &all.columns, apart) - same;
            found.by_pair[1] += count * (count - 1.0);
        }
        let alone = of_b.iter().enumerate().filter(|(j, _)| self.partner[first + j].is_none());
        let own = of_a.iter().enumerate().map(|(i, own)| match self.partner[i] {
            Some(partner) => [0, 1].map(|kind| own[kind] + of_b[partner - first][kind]),
            None => *own,
        });
        for sums in own.chain(alone.map(|(_, own)| *own)) {
            (0..2).for_each(|kind| found.by_example[kind] += sums[kind] * sums[kind]);
        }
        let examples = self.rows() - paired.len();
        let groups = if paired.is_empty() { 2 } else { 1 };
        Some(PairMean { pairs, mean, interval: found.interval(mean, pairs, examples.saturating_sub(groups)) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pair_mean::Pairs;
    use super::*;
    use crate::linear_algebra::{gram, scale_to_unit};
    use crate::statistics::random::Random;

    #[test]
    fn sums_over_examples_are_those_over_pairs() {
        const WIDTH: usize = 5;
        for (seed, shift) in [(1, 0.0), (2, 0.4), (3, 20.0)] {
            let mut random = Random::new(seed, 0);
            let mut vectors: Vec<f64> = (0..17 * WIDTH).map(|_| shift + random.normal()).collect();
            for row in vectors.chunks_exact_mut(WIDTH) {
                scale_to_unit(row);
            }
            let values = gram(&vectors, WIDTH);
            let mut shared = [None; 17];
            for (a, b) in [(1, 9), (3, 8), (6, 16)] {
                (shared[a], shared[b]) = (Some(b), Some(a));
            }
            for (partner, same_example) in [([None; 17], false), (shared, false), (shared, true)] {
                let pairs = Pairs { values: &values, counted: None, first: 8, partner: &partner, same_example };
                let of = VectorPairs { vectors: &vectors, width: WIDTH, first: 8, partner: &partner, same_example };
                let both = [
                    (pairs.within(false), of.within(false)),
                    (pairs.within(true), of.within(true)),
                    (pairs.between(), of.between()),
                ];
                for (expected, found) in both {
                    let (expected, found) = (expected.unwrap(), found.unwrap());
                    assert_eq!(found.pairs, expected.pairs);
                    assert!((found.mean - expected.mean).abs() < 1e-13, "{found:?} for {expected:?}");
                    let (low, high) = (expected.interval.unwrap().low, expected.interval.unwrap().high);
                    let (found_low, found_high) = (found.interval.unwrap().low, found.interval.unwrap().high);
                    let close = |a: f64, b: f64| (a - b).abs() < 1e-9 * (high - low);
                    assert!(
                        close(found_low, low) && close(found_high, high),
                        "{found:?} for {expected:?}, shift {shift}"
                    );
                }
            }
        }
    }

    #[test]
    fn too_few_rows_have_no_pair() {
        let of =
            VectorPairs { vectors: &[1.0, 1.0], width: 1, first: 1, partner: &[Some(1), Some(0)], same_example: false };
        assert!(of.within(false).is_none() && of.between().is_none());
    }
}
