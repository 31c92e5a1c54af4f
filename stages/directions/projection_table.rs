//! Reads projections back, one set of values per direction and place.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use arrow::array::{Array, Float64Array, StringArray};

use crate::contract::node::Part;
use crate::directions::direction_table::{DirectionName, names};
use crate::states::place_columns::places;
use crate::states::state_table::Place;
use crate::table;

/// The columns of `projections` that its summaries read.
pub const PROJECTION_COLUMNS: &[&str] = &["kind", "component", "position", "layer", "site", "example", "projection"];

/// The projections of one model's states on one direction at one place; NaN where there is none.
#[derive(Debug, Clone, Default)]
pub struct Values {
    pub examples: Vec<String>,
    pub values: Vec<f64>,
}

impl Values {
    /// The values of `other` in the order of this one's examples.
    ///
    /// # Errors
    /// When an example has a projection in one of the two only.
    pub fn aligned(&self, other: &Values) -> Result<Vec<f64>> {
        if self.examples.len() != other.examples.len() {
            bail!("{} examples of the one model, {} of the other", self.examples.len(), other.examples.len());
        }
        let rows: HashMap<&str, f64> =
            other.examples.iter().map(String::as_str).zip(other.values.iter().copied()).collect();
        let value = |example: &String| {
            rows.get(example.as_str())
                .copied()
                .with_context(|| format!("example {example} is missing in the second model"))
        };
        self.examples.iter().map(value).collect()
    }
}

/// Reads a `projections` node, ordered by direction and place.
pub fn read_projections(parts: &[Part]) -> Result<BTreeMap<(DirectionName, Place), Values>> {
    let batch = table::read(parts, PROJECTION_COLUMNS)?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let projections: &Float64Array = table::values(&batch, "projection")?;
    let mut found: BTreeMap<_, Values> = BTreeMap::new();
    for (row, key) in names(&batch)?.into_iter().zip(places(&batch)?).enumerate() {
        let values = found.entry(key).or_default();
        values.examples.push(examples.value(row).to_string());
        values.values.push(if projections.is_null(row) { f64::NAN } else { projections.value(row) });
    }
    Ok(found)
}
