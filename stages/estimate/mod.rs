//! What a run would take, from the models' configs and the datasets' sizes: for `strata run --dry-run`.
//!
//! Weights, tokenizers and datasets need not be there. Stages say what they take (`Stage::cost`); what they share, a
//! forward pass for each model and dataset and one back from its losses, is counted once and has rows of its own.

mod count;
mod estimate;
mod machine;
mod memory;
mod models;
mod passes;
pub mod planned;
mod quantity;
mod row;
#[cfg(test)]
mod tests;
mod texts;

use anyhow::Result;

use crate::model::size::measure;
use count::{Counted, count};
pub use estimate::Estimate;
use planned::PlannedRun;

/// What of a run is not done would take; `None` when nothing of it passes a model or compares what did.
///
/// # Errors
/// When a model's config.json cannot be read or describes a model that is not supported.
pub fn of(run: &PlannedRun) -> Result<Option<Estimate>> {
    count(run)?.map(timed).transpose()
}

/// The same where an exact comparison of the vectors takes much memory or disk or long, to be said before a run:
/// the comparison comes last, when all that it reads has been computed.
///
/// # Errors
/// As for [`of`].
pub fn of_demanding(run: &PlannedRun) -> Result<Option<Estimate>> {
    const MEMORY: f64 = 1e9;
    const WRITTEN: f64 = 1e9;
    const FLOPS: f64 = 1e13;
    let Some(mut counted) = count(run)? else { return Ok(None) };
    counted.rows.retain(|row| row.compares);
    if !counted.rows.iter().any(|row| row.memory > MEMORY || row.written > WRITTEN || row.flops > FLOPS) {
        return Ok(None);
    }
    timed(counted).map(Some)
}

fn timed(counted: Counted) -> Result<Estimate> {
    Ok(Estimate { rows: counted.rows, speed: measure(&counted.largest)?, notes: counted.notes })
}
