//! Student's t distribution: its two-sided tail and the quantile of 95 % intervals.

use std::sync::OnceLock;

/// P(|T| >= |t|) for T of Student's distribution with `freedom` degrees of freedom, at least 1.
pub fn two_sided(t: f64, freedom: f64) -> f64 {
    if t.is_nan() {
        return f64::NAN;
    }
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// The 97.5 % quantile, so that P(|T| >= it) = 0.05; infinite without a degree of freedom.
pub fn quantile_975(degrees: usize) -> f64 {
    /// A table asks for the same few of them in every row.
    static KNOWN: [OnceLock<f64>; 4096] = [const { OnceLock::new() }; 4096];
    match KNOWN.get(degrees) {
        Some(known) => *known.get_or_init(|| found_quantile_975(degrees)),
        None => found_quantile_975(degrees),
    }
}

fn found_quantile_975(degrees: usize) -> f64 {
    if degrees == 0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (1.0, 13.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if two_sided(middle, degrees as f64) > 0.05 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22, evaluated by Lentz's
/// method). Exact to about 1e-13.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let away = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            step = c * d;
            fraction *= step;
        }
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// ln of the gamma function for x > 0 (Lanczos's approximation, g = 7, 9 terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = TERMS[0] + (1..9).map(|i| TERMS[i] / (x + i as f64)).sum::<f64>();
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_and_critical_values_agree_with_scipy() {
        // 2 * scipy.stats.t.sf(t, df)
        for (t, freedom, expected) in [
            (1.0, 1.0, 0.5),
            (2.0, 15.0, 0.06394500728472015),
            (-3.5, 63.0, 0.0008601438405072243),
            (0.1, 4.0, 0.9251558409394532),
            (6.0, 399.0, 4.430859494705276e-9),
        ] {
            let found = two_sided(t, freedom);
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} for {expected}");
        }
        // scipy.stats.t.ppf(0.975, df)
        for (degrees, expected) in
            [(1, 12.706204736174694), (3, 3.1824463052837078), (15, 2.131449545559776), (399, 1.965927295920882)]
        {
            assert!((quantile_975(degrees) - expected).abs() < 1e-9);
        }
    }
}
