//! Rows of a Parquet file as JSON values, as the other formats give them.

use std::fs::File;

use anyhow::{Context, Result, bail};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, OffsetSizeTrait, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::basic::Compression;
use parquet::file::metadata::RowGroupMetaData;
use serde_json::{Map, Value};

use super::row::{CHUNK, CHUNK_BYTES, Found, Row, numbered};
use crate::table;

pub struct ParquetRows {
    batches: ParquetRecordBatchReader,
    /// The file's.
    bytes: u64,
    /// The rows of the batch just read, last first.
    rows: Vec<Map<String, Value>>,
    /// The numbers of the rows to come.
    numbers: Box<dyn Iterator<Item = usize>>,
}

impl ParquetRows {
    /// # Errors
    /// When it is damaged, or compressed in a way that is not read.
    pub fn open(file: File) -> Result<ParquetRows> {
        let bytes = file.metadata()?.len();
        let batches = builder(file)?.build().map_err(|error| table::unreadable(error, bytes))?;
        Ok(ParquetRows { batches, bytes, rows: Vec::new(), numbers: Box::new(0..) })
    }

    /// Rows of these numbers, which ascend; pages without one are passed over.
    ///
    /// # Errors
    /// As for [`ParquetRows::open`].
    pub fn again(file: File, found: Vec<Found>) -> Result<ParquetRows> {
        let bytes = file.metadata()?.len();
        let builder = builder(file)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let numbers: Vec<usize> = found.iter().map(|found| found.at as usize).collect();
        if numbers.last().is_some_and(|last| *last as i64 >= rows) {
            bail!("the file has become shorter");
        }
        let ranges = numbers.iter().map(|number| *number..number + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, usize::try_from(rows)?);
        let batches = builder.with_row_selection(selection).build().map_err(|error| table::unreadable(error, bytes))?;
        Ok(ParquetRows { batches, bytes, rows: Vec::new(), numbers: Box::new(numbers.into_iter()) })
    }
}

/// A reader of batches that take no more memory than chunks of rows, as far as the file says how large its rows are.
fn builder(file: File) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let bytes = file.metadata()?.len();
    let builder = table::guarded("parquet", || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let builder = builder.map_err(|error| table::unreadable(error, bytes))?;
    let groups = builder.metadata().row_groups();
    for chunk in groups.iter().flat_map(|group| group.columns()) {
        if !matches!(chunk.compression(), Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)) {
            let codec = format!("{:?}", chunk.compression()).to_lowercase();
            bail!(
                "column \"{}\" is compressed with {}, and only snappy, zstd and uncompressed Parquet is read: write \
                 the file again, for example with duckdb -c \"copy (from 'OLD.parquet') to 'NEW.parquet'\"",
                chunk.column_path().string(),
                codec.split('(').next().unwrap_or_default()
            );
        }
    }
    let a_row = |group: &RowGroupMetaData| group.total_byte_size() / group.num_rows().max(1);
    let largest = groups.iter().map(a_row).max().unwrap_or(0).max(1) as usize;
    let rows = (CHUNK_BYTES / largest).clamp(1, CHUNK);
    Ok(builder.with_batch_size(rows))
}

impl Iterator for ParquetRows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        while self.rows.is_empty() {
            let batch = match table::guarded("parquet", || self.batches.next()) {
                Ok(batch) => batch?.map_err(|error| table::unreadable(error, self.bytes)),
                Err(error) => Err(error),
            };
            match batch.and_then(|batch| rows(&batch)) {
                Ok(rows) => self.rows = rows,
                Err(error) => return Some(Err(error)),
            }
            self.rows.reverse();
        }
        let row = self.rows.pop()?;
        Some(numbered(self.numbers.next()?, row))
    }
}

fn rows(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>> {
    let mut rows = vec![Map::new(); batch.num_rows()];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let values = values(column).with_context(|| format!("column \"{}\"", field.name()))?;
        for (row, value) in rows.iter_mut().zip(values) {
            row.insert(field.name().clone(), value);
        }
    }
    Ok(rows)
}

/// An array's values as JSON. Dates, decimals and the like become their text.
fn values(array: &ArrayRef) -> Result<Vec<Value>> {
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => {
            array.as_any().downcast_ref::<BooleanArray>().context("a boolean array")?.iter().map(Value::from).collect()
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let cast = cast(array, &DataType::UInt64)?;
            cast.as_any().downcast_ref::<UInt64Array>().context("an integer array")?.iter().map(Value::from).collect()
        }
        data_type if data_type.is_integer() => {
            let cast = cast(array, &DataType::Int64)?;
            cast.as_any().downcast_ref::<Int64Array>().context("an integer array")?.iter().map(Value::from).collect()
        }
        data_type if data_type.is_floating() => {
            let cast = cast(array, &DataType::Float64)?;
            cast.as_any().downcast_ref::<Float64Array>().context("a float array")?.iter().map(Value::from).collect()
        }
        DataType::Dictionary(_, item) => values(&cast(array, item)?)?,
        DataType::List(_) => lists::<i32>(array)?,
        DataType::LargeList(_) => lists::<i64>(array)?,
        DataType::Struct(_) => {
            let group = array.as_struct();
            let mut rows = vec![Map::new(); group.len()];
            for (name, column) in group.column_names().into_iter().zip(group.columns()) {
                for (row, value) in rows.iter_mut().zip(values(column)?) {
                    row.insert(name.into(), value);
                }
            }
            let object = |(i, row)| if group.is_null(i) { Value::Null } else { Value::Object(row) };
            rows.into_iter().enumerate().map(object).collect()
        }
        other => {
            let Ok(text) = cast(array, &DataType::Utf8) else { bail!("values of type {other} cannot be read as text") };
            text.as_any().downcast_ref::<StringArray>().context("a text array")?.iter().map(Value::from).collect()
        }
    })
}

fn lists<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<Vec<Value>> {
    let list = array.as_list::<O>();
    let list_or_null = |i| if list.is_null(i) { Ok(Value::Null) } else { values(&list.value(i)).map(Value::Array) };
    (0..list.len()).map(list_or_null).collect()
}
