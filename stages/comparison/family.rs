//! Tests of the rows of a table, corrected over those that belong together: Holm over the pairs at one place, and the largest
//! statistic over the layers of one pair.

use std::collections::BTreeMap;

use crate::statistics::holm::holm;
use crate::statistics::max_statistic::{Centre, MaxStatistic};
use crate::statistics::moments::{mean, std};
use crate::statistics::permutation::p_value;

/// A statistic, and what it is under each permutation of the labels.
pub struct Tested {
    pub observed: f64,
    pub null: Vec<f64>,
}

/// What permuted labels give, the observed labels among them.
#[derive(Debug, Clone, Copy)]
pub struct Null {
    pub mean: f64,
    pub std: f64,
    /// `None` where all labels give the same.
    pub effect_size: Option<f64>,
    p_value: f64,
}

pub struct Family {
    nulls: Vec<Option<Null>>,
    holm: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
}

impl Family {
    /// From one test for each row. Rows of one `place` are corrected by Holm, rows of one `curve` by their largest statistic.
    pub fn new<'a, P: Ord, C: Ord>(
        tests: impl Iterator<Item = Option<&'a Tested>>,
        place: impl Fn(usize) -> P,
        curve: impl Fn(usize) -> C,
    ) -> Family {
        let tests: Vec<Option<&Tested>> = tests.collect();
        let nulls: Vec<Option<Null>> = tests.iter().map(|test| test.and_then(Null::of)).collect();
        let mut family = Family { holm: vec![None; nulls.len()], max: vec![None; nulls.len()], nulls };
        let (mut places, mut curves) = (BTreeMap::<P, Vec<usize>>::new(), BTreeMap::<C, Vec<usize>>::new());
        for row in (0..tests.len()).filter(|&row| family.nulls[row].is_some()) {
            places.entry(place(row)).or_default().push(row);
            curves.entry(curve(row)).or_default().push(row);
        }
        for rows in places.values() {
            let p_values: Vec<f64> = rows.iter().filter_map(|&row| family.p_value(row)).collect();
            rows.iter().zip(holm(&p_values)).for_each(|(&row, p)| family.holm[row] = Some(p));
        }
        for rows in curves.values().filter(|rows| rows.len() > 1) {
            let tests: Vec<&Tested> = rows.iter().filter_map(|&row| tests[row]).collect();
            let observed: Vec<f64> = tests.iter().map(|test| test.observed).collect();
            let permutations = 0..tests[0].null.len();
            let null: Vec<f64> =
                permutations.flat_map(|permutation| tests.iter().map(move |test| test.null[permutation])).collect();
            let largest = MaxStatistic::new(&observed, &null, Centre::Mean);
            for (test, (&row, observed)) in rows.iter().zip(observed).enumerate() {
                family.max[row] = Some(largest.p_value(test, observed).unwrap_or(1.0));
            }
        }
        family
    }

    pub fn null(&self, row: usize) -> Option<Null> {
        self.nulls[row]
    }

    pub fn p_value(&self, row: usize) -> Option<f64> {
        self.nulls[row].map(|null| null.p_value)
    }

    pub fn p_holm(&self, row: usize) -> Option<f64> {
        self.holm[row]
    }

    /// `None` where the row's curve is one place.
    pub fn p_max(&self, row: usize) -> Option<f64> {
        self.max[row]
    }
}

impl Null {
    /// `None` where a statistic is not a number, as a mean over no pair is not.
    fn of(test: &Tested) -> Option<Null> {
        let all: Vec<f64> = test.null.iter().copied().chain([test.observed]).collect();
        if test.null.is_empty() || all.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let (mean, std) = (mean(&all), std(&all));
        let varies = std > 1e-12 * mean.abs().max(1e-3);
        Some(Null {
            mean,
            std,
            effect_size: varies.then(|| (test.observed - mean) / std),
            p_value: if varies { p_value(test.observed, &test.null, mean) } else { 1.0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn corrections_are_over_what_belongs_together() {
        // Rows 0 and 1 are two pairs at one place, 2 and 3 the same pairs at another; 4 has no test.
        let mut random = Random::new(3, 0);
        let nulls: Vec<Vec<f64>> = (0..4).map(|_| (0..999).map(|_| random.normal()).collect()).collect();
        let observed = [5.0, 2.2, 2.2, 0.0];
        let tests: Vec<Tested> =
            observed.into_iter().zip(nulls).map(|(observed, null)| Tested { observed, null }).collect();
        let all = tests.iter().map(Some).chain([None]);
        let family = Family::new(all, |row| row / 2, |row| row % 2);
        assert_eq!((family.p_value(0), family.p_holm(0), family.p_max(0)), (Some(0.001), Some(0.002), Some(0.001)));
        let p = family.p_value(2).unwrap();
        assert!((0.01..0.05).contains(&p));
        assert_eq!(family.p_holm(2), Some(2.0 * p));
        let largest = family.p_max(2).unwrap();
        assert!(largest > 1.5 * p && largest < 2.5 * p, "{largest} of {p}");
        assert!(family.p_value(4).is_none() && family.p_holm(4).is_none() && family.p_max(4).is_none());
    }

    #[test]
    fn what_is_the_same_under_all_labels_is_no_evidence() {
        let still = Tested { observed: 0.3, null: vec![0.3; 99] };
        let none = Tested { observed: f64::NAN, null: vec![0.3; 99] };
        let family = Family::new([Some(&still), Some(&none)].into_iter(), |_| 0, |row| row);
        assert_eq!((family.p_value(0), family.null(0).unwrap().effect_size.is_none()), (Some(1.0), true));
        assert!(family.null(1).is_none());
    }
}
