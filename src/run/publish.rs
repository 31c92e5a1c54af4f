//! A task's outputs become objects, then its record is written. What waits for the disk is apart from what does not.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use strata_stages::{Output, table};

use super::Job;
use super::writer::WRITERS;
use crate::outputs;
use crate::store::names::{Extension, FileName};
use crate::store::{FileState, Made, OutputRecord, Record, Store, Unnamed};

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

/// An output whose bytes are written, and that may not have its name yet.
pub struct Written<'s> {
    record: OutputRecord,
    unnamed: Option<Unnamed<'s>>,
}

/// As many outputs of one task may wait for their names, each an open file.
const FEW: usize = 4;
/// Outputs that are named together where a task has more.
const TOGETHER: usize = 32;

/// Writes outputs, all that does not wait for the disk; of many, as a report's figures, the rest too. No record names them yet.
///
/// # Errors
/// When the store cannot be written.
pub fn write(store: &Store, outputs: Vec<Output>) -> Result<Vec<Written<'_>>> {
    if outputs.len() <= FEW {
        return outputs.into_iter().map(|output| write_output(store, output)).collect();
    }
    let mut written = Vec::new();
    let mut outputs = outputs.into_iter().peekable();
    while outputs.peek().is_some() {
        let batch = outputs.by_ref().take(TOGETHER).map(|output| write_output(store, output));
        written.extend(side_by_side(store, batch.collect::<Result<_>>()?)?.into_iter().map(Written::from));
    }
    Ok(written)
}

/// Gives several outputs their names at a time: their flushes together take little longer than one.
fn side_by_side(store: &Store, mut batch: Vec<Written>) -> Result<Vec<OutputRecord>> {
    let each = batch.len().div_ceil(WRITERS).max(1);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        while !batch.is_empty() {
            let share: Vec<Written> = batch.drain(..each.min(batch.len())).collect();
            threads.push(scope.spawn(|| name(store, share)));
        }
        let mut named = Vec::new();
        for thread in threads {
            named.extend(thread.join().map_err(|_| anyhow!("a defect in Strata: a thread panicked"))??);
        }
        Ok(named)
    })
}

/// Flushes written outputs and gives them their names.
///
/// # Errors
/// When the store cannot be written.
pub fn name(store: &Store, written: Vec<Written>) -> Result<Vec<OutputRecord>> {
    let name = |Written { record, unnamed }: Written| {
        unnamed.map_or(Ok(()), |unnamed| store.name_object(unnamed))?;
        Ok(record)
    };
    written.into_iter().map(name).collect()
}

/// Writes and names one output.
///
/// # Errors
/// When the store cannot be written.
pub fn publish_output(store: &Store, output: Output) -> Result<OutputRecord> {
    let Written { record, unnamed } = write_output(store, output)?;
    unnamed.map_or(Ok(()), |unnamed| store.name_object(unnamed))?;
    Ok(record)
}

impl From<OutputRecord> for Written<'_> {
    /// What has its name.
    fn from(record: OutputRecord) -> Self {
        Written { record, unnamed: None }
    }
}

fn write_output(store: &Store, output: Output) -> Result<Written<'_>> {
    match output {
        Output::Table { batch, metadata } => {
            let columns = outputs::columns(&batch)?;
            let extension = Extension::try_from("parquet".to_string())?;
            let unnamed = store.write_object(Some(&extension), |out| table::write(out, &batch, &metadata))?;
            let (object, bytes, rows) = (unnamed.hash, unnamed.bytes, batch.num_rows() as u64);
            let record = OutputRecord { object, extension: Some(extension), name: None, rows, bytes, columns };
            Ok(Written { record, unnamed: Some(unnamed) })
        }
        Output::File { name, bytes: content } => {
            let name = FileName::try_from(name)?;
            let extension = Extension::of(&name);
            let unnamed = store.write_object(extension.as_ref(), |out| Ok(out.write_all(&content)?))?;
            let (object, bytes) = (unnamed.hash, unnamed.bytes);
            let record = OutputRecord { object, extension, name: Some(name), rows: 0, bytes, columns: BTreeMap::new() };
            Ok(Written { record, unnamed: Some(unnamed) })
        }
    }
}
