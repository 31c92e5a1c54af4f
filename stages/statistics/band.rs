//! Simultaneous intervals of several means or ratios over the same examples, such as those of one network's layers.

use super::max_statistic::{Centre, MaxStatistic};
use super::random::Random;

/// The half widths of 95 % intervals that hold for all of m estimates at once.
///
/// `influences` are m lists of what each example adds to an estimate: for a mean x_i - mean, for a ratio of means
/// (x_i - ratio y_i) / mean of y. Examples take random signs, the same ones in every estimate (the wild bootstrap). The
/// critical distance is that of Student's statistic, not of the mean: z / sqrt((1 - z^2 / n) n / (n - 1)), since a mean that is
/// far out comes with a smaller spread about it. `None` where the examples do not vary, or there are fewer than 4.
pub fn half_widths(influences: &[Vec<f64>], draws: usize, seed: u64, stream: u64) -> Vec<Option<f64>> {
    let longest = influences.iter().map(Vec::len).max().unwrap_or(0);
    let mut random = Random::new(seed, stream);
    let mut signs = vec![0.0; longest];
    let mut null = Vec::with_capacity(draws * influences.len());
    for _ in 0..draws {
        signs.iter_mut().for_each(|sign| *sign = if random.coin() { 1.0 } else { -1.0 });
        null.extend(influences.iter().map(|values| {
            let sum: f64 = values.iter().zip(&signs).map(|(value, sign)| value * sign).sum();
            sum / values.len() as f64
        }));
    }
    let family = MaxStatistic::new(&vec![0.0; influences.len()], &null, Centre::Zero);
    let width = |(test, values): (usize, &Vec<f64>)| {
        let n = values.len() as f64;
        let spread = (values.iter().map(|value| value * value).sum::<f64>() / n).sqrt();
        let z = family.critical(test, 0.05)? * n.sqrt() / spread;
        let left = (1.0 - z * z / n) * n / (n - 1.0);
        (values.len() >= 4 && left > 0.0 && z.is_finite()).then(|| z / left.sqrt() * spread / (n - 1.0).sqrt())
    };
    influences.iter().enumerate().map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_lie_in_their_intervals_in_95_of_100() {
        for (n, tests) in [(16, 4), (16, 20), (64, 20)] {
            let mut covered = 0;
            for stream in 0..300 {
                let mut random = Random::new(2, stream);
                let common: Vec<f64> = (0..n).map(|_| random.normal()).collect();
                let mut means = Vec::new();
                let influences: Vec<Vec<f64>> = (0..tests)
                    .map(|_| {
                        let values: Vec<f64> =
                            common.iter().map(|common| 0.8 * common + 0.6 * random.normal()).collect();
                        means.push(values.iter().sum::<f64>() / n as f64);
                        values.iter().map(|value| value - means[means.len() - 1]).collect()
                    })
                    .collect();
                let widths = half_widths(&influences, 400, 0, stream);
                covered += usize::from(means.iter().zip(&widths).all(|(mean, width)| mean.abs() <= width.unwrap()));
            }
            assert!((273..=296).contains(&covered), "{covered} of 300 with {n} examples and {tests} means");
        }
    }

    #[test]
    fn what_does_not_vary_has_no_interval() {
        let widths = half_widths(&[vec![0.0; 9], vec![1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1.5, -1.5]], 99, 0, 0);
        assert!(widths[0].is_none() && widths[1].is_some());
        assert_eq!(half_widths(&[vec![1.0, -1.0]], 99, 0, 0), [None]);
    }
}
