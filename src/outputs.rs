//! Whether outputs can be those of a stage's task: what a record says is held against what the stage declares.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow::array::RecordBatch;
use strata_stages::{Outputs, Stage, Work, table};

use crate::store::OutputRecord;

/// For each column of a table's part the hash of its values, as records and keys hold it: 32 hexadecimal digits.
///
/// # Errors
/// When a column has a type that no table has.
pub fn columns(batch: &RecordBatch) -> Result<BTreeMap<String, String>> {
    let hashes = table::column_hashes(batch)?.into_iter();
    Ok(hashes.map(|(name, hash)| (name, hash.to_hex()[..32].to_string())).collect())
}

/// Why these cannot be the outputs of one task of the stage; `None` when they can. A task of a node that works `by_part` has at
/// least one part for the part it read.
pub fn unfit(stage: &Stage, by_part: bool, outputs: &[OutputRecord]) -> Option<String> {
    if (by_part || matches!(stage.work, Work::Watch(_))) && outputs.is_empty() {
        return Some("no part".to_string());
    }
    let named = |wanted: &str| outputs.iter().any(|output| output.file_name() == wanted);
    match stage.outputs {
        Outputs::Table(table) => outputs.iter().find_map(|output| {
            if output.name.is_some() || output.extension.as_ref().is_none_or(|ending| ending.as_str() != "parquet") {
                return Some("a file instead of a part of a table".to_string());
            }
            let mut columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            columns.sort_unstable();
            let same = output.columns.keys().map(String::as_str).eq(columns.iter().copied());
            (!same).then(|| {
                let found: Vec<&str> = output.columns.keys().map(String::as_str).collect();
                format!("the columns {} instead of {}", found.join(", "), columns.join(", "))
            })
        }),
        Outputs::Model | Outputs::Corpus | Outputs::Files { .. }
            if outputs.iter().any(|output| output.name.is_none()) =>
        {
            Some("a file without a name".to_string())
        }
        Outputs::Model if !named("config.json") => Some("a model without config.json".to_string()),
        Outputs::Files { open } if !open.is_empty() && !named(open) => Some(format!("no {open}")),
        Outputs::Corpus if outputs.is_empty() => Some("no file".to_string()),
        Outputs::Model | Outputs::Corpus | Outputs::Files { .. } => None,
    }
}
