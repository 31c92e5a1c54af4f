//! exp as a polynomial that compilers turn into vector code; libm's is a call per element.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
// ln 2 in two parts, the first with few enough bits that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5 * 2^23 rounds a small float to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// e^x within 2e-7 relative for -87 <= x <= 88, held at the ends beyond; NaN stays NaN.
///
/// Cephes' expf: e^x = 2^n e^r with |r| <= ln(2)/2, and a polynomial of degree 7 in r.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let fraction = p * r * r + r + 1.0;
    // 2^n by writing n into the exponent's bits: n is in the last bits of `rounded`, where a conversion (which
    // checks for NaN) need not fetch it. For NaN the product is NaN whatever these are.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    fraction * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_within_two_ulps_of_libm_over_its_range() {
        let mut worst = 0f64;
        for step in 0..2_000_000 {
            let x = -87.0 + 175.0 * step as f32 / 2_000_000.0;
            let expected = (x as f64).exp();
            worst = worst.max(((exp(x) as f64) - expected).abs() / expected);
        }
        assert!(worst < 2e-7, "relative error {worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1000.0) < 2e-38);
    }
}
