//! What a stage's tasks gave, in two kinds: what no processor rounds in another way, as a hash, and floats, as values.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, Float32Array, Float64Array, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use safetensors::SafeTensors;
use strata_stages::table::{self, Kind, Table, column};
use strata_stages::{Outputs, Stage};

/// All that a stage gave.
pub struct Found {
    /// Of whole numbers, texts, booleans, and of files that are none of floats.
    pub exact: String,
    pub floats: Vec<Floats>,
}

/// One column of floats in one file, or one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Floats {
    /// The file's path below the stage's folder.
    pub file: String,
    pub column: String,
    /// The length of a vector; 1 for a column of numbers.
    pub width: usize,
    /// Row-major; NaN where a number is null.
    pub values: Vec<f32>,
}

/// Columns of whole numbers that follow from how floats compare, which rounding can turn at a near tie.
pub const BY_FLOATS: [(&str, &str); 1] = [("token_losses", "rank")];

/// Whether a column of this kind holds what a processor could round in another way.
pub fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::F32 | Kind::F64 | Kind::Vector | Kind::F32List)
}

/// What the views below `artifacts/` show of a stage, file by file in the order of their paths. Names order them, not
/// keys: keys hold the hashes of floats.
pub fn read(artifacts: &Path, stage: &Stage) -> Result<Found> {
    let folder = match stage.outputs {
        Outputs::Table(table) => artifacts.join("tables").join(table.name),
        Outputs::Model => artifacts.join("models"),
        Outputs::Corpus | Outputs::Files { .. } => artifacts.join(stage.name),
    };
    let mut hasher = blake3::Hasher::new();
    let mut floats = Vec::new();
    for path in files(&folder)? {
        let file = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
        hasher.update(file.as_bytes());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => add_table(&path, stage.name, &file, &mut hasher, &mut floats)?,
            Some("safetensors") => add_tensors(&fs::read(&path)?, &file, &mut floats)?,
            // The report's text is made of floats, whose tables are compared: which files there are is what is left.
            Some("html" | "svg") => {}
            _ => {
                hasher.update(&fs::read(&path)?);
            }
        }
    }
    Ok(Found { exact: hasher.finalize().to_hex()[..16].to_string(), floats })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

fn add_table(
    path: &Path,
    stage: &str,
    file: &str,
    hasher: &mut blake3::Hasher,
    floats: &mut Vec<Floats>,
) -> Result<()> {
    let batch = table::read(&[path], &[])?;
    for (index, field) in batch.schema().fields().iter().enumerate() {
        let name = field.name();
        let array = batch.column(index);
        let (width, values) = match field.data_type() {
            DataType::Float32 => {
                (1, table::values::<Float32Array>(&batch, name)?.iter().map(|x| x.unwrap_or(f32::NAN)).collect())
            }
            DataType::Float64 => {
                let values: &Float64Array = table::values(&batch, name)?;
                (1, values.iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect())
            }
            DataType::List(item) | DataType::FixedSizeList(item, _) if item.data_type() == &DataType::Float32 => {
                let (values, width) = table::vectors(&batch, name)?;
                (width, values.to_vec())
            }
            DataType::UInt32 if BY_FLOATS.contains(&(stage, name)) => {
                let values: &UInt32Array = table::values(&batch, name)?;
                (1, values.iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect())
            }
            _ => {
                let column = RecordBatch::try_from_iter([(name, array.clone())])?;
                for hash in table::column_hashes(&column)?.into_values() {
                    hasher.update(name.as_bytes()).update(hash.as_bytes());
                }
                continue;
            }
        };
        floats.push(Floats { file: file.into(), column: name.clone(), width, values });
    }
    Ok(())
}

fn add_tensors(bytes: &[u8], file: &str, floats: &mut Vec<Floats>) -> Result<()> {
    let mut tensors = SafeTensors::deserialize(bytes)?.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in tensors {
        if tensor.dtype() != safetensors::Dtype::F32 {
            bail!("{name} in {file} is {:?}; trained models are float32", tensor.dtype());
        }
        let values = tensor.data().chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
        floats.push(Floats { file: file.into(), column: name, width: 1, values });
    }
    Ok(())
}

const VALUES: Table = Table {
    name: "values",
    folders: &[],
    columns: &[
        column("file", Kind::Text, "the file's path below the stage's folder"),
        column("column", Kind::Text, "a column of floats, or a tensor"),
        column("width", Kind::U32, "the length of a vector"),
        column("values", Kind::F32List, "its values, row after row; NaN stands for null"),
    ],
};

/// Writes values as one Parquet file, which any reader of Parquet shows.
pub fn write(path: &Path, floats: &[Floats]) -> Result<()> {
    let lengths = OffsetBuffer::from_lengths(floats.iter().map(|floats| floats.values.len()));
    let values = Float32Array::from_iter_values(floats.iter().flat_map(|floats| floats.values.iter().copied()));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let batch = VALUES.batch(vec![
        Arc::new(StringArray::from_iter_values(floats.iter().map(|floats| &floats.file))),
        Arc::new(StringArray::from_iter_values(floats.iter().map(|floats| &floats.column))),
        Arc::new(UInt32Array::from_iter_values(floats.iter().map(|floats| floats.width as u32))),
        Arc::new(ListArray::try_new(item, lengths, Arc::new(values), None)?),
    ])?;
    table::write(fs::File::create(path)?, &batch, &BTreeMap::new())
}

/// The values written before.
pub fn load(path: &Path) -> Result<Vec<Floats>> {
    let batch = table::read(&[path], &[])?;
    let files: &StringArray = table::values(&batch, "file")?;
    let columns: &StringArray = table::values(&batch, "column")?;
    let widths: &UInt32Array = table::values(&batch, "width")?;
    let lists: &ListArray = table::values(&batch, "values")?;
    let floats = |row: usize| {
        let list = lists.value(row);
        let values = list.as_any().downcast_ref::<Float32Array>().context("a list of float32")?.values().to_vec();
        let (file, column) = (files.value(row).to_string(), columns.value(row).to_string());
        Ok(Floats { file, column, width: widths.value(row) as usize, values })
    };
    (0..batch.num_rows()).map(floats).collect()
}

#[test]
fn written_values_are_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("values.parquet");
    let floats = |column: &str, width, values: &[f32]| Floats {
        file: "a/part-00000.parquet".into(),
        column: column.into(),
        width,
        values: values.to_vec(),
    };
    let some = [floats("vector", 2, &[1.0, -2.5, 3.0, 1e-30]), floats("mean", 1, &[]), floats("p", 1, &[0.5])];
    write(&path, &some).expect("written");
    assert_eq!(load(&path).expect("read"), some);
}
