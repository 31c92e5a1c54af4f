//! Parquet in and out, with bytes that depend on the values alone.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;

use super::guarded::guarded;
use super::lately::lately;

/// Rows that are laid out for the file at a time: what that takes beside the values is then small and used again.
const ROWS: usize = 1 << 10;

/// Bytes of a file whose columns are worth reading side by side.
const LARGE: u64 = 1 << 20;

/// Writes one batch as a Parquet file: snappy, vectors plain (floats of a hidden state do not repeat), and
/// in the metadata the columns' descriptions and what the stage adds, nothing of when or by whom.
pub fn write(out: impl Write + Send, batch: &RecordBatch, metadata: &BTreeMap<String, String>) -> Result<()> {
    let schema = batch.schema();
    let columns: BTreeMap<&str, &str> = schema
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.metadata().get("description").map_or("", |text| text)))
        .collect();
    let mut pairs = vec![KeyValue::new("strata.columns".to_string(), serde_json::to_string(&columns)?)];
    if let Some(table) = schema.metadata().get("strata.table") {
        pairs.push(KeyValue::new("strata.table".to_string(), table.clone()));
    }
    pairs.extend(metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())));

    let mut properties = WriterProperties::builder()
        .set_created_by("strata".to_string())
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(pairs));
    for field in schema.fields() {
        let floats = match field.data_type() {
            DataType::FixedSizeList(item, _) | DataType::List(item) => *item.data_type() == DataType::Float32,
            _ => false,
        };
        if floats {
            let path = ColumnPath::new(vec![field.name().clone(), "list".into(), "item".into()]);
            properties = properties.set_column_dictionary_enabled(path, false);
        }
    }
    // Metadata maps of the Arrow schema have no fixed order, so the embedded Arrow schema is written without them.
    let bare = bare_schema(batch)?;
    let mut writer = ArrowWriter::try_new(out, bare.schema(), Some(properties.build()))?;
    for first in (0..bare.num_rows()).step_by(ROWS) {
        writer.write(&bare.slice(first, ROWS.min(bare.num_rows() - first)))?;
    }
    writer.close()?;
    Ok(())
}

fn bare_schema(batch: &RecordBatch) -> Result<RecordBatch> {
    let fields: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_metadata(std::collections::HashMap::<String, String>::new()))
        .collect();
    let schema = Schema::new(fields);
    Ok(RecordBatch::try_new(schema.into(), batch.columns().to_vec())?)
}

/// All rows of a table's parts in order, with the named columns (all of them where `columns` is empty).
///
/// # Errors
/// When a part cannot be read, lacks a column, or has other columns than the first.
pub fn read<P: AsRef<Path>>(parts: &[P], columns: &[&str]) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    let what = format!("rows {}", columns.join(" "));
    let size = |batches: &Vec<RecordBatch>| batches.iter().map(RecordBatch::get_array_memory_size).sum();
    for part in parts {
        let path = part.as_ref();
        let read = lately(path, &what, size, || guarded("parquet", || read_part(path, columns)).and_then(|read| read));
        batches.extend(read.with_context(|| format!("reading {}", path.display()))?.iter().cloned());
    }
    match batches.as_slice() {
        [] => bail!("a table with no parts was read"),
        [one] => Ok(one.clone()),
        several => Ok(concat_batches(&several[0].schema(), several)?),
    }
}

fn read_part(path: &Path, columns: &[&str]) -> Result<Vec<RecordBatch>> {
    let opened = Opened::new(path, columns)?;
    if opened.bytes < LARGE || opened.roots.len() < 2 {
        return opened.read(&opened.roots);
    }
    // Columns are apart in the file, and unpacking them is most of the work.
    let one = |root: &usize| guarded("parquet", || opened.read(&[*root])).and_then(|read| read);
    let read = opened.roots.par_iter().with_max_len(1).map(one).collect::<Result<Vec<_>>>()?;
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for batches in &read {
        let schema = batches[0].schema();
        let whole = concat_batches(&schema, batches)?;
        fields.extend(schema.fields().iter().cloned());
        arrays.extend(whole.columns().iter().cloned());
    }
    Ok(vec![RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?])
}

/// What a Parquet file says of itself, and its columns that are wanted, by their places in the schema.
struct Opened<'a> {
    path: &'a Path,
    bytes: u64,
    metadata: ArrowReaderMetadata,
    roots: Vec<usize>,
}

impl Opened<'_> {
    fn new<'a>(path: &'a Path, columns: &[&str]) -> Result<Opened<'a>> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let metadata =
            ArrowReaderMetadata::load(&file, Default::default()).map_err(|error| unreadable(error, bytes))?;
        let schema = metadata.schema();
        for name in columns {
            schema.index_of(name).with_context(|| format!("no column \"{name}\""))?;
        }
        let wanted = |name: &String| columns.is_empty() || columns.contains(&name.as_str());
        let fields = schema.fields().iter().enumerate();
        let roots = fields.filter(|(_, field)| wanted(field.name())).map(|(root, _)| root).collect();
        Ok(Opened { path, bytes, metadata, roots })
    }

    /// A reader of some columns, for at most so many rows at a time.
    fn reader(&self, roots: &[usize], rows: usize) -> Result<ParquetRecordBatchReader> {
        // Each has a file of its own: where one reads next belongs to the open file.
        let file = File::open(self.path)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        // All rows at once where the file can hold so many: one that only says so is not given the memory for them.
        let most = self.bytes.max(1 << 16).min(rows as u64) as i64;
        let rows = builder.metadata().file_metadata().num_rows().clamp(1, most) as usize;
        let reader = builder.with_projection(mask).with_batch_size(rows).build();
        reader.map_err(|error| unreadable(error, self.bytes))
    }

    /// All rows of some columns, as at least one batch.
    fn read(&self, roots: &[usize]) -> Result<Vec<RecordBatch>> {
        let mut reader = self.reader(roots, usize::MAX)?;
        let empty = RecordBatch::new_empty(RecordBatchReader::schema(&reader));
        let mut batches = Vec::new();
        for batch in &mut reader {
            batches.push(batch.map_err(|error| unreadable(error, self.bytes))?);
        }
        if batches.is_empty() {
            batches.push(empty);
        }
        Ok(batches)
    }
}

