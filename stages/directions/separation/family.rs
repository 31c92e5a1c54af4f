//! The tests of one direction over the layers of a position: with the same exchanges at every layer, so that they can be
//! corrected together.

use crate::directions::separation::exchanges::Sums;
use crate::statistics::effect_size::rounding;
use crate::statistics::holm::holm;
use crate::statistics::max_statistic::{Centre, MaxStatistic};
use crate::statistics::moments::{mean, std};
use crate::statistics::permutation::p_value;

/// What the test of one layer says; `None` where all differences are the same but for rounding, which is no test.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tested {
    pub p_value: Option<f64>,
    pub p_holm: Option<f64>,
    pub p_max: Option<f64>,
    /// Half of the width of the band around the mean difference that holds at all layers at once.
    pub half_width: Option<f64>,
}

/// The level of the bands.
const LEVEL: f64 = 0.05;

/// The tests of a family. Of each layer the differences of its examples and the sums under every row of signs, of which the
/// first is the observed one; `None` for a layer that is no test.
pub fn test_family(layers: &[(Vec<f64>, Option<Sums>)]) -> Vec<Tested> {
    let statistics: Vec<Option<Vec<f64>>> =
        layers.iter().map(|(differences, sums)| Some(statistic(sums.as_ref()?, differences.len()))).collect();
    let tested: Vec<usize> = (0..layers.len()).filter(|&layer| statistics[layer].is_some()).collect();
    let columns: Vec<&Vec<f64>> = statistics.iter().flatten().collect();
    let Some(rows) = columns.first().map(|column| column.len()) else { return vec![Tested::default(); layers.len()] };
    let row = |row: usize| columns.iter().map(move |column| column[row]);
    let observed: Vec<f64> = row(0).collect();
    let null: Vec<f64> = (1..rows).flat_map(row).collect();
    let largest = MaxStatistic::new(&observed, &null, Centre::Zero);
    let alone: Vec<f64> = columns.iter().map(|column| p_value(column[0], &column[1..], 0.0)).collect();
    let mut found = vec![Tested::default(); layers.len()];
    for (test, (&layer, p_holm)) in tested.iter().zip(holm(&alone)).enumerate() {
        let spread = std(&layers[layer].0);
        let half_width = largest.critical(test, LEVEL).filter(|critical| *critical < 1.0);
        found[layer] = Tested {
            p_value: Some(alone[test]),
            p_holm: Some(p_holm),
            p_max: largest.p_value(test, observed[test]),
            half_width: half_width.map(|critical| spread * critical / (1.0 - critical * critical).sqrt()),
        };
    }
    found
}

/// The mean over the root of the mean square, from -1 to 1. It grows with Student's t, which is m / s with the same mean m
/// and s^2 = mean square - m^2, and has no infinities. A band of all differences mu at which |m - mu| stays below the
/// critical value reaches s c / sqrt(1 - c^2) to both sides of m.
fn statistic(sums: &Sums, examples: usize) -> Vec<f64> {
    let n = examples as f64;
    let of = |(sum, square): (&f64, &f64)| if *square > 0.0 { sum / (n * square).sqrt() } else { 0.0 };
    sums.sums.iter().zip(&sums.squares).map(of).collect()
}

/// Whether a test has anything to go by: that the differences b - a are not all the same but for rounding.
pub fn varies(a: &[f64], b: &[f64]) -> bool {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    mean(&differences).is_finite() && std(&differences) > rounding(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_leaves_out_zero_where_the_corrected_p_value_is_small() {
        let mut random = crate::statistics::random::Random::new(3, 0);
        let examples = 30;
        let signs: Vec<f64> = (0..400 * examples).map(|_| if random.coin() { 1.0 } else { -1.0 }).collect();
        for shift in [0.0, 0.3, 0.5, 0.7, 1.0] {
            let layers: Vec<(Vec<f64>, Option<Sums>)> = (0..4)
                .map(|_| {
                    let values: Vec<f64> = (0..examples).map(|_| shift + random.normal()).collect();
                    let rows = std::iter::once(vec![1.0; examples]).chain(signs.chunks_exact(examples).map(Vec::from));
                    let sums: Vec<f64> = rows.map(|row| row.iter().zip(&values).map(|(s, v)| s * v).sum()).collect();
                    let square = values.iter().map(|value| value * value).sum();
                    (values, Some(Sums { squares: vec![square; sums.len()], sums }))
                })
                .collect();
            for (tested, (values, _)) in test_family(&layers).iter().zip(&layers) {
                let excluded = mean(values).abs() > tested.half_width.unwrap();
                assert_eq!(excluded, tested.p_max.unwrap() <= 0.05);
                assert!(tested.p_value <= tested.p_max && tested.p_value <= tested.p_holm);
            }
        }
        assert!(test_family(&[(vec![1.0], None)])[0].p_value.is_none());
    }
}
