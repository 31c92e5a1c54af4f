//! tanh as vector code, on [`exp`].

use super::exp;

/// tanh(x) within 3e-7 relative; NaN stays NaN.
///
/// Near 0, where 1 - 2 / (e^2x + 1) cancels, Lambert's continued fraction.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    let above = x * (10395.0 + square * (1260.0 + square * 21.0));
    let below = 10395.0 + square * (4725.0 + square * (210.0 + square));
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x.abs() < 0.75 { above / below } else { far }
}

#[cfg(test)]
mod tests {
    use super::tanh;

    #[test]
    fn agrees_with_f64() {
        for i in -40_000..=40_000 {
            let x = i as f32 / 2000.0;
            let expected = (x as f64).tanh();
            assert!((tanh(x) as f64 - expected).abs() <= 3e-7 * expected.abs(), "{x}: {} {expected}", tanh(x));
        }
        assert_eq!((tanh(1e9), tanh(-1e9), tanh(1e-30)), (1.0, -1.0, 1e-30));
        assert!(tanh(f32::NAN).is_nan());
    }
}
