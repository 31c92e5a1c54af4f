//! Which tables the figures of the stages read.

use std::collections::BTreeMap;

use super::Reads;
use crate::contract::stage::Stage;

/// For each stage that figures read, the columns that any of them reads: of the figures of the stages that `shown` keeps.
pub fn columns_read(
    stages: &[&Stage],
    shown: impl Fn(&Stage) -> bool,
    also: &[Reads],
) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut columns: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let figures = stages.iter().filter(|stage| shown(stage)).flat_map(|stage| stage.figures);
    for reads in figures.flat_map(|figures| figures.reads).chain(also) {
        let read = columns.entry(reads.stage).or_default();
        read.extend(reads.columns);
        read.sort();
        read.dedup();
    }
    columns
}
