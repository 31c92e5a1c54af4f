//! What a task gives to be stored.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

/// One part of a task's output.
#[derive(Debug)]
pub enum Output {
    /// A table part; `metadata` goes into the Parquet key-value metadata beside the column descriptions.
    Table { batch: RecordBatch, metadata: BTreeMap<String, String> },
    /// A file (a trained model's, a corpus part, a report).
    File { name: String, bytes: Vec<u8> },
}

impl Output {
    pub fn table(batch: RecordBatch) -> Output {
        Output::Table { batch, metadata: BTreeMap::new() }
    }
}
