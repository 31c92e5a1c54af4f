//! The non-linear functions of feed-forward layers, of one number.

use super::{exp, tanh};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e^-x)
    Silu,
    /// x Φ(x), with the normal distribution Φ (Hendrycks & Gimpel 2016).
    Gelu,
    /// Gelu with Φ(x) as (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
    GeluTanh,
    Relu,
}

/// √(2/π)
const ROOT: f32 = 0.797_884_6;
const CUBE: f32 = 0.044715;

#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
pub fn silu_slope(x: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    sigmoid * (1.0 + x * (1.0 - sigmoid))
}

#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x * normal_distribution(x)
}

#[inline(always)]
pub fn gelu_slope(x: f32) -> f32 {
    // The density is e^(-x²/2) / √(2π).
    normal_distribution(x) + x * exp(-0.5 * x * x) * 0.398_942_3
}

#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(ROOT * (x + CUBE * x * x * x)))
}

#[inline(always)]
pub fn gelu_tanh_slope(x: f32) -> f32 {
    let t = tanh(ROOT * (x + CUBE * x * x * x));
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBE * x * x)
}

#[inline(always)]
pub fn relu(x: f32) -> f32 {
    // NaN stays NaN.
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
pub fn relu_slope(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}

#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function within 4e-7: a rational function of x² times x, with the coefficients of Eigen's `erf`.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let square = x * x;
    let mut above = -2.726_142e-10;
    for coefficient in [2.770_681_5e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906e-4, -2.954_6e-3, -1.609_603_3e-2] {
        above = above * square + coefficient;
    }
    let mut below = -1.456_607_2e-5;
    for coefficient in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        below = below * square + coefficient;
    }
    // From here on it is 1 to the last bit but one.
    if x.abs() > 3.8325 { 1f32.copysign(x) } else { x * above / below }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// 2/√π e^-x² Σ 2ⁿ x^(2n+1) / (2n+1)!!, whose terms all have one sign.
    fn wide_erf(x: f64) -> f64 {
        // Beyond 6 it is 1 to the last bit of an f64, and the sum would need more terms.
        if x.abs() > 6.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, 0.0);
        for n in 0..200 {
            sum += term;
            term *= 2.0 * x * x / (2 * n + 3) as f64;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    /// The functions in f64.
    pub fn wide(kind: Activation, x: f64) -> f64 {
        match kind {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + wide_erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn the_error_function_agrees_with_f64() {
        for i in -6000..=6000 {
            let x = i as f32 / 1000.0;
            assert!((erf(x) as f64 - wide_erf(x as f64)).abs() < 4e-7, "{x}: {} {}", erf(x), wide_erf(x as f64));
        }
        assert!(erf(f32::NAN).is_nan() && relu(f32::NAN).is_nan());
    }
}
