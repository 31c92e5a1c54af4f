//! Percentile bootstrap intervals over examples (Efron 1979): the unit that is drawn again is the example.

use std::collections::{BTreeMap, BTreeSet};

use super::moments::quantile;
use super::random::Random;
use super::student::quantile_975;

/// Resamples where a pipeline says nothing else.
pub const RESAMPLES: usize = 2000;

/// The probability that an interval is meant to cover.
pub const COVERAGE: f64 = 0.95;

/// The 97.5 % quantile of the normal distribution.
const NORMAL_975: f64 = 1.959_963_984_540_054;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// The central interval of a statistic's resampled values. Values that are not finite (a ratio whose
    /// denominator vanished in a resample) are left out; `None` when nothing is left.
    pub fn of(mut values: Vec<f64>) -> Option<Interval> {
        values.retain(|value| value.is_finite());
        if values.is_empty() {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - COVERAGE) / 2.0;
        Some(Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
    }

    /// The interval of the mean of n values, each end as much further from the mean as Student's interval is wider than the
    /// normal one without the divisor n - 1: with 16 examples a percentile interval covers 0.92 at best. What Hesterberg
    /// (2015) does with the percentiles is done with the distances.
    pub fn widened(self, centre: f64, n: usize) -> Interval {
        if n < 2 {
            return self;
        }
        let wider = quantile_975(n - 1) / NORMAL_975 * (n as f64 / (n - 1) as f64).sqrt();
        let widen = |end: f64| centre + wider * (end - centre);
        Interval { low: widen(self.low), high: widen(self.high) }
    }
}

/// Indices of examples drawn with replacement, the same for every statistic of a task: so the intervals
/// of two layers, or of two models on one dataset, come from the same resamples.
pub struct Resamples {
    examples: usize,
    count: usize,
    seed: u64,
    stream: u64,
    /// Row-major; none where they are too many to be kept, and are drawn anew each time.
    draws: Option<Vec<u32>>,
}

/// Draws that are kept: 32 MB.
const KEPT: usize = 8 << 20;

impl Resamples {
    /// `count` resamples of `examples` out of `examples`. Groups that are resampled independently of one
    /// another take different streams.
    pub fn new(examples: usize, count: usize, seed: u64, stream: u64) -> Resamples {
        let mut resamples = Resamples { examples, count, seed, stream, draws: None };
        if examples * count <= KEPT {
            let mut draws = Vec::with_capacity(examples * count);
            resamples.each(|draw| draws.extend_from_slice(draw));
            resamples.draws = Some(draws);
        }
        resamples
    }

    /// Resamples for every number of examples that occurs: not every example has a state at every position.
    pub fn by_size(sizes: impl Iterator<Item = usize>, count: usize, seed: u64) -> BTreeMap<usize, Resamples> {
        let distinct: BTreeSet<usize> = sizes.collect();
        distinct.into_iter().map(|size| (size, Resamples::new(size, count, seed, 0))).collect()
    }

    /// Calls with the examples of each resample.
    pub fn each(&self, mut with: impl FnMut(&[u32])) {
        if self.examples == 0 {
            return;
        }
        if let Some(draws) = &self.draws {
            return draws.chunks_exact(self.examples).for_each(with);
        }
        let mut random = Random::new(self.seed, self.stream);
        let mut draw = vec![0; self.examples];
        for _ in 0..self.count {
            draw.iter_mut().for_each(|index| *index = random.below(self.examples) as u32);
            with(&draw);
        }
    }

    /// Calls with how often each example was drawn, row-major for so many resamples at a time.
    pub fn counts(&self, at_once: usize, mut with: impl FnMut(&[f64])) {
        let mut counts: Vec<f64> = Vec::with_capacity(at_once * self.examples);
        self.each(|draw| {
            let first = counts.len();
            counts.resize(first + self.examples, 0.0);
            draw.iter().for_each(|&index| counts[first + index as usize] += 1.0);
            if counts.len() >= at_once * self.examples {
                with(&counts);
                counts.clear();
            }
        });
        if !counts.is_empty() {
            with(&counts);
        }
    }

    /// The interval of the mean of one value per example.
    pub fn mean_interval(&self, values: &[f64]) -> Option<Interval> {
        assert_eq!(values.len(), self.examples, "one value per resampled example");
        self.interval(|draw| draw.iter().map(|&index| values[index as usize]).sum::<f64>() / draw.len() as f64)
    }

