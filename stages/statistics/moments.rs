//! Mean, standard deviation and quantiles.

/// The arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation with divisor n (numpy's default), 0 for a single value; NaN of nothing.
pub fn std(values: &[f64]) -> f64 {
    let centre = mean(values);
    (values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// The quantile of ascending values by linear interpolation between order statistics (Hyndman and Fan's
/// type 7, numpy's default); NaN of nothing.
pub fn quantile(ascending: &[f64], probability: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return f64::NAN };
    let rank = probability * last as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    ascending[below] + (ascending[above] - ascending[below]) * (rank - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_numpy() {
        // np.mean, np.std and np.quantile of [3, 1, 4, 1, 5].
        let values = [3.0, 1.0, 4.0, 1.0, 5.0];
        assert!((mean(&values) - 2.8).abs() < 1e-15);
        assert!((std(&values) - 1.6).abs() < 1e-15);
        let sorted = [1.0, 1.0, 3.0, 4.0, 5.0];
        assert!((quantile(&sorted, 0.9) - 4.6).abs() < 1e-12);
        assert_eq!((quantile(&sorted, 0.0), quantile(&sorted, 1.0)), (1.0, 5.0));
        assert_eq!(std(&[7.0]), 0.0);
    }
}
