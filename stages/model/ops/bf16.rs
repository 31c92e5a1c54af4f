//! Values rounded to bf16 that stay f32.

use rayon::prelude::*;

use super::vectorized;

/// Values that a thread rounds at a time.
const CHUNK: usize = 1 << 14;

vectorized! {
    avx512:
    /// To the nearest bf16, ties to even, as f32.
    pub fn round_to_bf16(values: &mut [f32]) {
        for value in values {
            let bits = value.to_bits();
            let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
            let quiet = (bits & 0xffff_0000) | 0x40_0000;
            *value = f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded });
        }
    }
}

pub fn rounded(values: &[f32]) -> Vec<f32> {
    let mut out = values.to_vec();
    round(&mut out);
    out
}

/// In place.
pub fn round(values: &mut [f32]) {
    values.par_chunks_mut(CHUNK).for_each(round_to_bf16);
}

vectorized! {
    avx512:
    /// y becomes the nearest bf16 of each value, or grows by it.
    pub fn keep_rounded(part: &mut [f32], add: bool, y: &mut [f32]) {
        round_to_bf16(part);
        match add {
            true => y.iter_mut().zip(part).for_each(|(y, value)| *y += *value),
            false => y.copy_from_slice(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::model::ops::test_values::values;

    #[test]
    fn rounding_is_that_of_half() {
        let special = [0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, 1e-40, f32::INFINITY, -f32::INFINITY, f32::NAN];
        let ties = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), f32::from_bits(0x7f80_0001)];
        let all: Vec<f32> = special.into_iter().chain(ties).chain(values(5000, 1)).collect();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let expected: Vec<f32> = all.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        assert_eq!(bits(&rounded(&all)), bits(&expected));
        let (mut part, mut sum) = (all.clone(), all.clone());
        keep_rounded(&mut part, true, &mut sum);
        let expected = all.iter().zip(&expected).map(|(value, rounded)| value + rounded);
        assert!(sum.iter().zip(expected).all(|(sum, expected)| *sum == expected || sum.is_nan() && expected.is_nan()));
    }
}
