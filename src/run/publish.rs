//! A task's outputs become objects, then its record is written.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use strata_stages::{Output, table};

use super::Job;
use crate::store::names::{Extension, FileName};
use crate::store::{FileState, OutputRecord, Record, Store};

/// Keeps what a task gave.
///
/// # Errors
/// When a file of the user's that it read has changed since it was hashed, or the store cannot be written.
pub fn publish(store: &Store, job: &Job, outputs: Vec<Output>, seconds: f64) -> Result<Vec<OutputRecord>> {
    for part in job.inputs.values().flatten() {
        if let Some(then) = part.external
            && FileState::of(&part.part.path).ok() != Some(then)
        {
            bail!(
                "{} changed while it was being read; nothing made from it was kept. Run again",
                part.part.path.display()
            );
        }
    }
    let mut records = Vec::new();
    for output in outputs {
        records.push(publish_output(store, output)?);
    }
    let record = Record {
        document: job.document.clone(),
        outputs: records,
        seconds: (seconds * 1e4).round() / 1e4,
        program: concat!("strata ", env!("CARGO_PKG_VERSION")).to_string(),
    };
    store.write_record(job.key, &record)?;
    Ok(record.outputs)
}

fn publish_output(store: &Store, output: Output) -> Result<OutputRecord> {
    match output {
        Output::Table { batch, metadata } => {
            let hashes = table::column_hashes(&batch)?;
            let columns = hashes.into_iter().map(|(name, hash)| (name, hash.to_hex()[..32].to_string())).collect();
            let extension = Extension::try_from("parquet".to_string())?;
            let (object, bytes) = store.publish(Some(&extension), |out| table::write(out, &batch, &metadata))?;
            let rows = batch.num_rows() as u64;
            Ok(OutputRecord { object, extension: Some(extension), name: None, rows, bytes, columns })
        }
        Output::File { name, bytes: content } => {
            let name = FileName::try_from(name)?;
            let extension = Extension::of(&name);
            let (object, bytes) = store.publish(extension.as_ref(), |out| Ok(out.write_all(&content)?))?;
            Ok(OutputRecord { object, extension, name: Some(name), rows: 0, bytes, columns: BTreeMap::new() })
        }
    }
}
