//! Several tests at once from the same permutations: the largest of their statistics is held against the largest under
//! permuted labels (Westfall and Young 1993, single step). What the tests have in common, as the layers of one network
//! have, costs nothing here, where Holm's correction pays for every test.

/// About what statistics are as far out as they are large.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Centre {
    /// 0, for a statistic that is symmetric about it under the null hypothesis.
    Zero,
    /// The mean of the null.
    Mean,
}

/// The null of the largest of m statistics. Each is divided by the standard deviation (divisor: the number of values) that
/// it has under the null, so that a test of large values does not drown the others. The observed value counts as one of the
/// null's, which keeps the level exact.
pub struct MaxStatistic {
    centres: Vec<f64>,
    scales: Vec<f64>,
    /// The largest distance of each permutation, in units of the scales, descending.
    largest: Vec<f64>,
}

impl MaxStatistic {
    /// From m observed statistics and their null values, row-major [permutations, m], each row from one permutation. A
    /// statistic that is not finite, or the same under all permutations, is no test and takes no part.
    pub fn new(observed: &[f64], null: &[f64], centre: Centre) -> MaxStatistic {
        let tests = observed.len();
        let rows = || null.chunks_exact(tests.max(1)).chain([observed]);
        let count = rows().count() as f64;
        let mut centres = vec![0.0; tests];
        if centre == Centre::Mean {
            rows().for_each(|row| centres.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
            centres.iter_mut().for_each(|sum| *sum /= count);
        }
        let mut scales = vec![0.0; tests];
        for row in rows() {
            scales.iter_mut().zip(row).zip(&centres).for_each(|((sum, value), c)| *sum += (value - c).powi(2));
        }
        scales.iter_mut().for_each(|sum| *sum = (*sum / count).sqrt());
        let mut found = MaxStatistic { centres, scales, largest: Vec::new() };
        let largest = |row: &[f64]| (0..tests).filter_map(|test| found.distance(test, row[test])).fold(0.0, f64::max);
        let mut all: Vec<f64> = null.chunks_exact(tests.max(1)).map(largest).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        found.largest = all;
        found
    }

    /// How far a value of one of the tests lies from the centre of its null, in standard deviations of that.
    fn distance(&self, test: usize, value: f64) -> Option<f64> {
        let scale = self.scales[test];
        (scale.is_finite() && scale > 1e-12 * self.centres[test].abs())
            .then(|| (value - self.centres[test]).abs() / scale)
    }

    /// The two-sided p-value of one of the tests, adjusted for all of them: (1 + how many permutations have a largest
    /// distance of at least this one's) / (1 + permutations). `None` for what is no test.
    pub fn p_value(&self, test: usize, observed: f64) -> Option<f64> {
        // A permutation that restores the labels gives the observed value up to rounding, and must count.
        let distance = self.distance(test, observed)? * (1.0 - 1e-12);
        let as_far = self.largest.partition_point(|largest| *largest >= distance);
        Some((1 + as_far) as f64 / (1 + self.largest.len()) as f64)
    }

    /// How far from its centre, in its own units, a test's statistic must lie for an adjusted p-value of at most `level`;
    /// infinite where there are too few permutations for any. `None` for what is no test.
    pub fn critical(&self, test: usize, level: f64) -> Option<f64> {
        self.distance(test, 0.0)?;
        let beyond = (level * (1 + self.largest.len()) as f64 * (1.0 + 1e-12)).floor() as usize;
        let distance = beyond.checked_sub(1).and_then(|rank| self.largest.get(rank)).copied();
        Some(self.scales[test] * distance.unwrap_or(f64::INFINITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn the_largest_of_each_permutation_is_counted() {
        // Both tests have centre 0; scales are those of the columns with the observed value.
        let observed = [3.0, 0.0];
        let null = [1.0, -10.0, -3.0, 10.0, 2.0, 0.0, -2.0, 0.0];
        let found = MaxStatistic::new(&observed, &null, Centre::Zero);
        let scales = [(27.0f64 / 5.0).sqrt(), (200.0f64 / 5.0).sqrt()];
        let largest = |a: f64, b: f64| (a / scales[0]).max(b / scales[1]);
        let all = [largest(1.0, 10.0), largest(3.0, 10.0), largest(2.0, 0.0), largest(2.0, 0.0)];
        let as_far = all.iter().filter(|z| **z >= 3.0 / scales[0]).count();
        assert_eq!(found.p_value(0, 3.0), Some((1 + as_far) as f64 / 5.0));
        assert_eq!(found.p_value(1, 0.0), Some(1.0));
    }

    #[test]
    fn a_p_value_reaches_a_level_where_the_statistic_is_beyond_the_critical_value() {
        let mut random = Random::new(4, 0);
        let null: Vec<f64> = (0..3 * 199).map(|i| 5.0 + (1 + i % 3) as f64 * random.normal()).collect();
        let found = MaxStatistic::new(&[5.0; 3], &null, Centre::Mean);
        for test in 0..3 {
            let critical = found.critical(test, 0.05).unwrap();
            let p = |distance: f64| found.p_value(test, found.centres[test] - distance).unwrap();
            assert!(p(critical * 1.0001) <= 0.05 && p(critical * 0.9999) > 0.05);
            assert!(critical / found.scales[test] > 2.1, "wider than the 1.96 of a single test");
        }
    }

    #[test]
    fn what_is_no_test_takes_no_part() {
        let null = [1.0, 7.0, f64::NAN, -1.0, 7.0, f64::NAN, 1.0, 7.0, f64::NAN];
        let found = MaxStatistic::new(&[1.0, 7.0, f64::NAN], &null, Centre::Mean);
        assert_eq!([0, 1, 2].map(|test| found.p_value(test, 7.0).is_some()), [true, false, false]);
        assert_eq!(found.critical(0, 0.05), Some(f64::INFINITY), "three permutations reach no 0.05");
        assert!(MaxStatistic::new(&[], &[], Centre::Zero).largest.is_empty());
    }

    /// With 20 independent tests under the null, the least adjusted p-value is uniform; the least plain one is not.
    #[test]
    fn the_level_is_that_of_the_whole_family() {
        let (tests, permutations, families) = (20, 99, 600);
        let mut random = Random::new(9, 0);
        let mut rejected = 0;
        for _ in 0..families {
            let observed: Vec<f64> = (0..tests).map(|_| random.normal()).collect();
            let null: Vec<f64> = (0..tests * permutations).map(|_| random.normal()).collect();
            let found = MaxStatistic::new(&observed, &null, Centre::Mean);
            rejected += usize::from((0..tests).any(|test| found.p_value(test, observed[test]).unwrap() <= 0.05));
        }
        let share = rejected as f64 / families as f64;
        assert!((0.03..=0.07).contains(&share), "{share}");
    }
}
