//! The hash of a column's values, independent of how Parquet encodes them.
//!
//! Downstream keys hold these instead of the file's bytes: a rerun that gives the same values stops the
//! change there, and a new version of the Parquet writer reruns nothing.

use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrowPrimitiveType, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, ListArray, PrimitiveArray,
    RecordBatch, StringArray, UInt32Array,
};
use arrow::datatypes::DataType;

/// blake3 of every column: its type, its length, which rows are null, and the values of the others.
///
/// # Errors
/// When a column has a type that no [`super::Kind`] describes.
pub fn column_hashes(batch: &RecordBatch) -> anyhow::Result<BTreeMap<String, blake3::Hash>> {
    let mut hashes = BTreeMap::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let mut hasher = Buffered::default();
        hash_array(&mut hasher, array.as_ref())?;
        hashes.insert(field.name().clone(), hasher.finish());
    }
    Ok(hashes)
}

/// Collects short values, since blake3 hashes long stretches several times faster.
#[derive(Default)]
struct Buffered {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

impl Buffered {
    const CAPACITY: usize = 1 << 16;

    fn update(&mut self, bytes: &[u8]) -> &mut Buffered {
        if self.buffer.len() + bytes.len() > Buffered::CAPACITY {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        if bytes.len() > Buffered::CAPACITY {
            self.hasher.update(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self
    }

    fn finish(mut self) -> blake3::Hash {
        self.hasher.update(&self.buffer);
        self.hasher.finalize()
    }
}

fn hash_array(hasher: &mut Buffered, array: &dyn Array) -> anyhow::Result<()> {
    hasher.update(&(array.len() as u64).to_le_bytes());
    if array.null_count() > 0 {
        let nulls: Vec<u8> = (0..array.len()).map(|row| array.is_null(row) as u8).collect();
        hasher.update(b"nulls").update(&nulls);
    }
    // Downcasts cannot fail below: each follows from the data type just matched.
    match array.data_type() {
        DataType::Boolean => {
            let array = array.as_any().downcast_ref::<BooleanArray>().expect("bool");
            let bytes: Vec<u8> = array.iter().map(|value| value.unwrap_or_default() as u8).collect();
            hasher.update(b"bool").update(&bytes);
        }
        DataType::UInt32 => {
            let array = array.as_any().downcast_ref::<UInt32Array>().expect("u32");
            hasher.update(b"u32");
            match as_they_lie(array) {
                Some(bytes) => {
                    hasher.update(bytes);
                }
                None => write_words(hasher, array.iter().map(|value| value.unwrap_or_default().to_le_bytes())),
            }
        }
        DataType::Float32 => {
            let array = array.as_any().downcast_ref::<Float32Array>().expect("f32");
            hasher.update(b"f32");
            match as_they_lie(array) {
                Some(bytes) => {
                    hasher.update(bytes);
                }
                None => write_words(hasher, array.iter().map(|value| value.unwrap_or_default().to_le_bytes())),
            }
        }
        DataType::Float64 => {
            let array = array.as_any().downcast_ref::<Float64Array>().expect("f64");
            hasher.update(b"f64");
            match as_they_lie(array) {
                Some(bytes) => {
                    hasher.update(bytes);
                }
                None => write_words(hasher, array.iter().map(|value| value.unwrap_or_default().to_le_bytes())),
            }
        }
        DataType::Utf8 => {
            let array = array.as_any().downcast_ref::<StringArray>().expect("utf8");
            hasher.update(b"text");
            for value in array.iter() {
                let value = value.unwrap_or_default();
                hasher.update(&(value.len() as u64).to_le_bytes()).update(value.as_bytes());
            }
        }
        DataType::List(_) => {
            let array = array.as_any().downcast_ref::<ListArray>().expect("list");
            hasher.update(b"list");
            for row in 0..array.len() {
                hash_array(hasher, array.value(row).as_ref())?;
            }
        }
        DataType::FixedSizeList(_, width) => {
            let list = array.as_any().downcast_ref::<FixedSizeListArray>().expect("fixed-size list");
            let width = *width as usize;
            hasher.update(b"vector").update(&(width as u64).to_le_bytes());
            let inner = list.values().slice(list.offset() * width, list.len() * width);
            hash_array(hasher, inner.as_ref())?;
        }
        other => anyhow::bail!("no content hash is defined for a column of type {other}"),
    }
    Ok(())
}

/// The bytes of an array's values, where they are those that are hashed: little-endian, and none in a null's place.
fn as_they_lie<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> Option<&[u8]> {
    (cfg!(target_endian = "little") && array.null_count() == 0).then(|| array.values().inner().as_slice())
}

fn write_words<const N: usize>(hasher: &mut Buffered, words: impl Iterator<Item = [u8; N]>) {
    for word in words {
        hasher.update(&word);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;

    use super::*;

    fn hash(array: ArrayRef) -> blake3::Hash {
        column_hashes(&RecordBatch::try_from_iter([("x", array)]).unwrap()).unwrap()["x"]
    }

    #[test]
    fn a_columns_hash_is_of_its_values_and_not_of_how_they_lie() {
        let values = Float32Array::from(vec![9.0, 1.5, -2.0, 7.0]);
        let mut bytes = [&2u64.to_le_bytes()[..], b"f32"].concat();
        [1.5f32, -2.0].iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        let expected = blake3::hash(&bytes);
        assert_eq!(hash(Arc::new(values.slice(1, 2))), expected);
        assert_eq!(hash(Arc::new(Float32Array::from(vec![1.5, -2.0]))), expected);
        let with_null = |beneath: f32| {
            let nulls = arrow::buffer::NullBuffer::from(vec![true, false]);
            Float32Array::new(vec![1.5, beneath].into(), Some(nulls))
        };
        assert_eq!(hash(Arc::new(with_null(3.0))), hash(Arc::new(with_null(4.0))), "nothing lies in a null's place");
        assert_ne!(hash(Arc::new(with_null(-2.0))), expected);
    }
}
