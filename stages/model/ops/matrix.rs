//! A weight matrix where it lies: in memory, or in a mapped file in the file's dtype.

use half::{bf16, f16};

use super::bf16::round_to_bf16;
use super::{Blocks, Fp8, Precision};

/// A weight matrix [out, in], row-major, in the dtype of its file.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub values: Values<'a>,
    pub out: usize,
    pub inputs: usize,
    pub precision: Precision,
    /// Whether the values count as rounded to bf16, however they are stored.
    pub rounded: bool,
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
        Matrix { values, out, inputs, precision: Precision::F32, rounded: false }
    }

    /// The same matrix, its products in this precision.
    pub fn in_precision(self, precision: Precision) -> Matrix<'a> {
        Matrix { precision, ..self }
    }

    /// The same matrix, its values rounded to bf16 and its products in f32.
    pub fn rounded(self) -> Matrix<'a> {
        Matrix { precision: Precision::F32, rounded: !matches!(self.values, Values::Bf16(_)), ..self }
    }

    /// Values `start..start + out.len()` as they count.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        self.values.widen(start, out);
        if self.rounded {
            round_to_bf16(out);
        }
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
        Matrix { values, out: end - start, ..*self }
    }
}
