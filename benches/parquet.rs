//! How long a table takes to be written and read: hidden states, which are one column of vectors, or pairs, which are small columns and
//! texts. `benches/parquet.py` runs it beside pyarrow.
//!
//!     cargo run --release -p strata-stages --example parquet -- (write | read) (vectors | pairs) FILE

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, BooleanArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use serde_json::json;
use strata_stages::statistics::random::Random;
use strata_stages::table::{self, Kind, Table, column, column_hashes, vector_array};

/// 302 MB of numbers.
const WIDTH: usize = 896;
const STATES: usize = 84_240;
const PAIRS: usize = 4_000_000;

const VECTORS: Table = Table {
    name: "vectors",
    folders: &[],
    columns: &[
        column("example", Kind::Text, ""),
        column("position", Kind::Text, ""),
        column("layer", Kind::U32, ""),
        column("site", Kind::Text, ""),
        column("vector", Kind::Vector, ""),
    ],
};

const SMALL: Table = Table {
    name: "pairs",
    folders: &[],
    columns: &[
        column("position", Kind::Text, ""),
        column("layer", Kind::U32, ""),
        column("centred", Kind::Bool, ""),
        column("example_a", Kind::Text, ""),
        column("example_b", Kind::Text, ""),
        column("cosine", Kind::F32, ""),
    ],
};

fn texts(rows: usize, text: impl Fn(usize) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..rows).map(text)))
}

fn example(number: usize) -> String {
    blake3::hash(&number.to_le_bytes()).to_hex()[..16].to_string()
}

fn batch(kind: &str) -> Result<RecordBatch> {
    let mut random = Random::new(1, 0);
    match kind {
        "vectors" => VECTORS.batch(vec![
            texts(STATES, |row| example(row / 25)),
            texts(STATES, |_| "last".into()),
            Arc::new(UInt32Array::from_iter_values((0..STATES).map(|row| row as u32 % 25))),
            texts(STATES, |_| "residual".into()),
            vector_array((0..STATES * WIDTH).map(|_| random.normal() as f32).collect(), WIDTH)?,
        ]),
        "pairs" => SMALL.batch(vec![
            texts(PAIRS, |_| "last".into()),
            Arc::new(UInt32Array::from(vec![24; PAIRS])),
            Arc::new(BooleanArray::from_iter((0..PAIRS).map(|row| Some(row % 2 == 1)))),
            texts(PAIRS, |row| example(row / 2000)),
            texts(PAIRS, |row| example(row % 2000)),
            Arc::new(Float32Array::from_iter_values((0..PAIRS).map(|_| random.normal() as f32))),
        ]),
        other => bail!("vectors or pairs, not {other}"),
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("say write or read, vectors or pairs, and a file");
    let (what, kind, path) = (next()?, next()?, PathBuf::from(next()?));
    let seconds = |started: Instant| started.elapsed().as_secs_f64();
    if what == "read" {
        let started = Instant::now();
        let rows = table::read(std::slice::from_ref(&path), &[])?.num_rows();
        println!("{}", json!({ "read": seconds(started), "rows": rows }));
        return Ok(());
    }
    let batch = batch(&kind)?;
    let started = Instant::now();
    let mut out = BufWriter::new(File::create(&path)?);
    table::write(&mut out, &batch, &Default::default())?;
    out.flush()?;
    let write = seconds(started);
    let started = Instant::now();
    let columns = column_hashes(&batch)?.len();
    let hash_of_columns = seconds(started);
    let bytes = std::fs::read(&path)?;
    let started = Instant::now();
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let hash_of_bytes = seconds(started);
    let found = json!({ "write": write, "columns": columns, "hash of columns": hash_of_columns, "hash of bytes": hash_of_bytes,
        "bytes": bytes.len(), "blake3": hash });
    println!("{found}");
    Ok(())
}
