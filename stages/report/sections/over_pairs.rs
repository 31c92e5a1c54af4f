//! What a likeness of two datasets comes to over all pairs of datasets, by layer, beside what chance gives.

use std::collections::BTreeMap;

use super::super::shelf::Depth;
use super::median;
use crate::chart::lines::{Point, Series};
use crate::statistics::moments::quantile;

/// The mean of a null and its 95 % quantile; `NaN` where the table has none.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    pub mean: f64,
    pub high: f64,
}

/// The likeness (0 to 1) of one pair of datasets at one depth, with its nulls.
#[derive(Debug, Clone, Copy)]
pub struct Likeness {
    pub depth: Depth,
    pub pair: (usize, usize),
    pub value: f64,
    /// The pairs of states shuffled.
    pub shuffled: Chance,
    /// Random directions with the covariance of the differences.
    pub random: Chance,
}

/// A thin line for each pair, their median with the middle half of the pairs as its band, and the nulls: the median of
/// their means, their bands reaching up to the median of their 95 % quantiles.
pub fn series(found: &[Likeness], places: &BTreeMap<Depth, usize>) -> Vec<Series> {
    let mut pairs: BTreeMap<(usize, usize), Vec<Point>> = BTreeMap::new();
    let mut by_place: Vec<Vec<&Likeness>> = vec![Vec::new(); places.len()];
    for likeness in found {
        let place = places[&likeness.depth];
        by_place[place].push(likeness);
        let points = pairs.entry(likeness.pair).or_insert_with(|| vec![Point::NONE; places.len()]);
        points[place] = Point::bare(likeness.value);
    }
    let faint = |points| Series { name: String::new(), class: "s0 faint".into(), points, labelled: false };
    let mut series: Vec<Series> = pairs.into_values().map(faint).collect();
    let medians = by_place.iter().map(|here| {
        let mut values: Vec<f64> =
            here.iter().map(|likeness| likeness.value).filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let [low, value, high] = [0.25, 0.5, 0.75].map(|at| quantile(&values, at));
        Point { value, low, high }
    });
    let name = if series.len() == 1 { "this pair" } else { "median pair" };
    series.push(Series { name: name.into(), class: "s0".into(), points: medians.collect(), labelled: true });
    let nulls: [(&str, &str, fn(&Likeness) -> Chance); 2] =
        [("shuffled", "null", |likeness| likeness.shuffled), ("random", "null dotted", |likeness| likeness.random)];
    for (name, class, chance) in nulls {
        let points: Vec<Point> = by_place
            .iter()
            .map(|here| {
                let mean = median(here.iter().map(|likeness| chance(likeness).mean).collect());
                let high = median(here.iter().map(|likeness| chance(likeness).high).collect());
                Point { value: mean, low: mean, high }
            })
            .collect();
        if points.iter().any(|point| point.value.is_finite()) {
            series.push(Series { name: name.into(), class: class.into(), points, labelled: true });
        }
    }
    series
}

/// How many of the pairs and depths lie above the 95 % quantile of a null, of those that have one.
pub fn above(found: &[Likeness], chance: fn(&Likeness) -> Chance) -> (usize, usize) {
    let tested = || found.iter().filter(|likeness| chance(likeness).high.is_finite() && likeness.value.is_finite());
    (tested().filter(|likeness| likeness.value > chance(likeness).high).count(), tested().count())
}

/// What [`above`] says of both nulls, in a sentence; empty where neither is there.
pub fn finding(found: &[Likeness], what: &str) -> String {
    let nulls: [(&str, fn(&Likeness) -> Chance); 2] = [
        ("the shuffled null", |likeness| likeness.shuffled),
        ("random directions of the same covariance", |likeness| likeness.random),
    ];
    let parts: Vec<String> = nulls
        .iter()
        .map(|(name, chance)| (name, above(found, *chance)))
        .filter(|(_, (_, tested))| *tested > 0)
        .map(|(name, (count, tested))| format!("above the 95 % quantile of {name} in {count} of {tested}"))
        .collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!("Over pairs of datasets and layers, {what} lies {}.", parts.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shelf::depth_axis;
    use super::*;

    #[test]
    fn the_median_pair_is_held_against_both_nulls() {
        let depth = Depth { layer: 1, normed: false };
        let likeness = |b: usize, value: f64| Likeness {
            depth,
            pair: (0, b),
            value,
            shuffled: Chance { mean: 0.1, high: 0.3 },
            random: Chance { mean: f64::NAN, high: f64::NAN },
        };
        let found = [likeness(1, 0.2), likeness(2, 0.6), likeness(3, 0.9)];
        let (_, places) = depth_axis([depth]);
        let drawn = series(&found, &places);
        assert_eq!(drawn.len(), 3 + 2, "three pairs, their median and one null");
        let (median, null) = (&drawn[3].points[0], &drawn[4].points[0]);
        assert_eq!((median.value, median.low, median.high), (0.6, 0.4, 0.75));
        assert_eq!((null.value, null.high), (0.1, 0.3));
        assert_eq!(above(&found, |likeness| likeness.shuffled), (2, 3));
        let sentence = finding(&found, "the cosine");
        assert!(sentence.contains("in 2 of 3") && !sentence.contains("random"), "{sentence}");
    }
}
