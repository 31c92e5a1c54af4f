//! y = x Wᵀ + b with the weight where it lies in the file: f32 is used in place, f16 and bf16 are widened a
//! few output rows at a time, so that a memory-mapped model is never copied whole.

use gemmkit::gemm_unchecked;
use rayon::prelude::*;

use super::bf16::{keep_rounded, rounded};
use super::{Matrix, Precision, Shared, Values, bf16_product, fix_summation_order, threads};
use crate::processor::multiplies_bf16;

/// y [rows, out] = x [rows, in] Wᵀ + b.
///
/// # Panics
/// When a slice's length does not fit the shapes; so do the other two.
pub fn linear(x: &[f32], weight: Matrix, bias: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(y.len() * weight.inputs, x.len() * weight.out, "linear: output length");
    // SAFETY: y has rows * out elements, and is overwritten.
    unsafe { product(x, weight, bias, y.as_mut_ptr(), false) };
}

/// y += x Wᵀ + b: the residual stream takes a block's output without a copy between.
pub fn linear_add(x: &[f32], weight: Matrix, bias: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(y.len() * weight.inputs, x.len() * weight.out, "linear_add: output length");
    // SAFETY: y has rows * out elements, all of them initialised.
    unsafe { product(x, weight, bias, y.as_mut_ptr(), true) };
}

/// [`linear`] into new memory, which is not zeroed first: for large outputs that is a tenth of the time.
pub fn linear_new(x: &[f32], weight: Matrix, bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = Vec::new();
    linear_replacing(x, weight, bias, &mut y);
    y
}

/// [`linear`] in the place of what `y` held. New memory for each of several large outputs takes a tenth of the time again.
pub fn linear_replacing(x: &[f32], weight: Matrix, bias: Option<&[f32]>, y: &mut Vec<f32>) {
    let len = x.len() / weight.inputs * weight.out;
    y.clear();
    y.reserve(len);
    // SAFETY: the capacity is rows * out, and the product writes every element before the length says so.
    unsafe {
        product(x, weight, bias, y.as_mut_ptr(), false);
        y.set_len(len);
    }
}

/// # Safety
/// `y` is valid for writes of rows * out floats, and for reads too where `add`.
unsafe fn product(x: &[f32], weight: Matrix, bias: Option<&[f32]>, y: *mut f32, add: bool) {
    let Matrix { out, inputs, .. } = weight;
    let rows = x.len() / inputs;
    assert_eq!(x.len(), rows * inputs, "linear: {} inputs are no whole rows of {inputs}", x.len());
    assert!(bias.is_none_or(|bias| bias.len() == out), "linear: bias length");
    fix_summation_order();
    let call = |weight: &[f32], first: usize, count: usize| {
        assert!(weight.len() >= count * inputs && first + count <= out);
        // SAFETY: x is rows x inputs, the weight count x inputs read as its transpose, and the columns
        // first..first + count of y lie within its rows * out elements.
        unsafe {
            gemm_unchecked(
                rows,
                inputs,
                count,
                1.0,
                x.as_ptr(),
                inputs as isize,
                1,
                weight.as_ptr(),
                1,
                inputs as isize,
                if add { 1.0 } else { 0.0 },
                y.add(first),
                out as isize,
                1,
                threads(),
            );
        }
    };
    match weight.values {
        // SAFETY: as this function's.
        _ if weight.precision == Precision::Bf16 && multiplies_bf16() => unsafe {
            bf16_product::forward(x, weight, y, add)
        },
        // SAFETY: as this function's.
        _ if weight.precision == Precision::Bf16 => unsafe { rounded_product(x, weight, y, add) },
        Values::F32(values) if !weight.rounded => call(values, 0, out),
        _ => weight.each_widened(WIDENED, |weights, first| call(weights, first, weights.len() / inputs)),
    }
    if let Some(bias) = bias {
        let y = Shared(y);
        (0..rows).into_par_iter().for_each(|row| {
            // SAFETY: each row is one thread's, and the product has initialised it.
            let y = unsafe { std::slice::from_raw_parts_mut(y.get().add(row * out), out) };
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        });
    }
}

/// Weights that are widened at a time. Each product packs all of x again, so that of fewer it takes longer: with 2^20 a fifth at
/// 220 rows and a tenth at 512.
const WIDENED: usize = 1 << 22;

/// Rows of which rounded products are made at a time.
const ROWS: usize = 2048;

