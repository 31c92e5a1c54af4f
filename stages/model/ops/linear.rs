//! y = x Wᵀ + b with the weight where it lies in the file: f32 is used in place, f16 and bf16 are widened a
//! few output rows at a time, so that a memory-mapped model is never copied whole.

use gemmkit::gemm_unchecked;
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Blocks, Fp8, Shared, fix_summation_order, threads};

/// A weight matrix [out, in], row-major, in the dtype of its file.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub values: Values<'a>,
    pub out: usize,
    pub inputs: usize,
}

/// Little-endian values as they lie in a file. `Bytes32` is f32 at an address that is not a multiple of 4.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    Bytes32(&'a [u8]),
    F16(&'a [u8]),
    Bf16(&'a [u8]),
    /// Quantised. The rows of a matrix are whole blocks.
    Blocks(Blocks<'a>),
    Fp8(Fp8<'a>),
}

impl<'a> Values<'a> {
    /// f32 from bytes, in place where their address allows it.
    pub fn f32(bytes: &'a [u8]) -> Values<'a> {
        // SAFETY: every bit pattern is an f32; only the middle part is aligned, and it is used only when it is all.
        match unsafe { bytes.align_to::<f32>() } {
            ([], values, []) if cfg!(target_endian = "little") => Values::F32(values),
            _ => Values::Bytes32(bytes),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::Bytes32(bytes) => bytes.len() / 4,
            Values::F16(bytes) | Values::Bf16(bytes) => bytes.len() / 2,
            Values::Blocks(blocks) => blocks.count(),
            Values::Fp8(bytes) => bytes.count(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values `start..start + out.len()` as f32.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match self {
            Values::F32(values) => out.copy_from_slice(&values[start..end]),
            Values::Bytes32(bytes) => {
                let words = bytes[start * 4..end * 4].as_chunks::<4>().0;
                out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_le_bytes(*word));
            }
            Values::F16(bytes) => {
                let words = bytes[start * 2..end * 2].as_chunks::<2>().0;
                out.iter_mut().zip(words).for_each(|(out, word)| *out = f16::from_le_bytes(*word).to_f32());
            }
            Values::Bf16(bytes) => widen_bf16(&bytes[start * 2..end * 2], out),
            Values::Blocks(blocks) => blocks.widen(start, out),
            Values::Fp8(bytes) => bytes.widen(start, out),
        }
    }

    /// All of them as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.widen(0, &mut out);
        out
    }
}

fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
    for (out, word) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = bf16::from_le_bytes(*word).to_f32();
    }
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// When there are not `out * inputs` values.
    pub fn new(values: Values<'a>, out: usize, inputs: usize) -> Matrix<'a> {
        assert_eq!(values.len(), out * inputs, "a matrix of {out} x {inputs}");
        Matrix { values, out, inputs }
    }

    /// A matrix in memory.
    pub fn of(values: &'a [f32], out: usize, inputs: usize) -> Matrix<'a> {
        Matrix::new(Values::F32(values), out, inputs)
    }

    /// Output rows `start..end` alone.
    pub fn rows(&self, start: usize, end: usize) -> Matrix<'a> {
        let (from, to) = (start * self.inputs, end * self.inputs);
        let values = match self.values {
            Values::F32(values) => Values::F32(&values[from..to]),
            Values::Bytes32(bytes) => Values::Bytes32(&bytes[from * 4..to * 4]),
            Values::F16(bytes) => Values::F16(&bytes[from * 2..to * 2]),
            Values::Bf16(bytes) => Values::Bf16(&bytes[from * 2..to * 2]),
            Values::Blocks(blocks) => Values::Blocks(blocks.part(from, to)),
            Values::Fp8(bytes) => Values::Fp8(bytes.part(from, to)),
        };
        Matrix { values, out: end - start, inputs: self.inputs }
    }
}

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
    let len = x.len() / weight.inputs * weight.out;
    let mut y = Vec::with_capacity(len);
    // SAFETY: the capacity is rows * out, and the product writes every element before the length says so.
    unsafe {
        product(x, weight, bias, y.as_mut_ptr(), false);
        y.set_len(len);
    }
    y
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
        Values::F32(values) => call(values, 0, out),
        narrow => {
            // About a million weights at a time: they stay in cache between the widening and the product.
            let chunk = ((1 << 20) / inputs.max(1)).next_multiple_of(64).clamp(64, out.next_multiple_of(64));
            let mut widened = vec![0f32; chunk.min(out) * inputs];
            for first in (0..out).step_by(chunk) {
                let count = chunk.min(out - first);
                let widened = &mut widened[..count * inputs];
                widened.par_chunks_mut(inputs * 16).enumerate().for_each(|(i, part)| {
                    narrow.widen((first + i * 16) * inputs, part);
                });
                call(widened, first, count);
            }
        }
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

#[cfg(test)]
mod tests {
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
