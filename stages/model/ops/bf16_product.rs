//! Products in bf16 arithmetic: inputs and weights are rounded to bf16, sums are f32, and the result is rounded to bf16, as
//! PyTorch computes the linear layers of a bf16 model. What lies between linear layers stays f32.
//!
//! This is where [`crate::processor::multiplies_bf16`]: the processor takes two products at a time before it adds them. Elsewhere
//! rounded values are multiplied in f32 ([`super::bf16`]). The two differ by the rounding of f32 sums, which the rounding of the result
//! to bf16 mostly hides.

use gemmkit::gemm_unchecked;
use half::bf16;
use rayon::prelude::*;

use super::{Matrix, Shared, Values, fix_summation_order, threads, vectorized};

/// Values that a thread converts at a time.
const CHUNK: usize = 1 << 14;

vectorized! {
    avx512:
    /// To the nearest bf16, ties to even.
    fn narrow(values: &[f32], out: &mut [u16]) {
        for (out, value) in out.iter_mut().zip(values) {
            let bits = value.to_bits();
            let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            // A NaN stays one: rounding may carry it to infinity.
            let quiet = (bits >> 16) | 0x40;
            *out = if bits & 0x7fff_ffff > 0x7f80_0000 { quiet as u16 } else { rounded as u16 };
        }
    }
}

fn narrowed(values: &[f32]) -> Vec<bf16> {
    let mut out = vec![0u16; values.len()];
    out.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(out, values)| narrow(values, out));
    out.into_iter().map(bf16::from_bits).collect()
}

/// A weight's values as bf16: in place where they lie so in memory, else rounded a few rows at a time.
fn in_place<'a>(values: &Values<'a>) -> Option<&'a [bf16]> {
    let Values::Bf16(bytes) = values else { return None };
    // SAFETY: every bit pattern is a bf16; only the middle part is aligned, and it is used only when it is all.
    match unsafe { bytes.align_to::<bf16>() } {
        ([], values, []) if cfg!(target_endian = "little") => Some(values),
        _ => None,
    }
}

/// Calls `with(rows of the weight as bf16, the first of them)` until all rows were there.
fn each_part(weight: Matrix, mut with: impl FnMut(&[bf16], usize)) {
    if let Some(values) = in_place(&weight.values) {
        return with(values, 0);
    }
    let rows = ((1 << 20) / weight.inputs.max(1)).next_multiple_of(64).max(64);
    for first in (0..weight.out).step_by(rows) {
        let count = rows.min(weight.out - first);
        let mut wide = vec![0.0; count * weight.inputs];
        weight.values.widen(first * weight.inputs, &mut wide);
        with(&narrowed(&wide), first);
    }
}

/// y [rows, out] = x [rows, in] Wᵀ, or y += where `add`.
///
/// # Safety
/// `y` is valid for writes of rows * out floats, and for reads too where `add`.
pub(super) unsafe fn forward(x: &[f32], weight: Matrix, y: *mut f32, add: bool) {
    let Matrix { out, inputs, .. } = weight;
    let rows = x.len() / inputs;
    fix_summation_order();
    let x = narrowed(x);
    let y = Shared(y);
    each_part(weight, |weight, first| {
        let count = weight.len() / inputs;
        let mut part = vec![bf16::ZERO; rows * count];
        // SAFETY: x is rows x inputs, the weight count x inputs read as its transpose, and the part rows x count.
        unsafe {
            gemm_unchecked(
                rows,
                inputs,
                count,
                bf16::ONE,
                x.as_ptr(),
                inputs as isize,
                1,
                weight.as_ptr(),
                1,
                inputs as isize,
                bf16::ZERO,
                part.as_mut_ptr(),
                count as isize,
                1,
                threads(),
            );
        }
        part.par_chunks(count.max(1)).enumerate().for_each(|(row, part)| {
            // SAFETY: each row's columns first..first + count are one thread's, within rows * out elements.
            let y = unsafe { std::slice::from_raw_parts_mut(y.get().add(row * out + first), count) };
            keep(part, add, y);
        });
    });
}