/// The product in bf16 by way of f32.
///
/// # Safety
/// As for [`product`].
unsafe fn rounded_product(x: &[f32], weight: Matrix, y: *mut f32, add: bool) {
    let Matrix { out, inputs, .. } = weight;
    let y = Shared(y);
    for (chunk, x) in x.chunks(ROWS * inputs).enumerate() {
        let mut part = linear_new(&rounded(x), weight.rounded(), None);
        part.par_chunks_mut(out).enumerate().for_each(|(row, part)| {
            // SAFETY: each row is one thread's, within rows * out elements.
            let y = unsafe { std::slice::from_raw_parts_mut(y.get().add((chunk * ROWS + row) * out), out) };
            keep_rounded(part, add, y);
        });
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    fn expected(x: &[f32], w: &[f32], b: &[f32], rows: usize, inputs: usize, out: usize) -> Vec<f64> {
        reference(rows, out, |r, o| {
            (0..inputs).map(|i| x[r * inputs + i] as f64 * w[o * inputs + i] as f64).sum::<f64>() + b[o] as f64
        })
    }

    #[test]
    fn agrees_with_f64_over_many_shapes_and_dtypes() {
        for (rows, inputs, out) in [(1, 8, 8), (3, 70, 5), (17, 64, 640), (65, 160, 64), (200, 896, 130), (2, 3000, 9)]
        {
            let (x, w, b) = (values(rows * inputs, 1), values(out * inputs, 2), values(out, 3));
            let y = linear_new(&x, Matrix::of(&w, out, inputs), Some(&b));
            let scale = (inputs as f64).sqrt();
            let error = worst_relative(&y, &expected(&x, &w, &b, rows, inputs, out), scale);
            assert!(error < 3e-6, "{rows}x{inputs}x{out}: {error:e}");

            let mut into = values(y.len(), 4);
            let sum: Vec<f32> = into.iter().zip(&y).map(|(a, b)| a + b).collect();
            linear_add(&x, Matrix::of(&w, out, inputs), Some(&b), &mut into);
            let error = worst_relative(&into, &sum.iter().map(|s| *s as f64).collect::<Vec<_>>(), scale);
            assert!(error < 3e-6, "add {rows}x{inputs}x{out}: {error:e}");

            let short: Vec<u8> = w.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
            let narrow = Values::Bf16(&short);
            let y = linear_new(&x, Matrix::new(narrow, out, inputs), Some(&b));
            let error = worst_relative(&y, &expected(&x, &narrow.to_f32(), &b, rows, inputs, out), scale);
            assert!(error < 3e-6, "bf16 {rows}x{inputs}x{out}: {error:e}");

            let short: Vec<u8> = w.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect();
            let narrow = Values::F16(&short);
            let y = linear_new(&x, Matrix::new(narrow, out, inputs), None);
            let error = worst_relative(&y, &expected(&x, &narrow.to_f32(), &vec![0.0; out], rows, inputs, out), scale);
            assert!(error < 3e-6, "f16 {rows}x{inputs}x{out}: {error:e}");
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        for (inputs, out) in [(64, 64), (896, 128), (64, 640), (160, 64), (4864, 96), (33, 7)] {
            let rows = 150;
            let (x, w) = (values(rows * inputs, 5), values(out * inputs, 6));
            let all = linear_new(&x, Matrix::of(&w, out, inputs), None);
            for (start, count) in [(0, 1), (7, 1), (149, 1), (3, 2), (20, 33), (60, 64), (80, 65)] {
                let part = linear_new(&x[start * inputs..(start + count) * inputs], Matrix::of(&w, out, inputs), None);
                assert_eq!(part, all[start * out..(start + count) * out], "{inputs}x{out}: rows {start}+{count}");
            }
        }
    }

    #[test]
    fn one_thread_and_three_give_the_same_bits() {
        let (rows, inputs, out) = (300, 256, 700);
        let (x, w) = (values(rows * inputs, 7), values(out * inputs, 8));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| linear_new(&x, Matrix::of(&w, out, inputs), None))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn unaligned_f32_is_read_all_the_same() {
        let w = values(12, 9);
        let mut bytes = vec![0u8];
        bytes.extend(w.iter().flat_map(|w| w.to_le_bytes()));
        assert_eq!(Values::f32(&bytes[1..]).to_f32(), w);
    }
}
