//! Quantised weights: blocks of 32 or 256 values that share their scales, dequantised by candle as llama.cpp does.

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};
use candle_core::quantized::{GgmlDType, GgmlType};

/// Blocks as they lie in a file.
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
    dtype: GgmlDType,
}

impl<'a> Blocks<'a> {
    /// `None` for a kind of blocks that is not dequantised, or bytes that are no whole blocks.
    pub fn new(bytes: &'a [u8], dtype: GgmlDType) -> Option<Blocks<'a>> {
        use GgmlDType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        let known = matches!(dtype, Q2K | Q3K | Q4_0 | Q4_1 | Q4K | Q5_0 | Q5_1 | Q5K | Q6K | Q8_0);
        (known && bytes.len().is_multiple_of(dtype.type_size())).then_some(Blocks { bytes, dtype })
    }

    /// How many values they hold.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.dtype.type_size() * self.dtype.block_size()
    }

    /// Values `start..end` alone.
    ///
    /// # Panics
    /// When a block lies across an end.
    pub fn part(&self, start: usize, end: usize) -> Blocks<'a> {
        let (size, values) = (self.dtype.type_size(), self.dtype.block_size());
        assert!(start.is_multiple_of(values) && end.is_multiple_of(values), "a part of whole blocks");
        Blocks { bytes: &self.bytes[start / values * size..end / values * size], ..*self }
    }

    /// Values `start..start + out.len()` as f32.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        let values = self.dtype.block_size();
        let (first, end) = (start / values * values, (start + out.len()).next_multiple_of(values));
        let part = self.part(first, end);
        if first == start && end == start + out.len() {
            return part.dequantize(out);
        }
        let mut whole = vec![0.0; end - first];
        part.dequantize(&mut whole);
        out.copy_from_slice(&whole[start - first..][..out.len()]);
    }

    fn dequantize(&self, out: &mut [f32]) {
        match self.dtype {
            GgmlDType::Q2K => dequantize::<BlockQ2K>(self.bytes, out),
            GgmlDType::Q3K => dequantize::<BlockQ3K>(self.bytes, out),
            GgmlDType::Q4_0 => dequantize::<BlockQ4_0>(self.bytes, out),
            GgmlDType::Q4_1 => dequantize::<BlockQ4_1>(self.bytes, out),
            GgmlDType::Q4K => dequantize::<BlockQ4K>(self.bytes, out),
            GgmlDType::Q5_0 => dequantize::<BlockQ5_0>(self.bytes, out),
            GgmlDType::Q5_1 => dequantize::<BlockQ5_1>(self.bytes, out),
            GgmlDType::Q5K => dequantize::<BlockQ5K>(self.bytes, out),
            GgmlDType::Q6K => dequantize::<BlockQ6K>(self.bytes, out),
            GgmlDType::Q8_0 => dequantize::<BlockQ8_0>(self.bytes, out),
            other => unreachable!("{other:?} is refused when the blocks are made"),
        }
    }
}

fn dequantize<B: GgmlType>(bytes: &[u8], out: &mut [f32]) {
    // SAFETY: these blocks are arrays of integers and of f16s, `repr(C)`: every bit pattern is one.
    match unsafe { bytes.align_to::<B>() } {
        ([], blocks, []) => B::to_float(blocks, out),
        // At an odd address.
        _ => {
            let size = size_of::<B>();
            for (bytes, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(B::BLCK_SIZE)) {
                let mut block = [B::zeros()];
                // SAFETY: both are `size` bytes, and every bit pattern is a block.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), block.as_mut_ptr().cast(), size) };
                B::to_float(&block, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::model::ops::test_values::values;

    /// tests/golden/quantised.py
    #[test]
    fn blocks_are_those_of_gguf() {
        let golden = include_str!("../../../tests/golden/quantised.json");
        let golden: serde_json::Map<String, serde_json::Value> = serde_json::from_str(golden).unwrap();
        assert_eq!(golden.len(), 10);
        for (name, of) in &golden {
            let hex = of["bytes"].as_str().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
            let dtype = match name.as_str() {
                "Q4_0" => GgmlDType::Q4_0,
                "Q4_1" => GgmlDType::Q4_1,
                "Q5_0" => GgmlDType::Q5_0,
                "Q5_1" => GgmlDType::Q5_1,
                "Q8_0" => GgmlDType::Q8_0,
                "Q2_K" => GgmlDType::Q2K,
                "Q3_K" => GgmlDType::Q3K,
                "Q4_K" => GgmlDType::Q4K,
                "Q5_K" => GgmlDType::Q5K,
                "Q6_K" => GgmlDType::Q6K,
                other => panic!("{other}"),
            };
            let blocks = Blocks::new(&bytes, dtype).unwrap();
            let expected: Vec<f64> = of["values"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let mut found = vec![f32::NAN; blocks.count()];
            blocks.widen(0, &mut found);
            assert_eq!(found.len(), expected.len(), "{name}");
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((*found as f64 - expected).abs() <= 1e-6 * largest, "{name}: {found} and {expected}");
            }
        }
    }

    #[test]
    fn any_part_is_that_of_the_whole_at_any_address() {
        use GgmlDType::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        for dtype in [Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0] {
            let original = Tensor::from_vec(values(4 * 512, 1), (4, 512), &Device::Cpu).unwrap();
            let quantized = QTensor::quantize(&original, dtype).unwrap();
            let whole = quantized.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bytes = quantized.data().unwrap().into_owned();
            let odd = [&[0], bytes.as_slice()].concat();
            for bytes in [bytes.as_slice(), &odd[1..]] {
                let blocks = Blocks::new(bytes, dtype).unwrap();
                assert_eq!(blocks.count(), whole.len(), "{dtype:?}");
                for (start, len) in [(0, 2048), (512, 1024), (256, 256), (700, 1), (5, 900)] {
                    let mut part = vec![f32::NAN; len];
                    blocks.widen(start, &mut part);
                    assert_eq!(part, whole[start..start + len], "{dtype:?} {start} {len}");
                }
                let mut row = vec![0.0; 512];
                blocks.part(512, 1536).widen(512, &mut row);
                assert_eq!(row, whole[1024..1536], "{dtype:?}");
            }
        }
        assert!(Blocks::new(&[0; 17], Q4_0).is_none());
        assert!(Blocks::new(&[0; 36], GgmlDType::Q8_1).is_none());
    }
}
