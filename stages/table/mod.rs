//! Tables: their documented columns, their Parquet form, and the hash of what they say.

pub mod columns;
mod content;
pub mod folders;
mod guarded;
mod lately;
mod parquet_file;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};

pub use content::column_hashes;
pub use guarded::guarded;
pub use lately::lately;
pub use parquet_file::{batches, read, row_count, stated, unreadable, write};

/// A table's name and columns, as `strata tables` and the Parquet metadata describe them.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub name: &'static str,
    /// The names that its parts lie under, outermost first: those of its nodes' bindings.
    pub folders: &'static [Folder],
    pub columns: &'static [Column],
}

/// A folder of a table's view (`model=base`), which readers show as a column of text.
#[derive(Debug, Clone, Copy)]
pub struct Folder {
    pub name: &'static str,
    /// What it names.
    pub about: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// What it is, with its unit.
    pub about: &'static str,
}

/// The types a column can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    U32,
    F32,
    F64,
    Text,
    /// Variable-length list of u32 (token ids).
    U32List,
    /// Variable-length list of f32: vectors of one length in each part, which need not be that of another part.
    F32List,
    /// Fixed-size list of f32; its length is the same for all parts of a table.
    Vector,
}

pub const fn column(name: &'static str, kind: Kind, about: &'static str) -> Column {
    Column { name, kind, about }
}

pub const fn folder(name: &'static str, about: &'static str) -> Folder {
    Folder { name, about }
}

impl Table {
    /// A batch of this table from one array per column, in the order of `columns`. A column may hold nulls.
    ///
    /// # Errors
    /// When an array is missing, has another type than its column, or another length than the rest.
    pub fn batch(&self, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
        if arrays.len() != self.columns.len() {
            bail!("table {} has {} columns, {} were given", self.name, self.columns.len(), arrays.len());
        }
        let mut fields = Vec::new();
        for (column, array) in self.columns.iter().zip(&arrays) {
            if !column.kind.holds(array.data_type()) {
                bail!("column {}.{} is {:?}, not {}", self.name, column.name, column.kind, array.data_type());
            }
            let about = HashMap::from([("description".to_string(), column.about.to_string())]);
            fields.push(Field::new(column.name, array.data_type().clone(), true).with_metadata(about));
        }
        let metadata = HashMap::from([("strata.table".to_string(), self.name.to_string())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        RecordBatch::try_new(schema, arrays).with_context(|| format!("table {}", self.name))
    }
}

impl Kind {
    fn holds(self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (Kind::Bool, DataType::Boolean)
            | (Kind::U32, DataType::UInt32)
            | (Kind::F32, DataType::Float32)
            | (Kind::F64, DataType::Float64)
            | (Kind::Text, DataType::Utf8) => true,
            (Kind::U32List, DataType::List(item)) => *item.data_type() == DataType::UInt32,
            (Kind::F32List, DataType::List(item)) => *item.data_type() == DataType::Float32,
            (Kind::Vector, DataType::FixedSizeList(item, _)) => *item.data_type() == DataType::Float32,
            _ => false,
        }
    }
}

/// A column of a batch as its concrete array type.
pub fn values<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let array = batch.column_by_name(name).with_context(|| format!("no column \"{name}\""))?;
    let found = array.data_type();
    array.as_any().downcast_ref().with_context(|| format!("column \"{name}\" has the unexpected type {found}"))
}

/// A vector column as one row-major slice and its vectors' length.
///
/// # Errors
/// When there is no such column, or its lists differ in length.
pub fn vectors<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a [f32], usize)> {
    if let Ok(list) = values::<ListArray>(batch, name) {
        return lists(list).with_context(|| format!("column \"{name}\""));
    }
    let list: &FixedSizeListArray = values(batch, name)?;
    let width = list.value_length() as usize;
    let flat = list.values().as_any().downcast_ref::<Float32Array>();
    let flat = flat.with_context(|| format!("column \"{name}\" does not hold float32"))?.values();
    Ok((&flat[list.offset() * width..(list.offset() + list.len()) * width], width))
}

fn lists(list: &ListArray) -> Result<(&[f32], usize)> {
    let offsets = list.value_offsets();
    let width = offsets.get(1).map_or(1, |end| end - offsets[0]);
    if let Some(pair) = offsets.windows(2).find(|pair| pair[1] - pair[0] != width) {
        bail!("vectors of {width} numbers and of {}", pair[1] - pair[0]);
    }
    let flat = list.values().as_any().downcast_ref::<Float32Array>().context("does not hold float32")?;
    let (start, end) = (offsets[0] as usize, offsets[list.len()] as usize);
    Ok((&flat.values()[start..end], width as usize))
}

/// A column of [`Kind::F32List`] from row-major values.
///
/// # Errors
/// When they are more than the 2^31 - 1 that a part's list column can hold.
pub fn list_array(values: Vec<f32>, width: usize) -> Result<ArrayRef> {
    if i32::try_from(values.len()).is_err() {
        bail!(
            "{} numbers in one part of a table; it holds {}: ask for smaller parts (part of stages.examples)",
            values.len(),
            i32::MAX
        );
    }
    let lengths = std::iter::repeat_n(width, values.len() / width.max(1));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Ok(Arc::new(ListArray::try_new(
        item,
        OffsetBuffer::from_lengths(lengths),
        Arc::new(Float32Array::from(values)),
        None,
    )?))
}

/// A vector column from row-major values.
pub fn vector_array(values: Vec<f32>, width: usize) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let list = FixedSizeListArray::try_new(item, width as i32, Arc::new(Float32Array::from(values)), None)?;
    Ok(Arc::new(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_one_length_are_vectors() {
        const TABLE: Table = Table { name: "test", folders: &[], columns: &[column("vector", Kind::F32List, "")] };
        let values: Vec<f32> = (0..6u8).map(f32::from).collect();
        let batch = TABLE.batch(vec![list_array(values.clone(), 3).unwrap()]).unwrap();
        assert_eq!(vectors(&batch, "vector").unwrap(), (&values[..], 3));
        assert_eq!(vectors(&batch.slice(1, 1), "vector").unwrap(), (&values[3..], 3));
        assert_eq!(vectors(&batch.slice(0, 0), "vector").unwrap().0, [0f32; 0]);
        let other = TABLE.batch(vec![list_array(values, 2).unwrap()]).unwrap();
        let mixed = arrow::compute::concat_batches(&batch.schema(), [&batch, &other]).unwrap();
        assert_eq!(
            format!("{:#}", vectors(&mixed, "vector").unwrap_err()),
            "column \"vector\": vectors of 3 numbers and of 2"
        );
    }
}
