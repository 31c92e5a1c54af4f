//! FP8 weights (E4M3 without infinities) with a scale for each block, as DeepSeek's and Qwen's FP8 checkpoints have them.

/// A matrix's bytes, row-major, and the scales of its blocks.
#[derive(Debug, Clone, Copy)]
pub struct Fp8<'a> {
    bytes: &'a [u8],
    columns: usize,
    scales: Scales<'a>,
    /// The row of the whole matrix with which the bytes begin.
    first_row: usize,
}

/// What each block of rows and columns is multiplied by, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Scales<'a> {
    pub values: &'a [f32],
    pub block_rows: usize,
    pub block_columns: usize,
}

impl<'a> Fp8<'a> {
    /// # Panics
    /// When there are not as many scales as blocks.
    pub fn new(bytes: &'a [u8], columns: usize, scales: Scales<'a>) -> Fp8<'a> {
        let rows = bytes.len() / columns;
        let blocks = rows.div_ceil(scales.block_rows) * columns.div_ceil(scales.block_columns);
        assert_eq!((bytes.len(), scales.values.len()), (rows * columns, blocks), "fp8: values and scales");
        Fp8 { bytes, columns, scales, first_row: 0 }
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.bytes.len()
    }

    /// The rows of which values `start..end` are.
    pub fn part(&self, start: usize, end: usize) -> Fp8<'a> {
        Fp8 { bytes: &self.bytes[start..end], first_row: self.first_row + start / self.columns, ..*self }
    }

    /// Values `start..start + out.len()` as f32.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        let Scales { values, block_rows, block_columns } = self.scales;
        let of_row = self.columns.div_ceil(block_columns);
        let mut at = 0;
        while at < out.len() {
            let (row, column) = ((start + at) / self.columns, (start + at) % self.columns);
            let scales = &values[(self.first_row + row) / block_rows * of_row..][..of_row];
            // To the end of the block's columns or of what is asked for.
            let end = (column / block_columns + 1).saturating_mul(block_columns).min(self.columns);
            let count = (end - column).min(out.len() - at);
            let scale = scales[column / block_columns];
            let bytes = &self.bytes[start + at..start + at + count];
            out[at..at + count].iter_mut().zip(bytes).for_each(|(out, byte)| *out = E4M3[*byte as usize] * scale);
            at += count;
        }
    }
}

/// Every byte's value: a sign, four bits of exponent with the bias 7, three of mantissa; all bits set are no number.
static E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (exponent, mantissa) = ((byte >> 3) & 15, (byte & 7) as f32);
        let magnitude = match exponent {
            // 2^-9 each.
            0 => mantissa * 0.001_953_125,
            15 if byte & 7 == 7 => f32::NAN,
            _ => (8.0 + mantissa) * f32::from_bits(((exponent as u32) + 127 - 10) << 23),
        };
        table[byte] = if byte & 128 == 0 { magnitude } else { -magnitude };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// As torch.float8_e4m3fn has them.
    #[test]
    fn bytes_are_e4m3() {
        for (byte, value) in [
            (0x00, 0.0),
            (0x01, 0.001953125),
            (0x07, 0.013671875),
            (0x08, 0.015625),
            (0x38, 1.0),
            (0x39, 1.125),
            (0x7e, 448.0),
        ] {
            assert_eq!(E4M3[byte], value, "{byte:#x}");
            assert_eq!(E4M3[byte | 0x80], -value, "{byte:#x}");
        }
        assert!(E4M3[0x7f].is_nan() && E4M3[0xff].is_nan());
    }

    /// tests/golden/fp8.py
    #[test]
    fn a_matrix_is_dequantised_as_in_transformers() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../../tests/golden/fp8.json")).unwrap();
        let floats = |key: &str| golden[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32);
        let hex = golden["bytes"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let scales: Vec<f32> = floats("scales").collect();
        let mut out = vec![f32::NAN; bytes.len()];
        Fp8::new(&bytes, 36, Scales { values: &scales, block_rows: 4, block_columns: 12 }).widen(0, &mut out);
        assert_eq!(out, floats("values").collect::<Vec<_>>());
    }

    #[test]
    fn every_part_has_the_scales_of_its_blocks() {
        // 5 rows of 7, blocks of 2 by 3: the last of both are cut.
        let bytes = [0x38; 35];
        let values: Vec<f32> = (1..=9).map(|scale| scale as f32).collect();
        let whole = Fp8::new(&bytes, 7, Scales { values: &values, block_rows: 2, block_columns: 3 });
        let expected = |at: usize| (at / 7 / 2 * 3 + at % 7 / 3 + 1) as f32;
        for (start, len) in [(0, 35), (7, 14), (3, 1), (5, 20), (34, 1)] {
            let mut out = vec![0.0; len];
            whole.widen(start, &mut out);
            assert_eq!(out, (start..start + len).map(expected).collect::<Vec<_>>(), "{start} {len}");
        }
        let mut out = vec![0.0; 7];
        whole.part(14, 35).widen(7, &mut out);
        assert_eq!(out, (21..28).map(expected).collect::<Vec<_>>());
    }
}