/// A part's rows with the named columns, at most so many at a time, so that it need not be in memory as a whole.
///
/// # Errors
/// When it cannot be read or lacks a column; each batch when it is damaged.
pub fn batches(path: &Path, columns: &[&str], rows: usize) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let context = format!("reading {}", path.display());
    let opened = guarded("parquet", || {
        let opened = Opened::new(path, columns)?;
        Ok((opened.reader(&opened.roots, rows)?, opened.bytes))
    });
    let (mut reader, bytes) = opened.and_then(|opened| opened).with_context(|| context.clone())?;
    Ok(std::iter::from_fn(move || {
        let next = guarded("parquet", || reader.next()).transpose()?;
        let batch = next.and_then(|batch| batch.map_err(|error| unreadable(error, bytes)));
        Some(batch.with_context(|| context.clone()))
    }))
}

/// What is wrong with a Parquet file of so many bytes. The library speaks of its own buffers, and says of a disk's error that it is
/// external and then what it is, twice.
pub fn unreadable(error: impl Error + Send + Sync + 'static, bytes: u64) -> anyhow::Error {
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(system) = inner.downcast_ref::<std::io::Error>() {
            return anyhow::anyhow!("{system}");
        }
        source = inner.source();
    }
    anyhow::Error::new(error).context(format!("it is cut short, damaged or no Parquet file ({bytes} bytes)"))
}

/// What stands under a key in a Parquet file's metadata.
///
/// # Errors
/// When it cannot be read.
pub fn stated(path: &Path, key: &str) -> Result<Option<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let found = pairs.into_iter().flatten().find(|pair| pair.key == key);
    Ok(found.and_then(|pair| pair.value.clone()))
}

/// The rows a Parquet file says it has.
pub fn row_count(path: &Path) -> Result<u64> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    Ok(builder.metadata().file_metadata().num_rows() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, FixedSizeListArray, ListArray, StringArray, UInt32Array};
    use arrow::datatypes::{Float32Type, UInt32Type};
    use parquet::errors::ParquetError;

    #[test]
    fn a_disks_error_is_said_once_and_damage_with_the_files_size() {
        let disk = || std::io::Error::from_raw_os_error(5);
        let external = ParquetError::External(Box::new(disk()));
        assert_eq!(format!("{:#}", unreadable(external, 9)), disk().to_string());
        let damaged = format!("{:#}", unreadable(ParquetError::EOF("Size is 508 but need 4294967303".into()), 508));
        assert!(damaged.starts_with("it is cut short, damaged or no Parquet file (508 bytes): "), "{damaged}");
    }

    /// Of vectors that make the file one whose columns are read side by side.
    const WIDTH: usize = 160;

    #[test]
    fn a_table_written_in_several_strips_is_read_back_whole() {
        // Two whole strips and a last one that is shorter.
        let rows = 2 * ROWS + 452;
        let number = UInt32Array::from_iter_values(0..rows as u32);
        let text = StringArray::from_iter((0..rows).map(|row| (row % 7 > 0).then(|| format!("row {row}"))));
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            (0..rows).map(|row| {
                (row % 5 > 0)
                    .then(|| (0..WIDTH).map(move |place| (place % 9 > 0).then_some((row * WIDTH + place) as f32)))
            }),
            WIDTH as i32,
        );
        let lists = ListArray::from_iter_primitive::<UInt32Type, _, _>(
            (0..rows as u32).map(|row| Some((0..row % 4).map(move |place| Some(row + place)))),
        );
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("number", Arc::new(number)),
            ("text", Arc::new(text)),
            ("vector", Arc::new(vectors)),
            ("list", Arc::new(lists)),
        ];
        let written =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
                .expect("columns of one length");

        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.parquet");
        write(File::create(&path).expect("a file"), &written, &BTreeMap::new()).expect("written");
        assert_eq!(row_count(&path).expect("counted"), rows as u64);
        assert!(path.metadata().expect("a file").len() >= LARGE);
        assert_eq!(read(&[&path], &[]).expect("read"), written);
        let some = read(&[&path], &["list", "number"]).expect("read");
        assert_eq!(some, written.project(&[0, 3]).expect("two columns"), "in the file's order");
        let error = format!("{:#}", read(&[&path], &["number", "nothing"]).expect_err("no such column"));
        assert!(error.contains("no column \"nothing\""), "{error}");
        let strips: Vec<RecordBatch> =
            batches(&path, &[], 300).expect("opened").map(|strip| strip.expect("read")).collect();
        assert_eq!(concat_batches(&written.schema(), &strips).expect("one schema"), written);
    }
}
