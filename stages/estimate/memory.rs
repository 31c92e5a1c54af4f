//! Memory that no stage's own arithmetic tells, in bytes.

use crate::contract::stage::Work;

/// The process itself, with its threads and what its allocator keeps.
pub const PROCESS: f64 = 60e6;

/// A table in memory beside its file: as Arrow has it, and as the numbers that are computed with.
const COPIES: f64 = 2.0;

/// What a task holds that reads tables of these sizes, one for each stage that wrote them. One that gathers what others
/// show reads one stage's tables at a time.
pub fn of_reading(work: &Work, tables: impl Iterator<Item = f64>) -> f64 {
    match work {
        Work::Gather(_) => COPIES * tables.fold(0.0, f64::max),
        Work::Table(_) | Work::Stream(_) | Work::Watch(_) => COPIES * tables.sum::<f64>(),
    }
}