/// dx [rows, in] = d [rows, out] W, or dx += where `add`.
pub(super) fn backward(d: &[f32], weight: Matrix, add: bool, dx: &mut [f32]) {
    let Matrix { out, inputs, .. } = weight;
    let rows = d.len() / out;
    fix_summation_order();
    let d = narrowed(d);
    each_part(weight, |weight, first| {
        let count = weight.len() / inputs;
        let mut part = vec![bf16::ZERO; rows * inputs];
        // SAFETY: d from column `first` is rows x count within rows x out, the weight count x inputs.
        unsafe {
            gemm_unchecked(
                rows,
                count,
                inputs,
                bf16::ONE,
                d.as_ptr().add(first),
                out as isize,
                1,
                weight.as_ptr(),
                inputs as isize,
                1,
                bf16::ZERO,
                part.as_mut_ptr(),
                inputs as isize,
                1,
                threads(),
            );
        }
        let rows = dx.par_chunks_mut(inputs).zip(part.par_chunks(inputs));
        rows.for_each(|(dx, part)| keep(part, add || first > 0, dx));
    });
}

vectorized! {
    avx512:
    fn keep(part: &[bf16], add: bool, y: &mut [f32]) {
        let wide = part.iter().map(|value| f32::from_bits(u32::from(value.to_bits()) << 16));
        match add {
            true => y.iter_mut().zip(wide).for_each(|(y, value)| *y += value),
            false => y.iter_mut().zip(wide).for_each(|(y, value)| *y = value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};
    use crate::model::ops::{Precision, linear_add, linear_backward, linear_new};

    fn rounded(values: &[f32]) -> Vec<f64> {
        values.iter().map(|value| bf16::from_f32(*value).to_f64()).collect()
    }

    #[test]
    fn rounding_is_that_of_half() {
        let special = [0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, 1e-40, f32::INFINITY, -f32::INFINITY, f32::NAN];
        let ties = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), f32::from_bits(0x7f80_0001)];
        let all: Vec<f32> = special.into_iter().chain(ties).chain(values(5000, 1)).collect();
        for (found, value) in narrowed(&all).iter().zip(&all) {
            assert_eq!(found.to_bits(), bf16::from_f32(*value).to_bits(), "{value}");
        }
    }

    #[test]
    fn agrees_with_f64_of_the_rounded_values() {
        for (rows, inputs, out) in [(1, 8, 8), (3, 70, 5), (65, 160, 64), (200, 896, 130), (2, 3000, 700)] {
            let (x, w, d) = (values(rows * inputs, 1), values(out * inputs, 2), values(rows * out, 3));
            let (x16, w16, d16) = (rounded(&x), rounded(&w), rounded(&d));
            let bytes: Vec<u8> = w.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
            let unaligned: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
            let expected =
                reference(rows, out, |r, o| (0..inputs).map(|i| x16[r * inputs + i] * w16[o * inputs + i]).sum());
            let reverse =
                reference(rows, inputs, |r, i| (0..out).map(|o| d16[r * out + o] * w16[o * inputs + i]).sum());
            for stored in [Values::F32(&w), Values::Bf16(&bytes), Values::Bf16(&unaligned[1..])] {
                let weight = Matrix::new(stored, out, inputs).in_precision(Precision::Bf16);
                // Half a unit in the last place of a result: 2^-9 of it.
                let y = linear_new(&x, weight, None);
                assert!(worst_relative(&y, &expected, (inputs as f64).sqrt()) < 8e-3, "{rows}x{inputs}x{out}");
                let mut sum = vec![1.0; y.len()];
                linear_add(&x, weight, None, &mut sum);
                assert!(sum.iter().zip(&y).all(|(sum, y)| *sum == 1.0 + y));
                let mut dx = vec![f32::NAN; x.len()];
                linear_backward(&d, weight, false, &mut dx);
                let error = worst_relative(&dx, &reverse, (out as f64).sqrt());
                assert!(error < 1.2e-2, "reverse {rows}x{inputs}x{out}: {error:e}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others_and_with_any_number_of_threads() {
        for (inputs, out) in [(64, 64), (896, 128), (160, 64), (4864, 96), (33, 7)] {
            let rows = 150;
            let (x, w) = (values(rows * inputs, 5), values(out * inputs, 6));
            let weight = Matrix::of(&w, out, inputs).in_precision(Precision::Bf16);
            let run = |threads, x: &[f32]| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| linear_new(x, weight, None))
            };
            let all = run(1, &x);
            assert_eq!(run(3, &x), all);
            for (start, count) in [(0, 1), (7, 1), (149, 1), (3, 2), (20, 33), (60, 64), (80, 65)] {
                let part = run(2, &x[start * inputs..(start + count) * inputs]);
                assert_eq!(part, all[start * out..(start + count) * out], "{inputs}x{out}: rows {start}+{count}");
            }
        }
    }
}
