//! Axes: a linear scale from data to the page, round ticks, and how numbers are printed.

/// A linear map from a domain of data to a range of coordinates.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    pub domain: (f64, f64),
    pub range: (f64, f64),
}

/// A domain that holds the finite values, widened to round ends; (0, 1) where there are none.
pub fn round_domain(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (lo, hi) = extent(values);
    let step = step(lo, hi, 5);
    // An end that is round but for rounding, such as a distance of -1e-16, needs no room beyond it.
    ((lo / step + 1e-6).floor() * step, (hi / step - 1e-6).ceil() * step)
}

impl Linear {
    pub fn at(&self, value: f64) -> f64 {
        let (lo, hi) = self.domain;
        self.range.0 + (value - lo) / (hi - lo) * (self.range.1 - self.range.0)
    }

    /// About `count` round values inside the domain, with their labels.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let (lo, hi) = self.domain;
        let step = step(lo, hi, count);
        let decimals = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
        let (first, last) = ((lo / step - 1e-9).ceil() as i64, (hi / step + 1e-9).floor() as i64);
        (first..=last)
            .map(|i| i as f64 * step)
            .map(|value| (value, if step < 1e-6 { number(value) } else { fixed(value, decimals) }))
            .collect()
    }
}

/// Least and greatest finite value, apart from each other by something.
pub fn extent(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.into_iter().filter(|value| value.is_finite()) {
        lo = lo.min(value);
        hi = hi.max(value);
    }
    if lo > hi {
        return (0.0, 1.0);
    }
    if hi - lo < 1e-12 * hi.abs().max(1e-12) {
        let half = if lo == 0.0 { 1.0 } else { lo.abs() / 2.0 };
        return (lo - half, hi + half);
    }
    (lo, hi)
}

/// The 1, 2 or 5 times a power of ten that cuts lo..hi into about `count` pieces.
fn step(lo: f64, hi: f64, count: usize) -> f64 {
    let raw = (hi - lo) / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    match raw / power {
        r if r < 1.5 => power,
        r if r < 3.5 => 2.0 * power,
        r if r < 7.5 => 5.0 * power,
        _ => 10.0 * power,
    }
}

/// A number with so many decimals and a true minus sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().any(|c| c.is_ascii_digit() && c != '0') => format!("−{digits}"),
        Some(digits) => digits.to_string(),
        None => text,
    }
}

/// A number as it is read in a sentence: three significant digits, powers of ten where it is very small or large.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{value:.2e}").replace('-', "−");
    }
    let decimals = (2 - size.log10().floor() as i64).clamp(0, 6) as usize;
    fixed(value, decimals)
}

/// An estimate with its interval: `0.12 [0.10, 0.14]`.
pub fn with_interval(value: f64, low: f64, high: f64) -> String {
    if low.is_finite() && high.is_finite() {
        format!("{} [{}, {}]", number(value), number(low), number(high))
    } else {
        number(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reaches_both_ends_of_its_range() {
        let scale = Linear { domain: (-1.0, 3.0), range: (200.0, 0.0) };
        assert_eq!([scale.at(-1.0), scale.at(3.0), scale.at(1.0)], [200.0, 0.0, 100.0]);
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Linear { domain: round_domain([-0.23, 0.71, f64::NAN]), range: (0.0, 100.0) };
        let labels: Vec<String> = scale.ticks(5).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["−0.4", "−0.2", "0.0", "0.2", "0.4", "0.6", "0.8"]);
        let scale = Linear { domain: (0.0, 64.0), range: (0.0, 1.0) };
        assert_eq!(scale.ticks(4).iter().map(|(value, _)| *value).collect::<Vec<_>>(), [0.0, 20.0, 40.0, 60.0]);
    }

    #[test]
    fn equal_and_absent_values_still_have_an_axis() {
        let same = round_domain([2.0, 2.0]);
        assert!(same.0 < 2.0 && same.1 > 2.0);
        assert_eq!(round_domain([-1e-16, 1.0 + 1e-16]), (0.0, 1.0));
        assert_eq!(round_domain([f64::NAN]), (0.0, 1.0));
        let zero = Linear { domain: round_domain([0.0]), range: (0.0, 1.0) };
        assert!(zero.at(0.0).is_finite());
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(0.123456), "0.123");
        assert_eq!(number(-12.3456), "−12.3");
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(number(0.00001), "1.00e−5");
        assert_eq!(fixed(-0.0001, 2), "0.00");
    }
}