    /// The interval of the mean, [widened](Interval::widened).
    pub fn widened_mean_interval(&self, values: &[f64]) -> Option<Interval> {
        let centre = values.iter().sum::<f64>() / values.len() as f64;
        Some(self.mean_interval(values)?.widened(centre, values.len()))
    }

    /// The interval of any statistic of a resample, given as the indices of its examples.
    pub fn interval(&self, statistic: impl Fn(&[u32]) -> f64) -> Option<Interval> {
        let mut values = Vec::with_capacity(self.count);
        self.each(|draw| values.push(statistic(draw)));
        Interval::of(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::moments::mean;

    #[test]
    fn interval_matches_the_normal_theory() {
        let mut random = Random::new(5, 9);
        let values: Vec<f64> = (0..400).map(|_| 3.0 + 2.0 * random.normal()).collect();
        let interval = Resamples::new(400, RESAMPLES, 0, 0).mean_interval(&values).unwrap();
        let centre = mean(&values);
        let half = 1.96 * crate::statistics::moments::std(&values) / 20.0;
        assert!((interval.low - (centre - half)).abs() < 0.1 * half, "{interval:?} around {centre} +- {half}");
        assert!((interval.high - (centre + half)).abs() < 0.1 * half, "{interval:?} around {centre} +- {half}");
    }

    #[test]
    fn a_widened_interval_covers_with_few_examples() {
        let (mut plain, mut widened) = (0, 0);
        for stream in 0..600 {
            let mut random = Random::new(8, stream);
            let values: Vec<f64> = (0..16).map(|_| random.normal()).collect();
            let resamples = Resamples::new(16, 500, 1, stream);
            let covers = |interval: Interval| usize::from(interval.low <= 0.0 && 0.0 <= interval.high);
            plain += covers(resamples.mean_interval(&values).unwrap());
            widened += covers(resamples.widened_mean_interval(&values).unwrap());
        }
        assert!((555..=588).contains(&widened) && plain < widened, "{widened} of 600, plain {plain}");
        assert_eq!(Resamples::new(1, 9, 0, 0).widened_mean_interval(&[4.0]), Some(Interval { low: 4.0, high: 4.0 }));
    }

    #[test]
    fn one_example_gives_a_point_and_none_gives_nothing() {
        let one = Resamples::new(1, 100, 0, 0).mean_interval(&[4.0]);
        assert_eq!(one, Some(Interval { low: 4.0, high: 4.0 }));
        assert_eq!(Resamples::new(0, 100, 0, 0).mean_interval(&[]), None);
    }

    #[test]
    fn undefined_resamples_are_left_out() {
        let resamples = Resamples::new(2, 200, 1, 0);
        let ratio = |draw: &[u32]| 1.0 / (draw[0] as f64 - draw[1] as f64).abs();
        assert_eq!(resamples.interval(ratio), Some(Interval { low: 1.0, high: 1.0 }));
        assert_eq!(resamples.interval(|_| f64::NAN), None);
    }

    #[test]
    fn counts_add_up_to_the_draws() {
        let resamples = Resamples::new(7, 3, 2, 0);
        let (mut draws, mut counts) = (Vec::new(), Vec::new());
        resamples.each(|draw| draws.push(draw.to_vec()));
        resamples.counts(2, |some| counts.push(some.to_vec()));
        assert_eq!(counts.iter().map(Vec::len).collect::<Vec<_>>(), [14, 7]);
        for (draw, counts) in draws.iter().zip(counts.concat().chunks_exact(7)) {
            assert_eq!(counts.iter().sum::<f64>(), 7.0);
            assert_eq!(counts[3], draw.iter().filter(|&&index| index == 3).count() as f64);
        }
    }

    #[test]
    fn draws_that_are_not_kept_are_the_same() {
        let kept = Resamples::new(40, 30, 2, 1);
        let anew = Resamples { draws: None, ..Resamples::new(40, 30, 2, 1) };
        let all = |resamples: &Resamples| {
            let mut found = Vec::new();
            resamples.each(|draw| found.extend_from_slice(draw));
            found
        };
        assert!(kept.draws.is_some() && all(&kept).len() == 1200 && all(&kept) == all(&anew));
        assert!(Resamples::new(KEPT, 2, 0, 0).draws.is_none());
    }
}
