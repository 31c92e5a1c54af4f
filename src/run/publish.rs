//! A task's outputs become objects, then its record is written.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use strata_stages::{Output, table};

use super::Job;
use crate::outputs;
use crate::store::names::{Extension, FileName};
use crate::store::{FileState, Made, OutputRecord, Record, Store};

/// Writes the record of a task, whose outputs are objects by now.
///
/// # Errors
/// When a file of the user's that it read has changed since it was hashed, or the store cannot be written.
pub fn publish(store: &Store, job: &Job, records: Vec<OutputRecord>, seconds: f64) -> Result<Vec<OutputRecord>> {
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
    if let Some(why) = outputs::unfit(job.stage, job.by_part, &records) {
        bail!("a defect in Strata: stage {} gave {why}", job.stage.name);
    }
    let record = Record::new(job.document.clone(), records, Made::now(seconds));
    store.write_record(&record)?;
    Ok(record.outputs)
}

/// Outputs as objects. No record names them yet.
///
/// # Errors
/// When the store cannot be written.
pub fn objects(store: &Store, given: Vec<Output>) -> Result<Vec<OutputRecord>> {
    given.into_iter().map(|output| publish_output(store, output)).collect()
}

pub fn publish_output(store: &Store, output: Output) -> Result<OutputRecord> {
    match output {
        Output::Table { batch, metadata } => {
            let columns = outputs::columns(&batch)?;
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
