//! Reads projections back, one set of values per direction and place.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use arrow::array::{Array, Float64Array, StringArray};

use crate::contract::node::Part;
use crate::directions::direction_table::{DirectionName, names};
use crate::states::place_columns::places;
use crate::states::state_table::Place;
use crate::statistics::moments::mean;
use crate::table;

/// The columns of `projections` that its summaries read.
pub const PROJECTION_COLUMNS: &[&str] = &["kind", "component", "position", "layer", "site", "example", "projection"];

/// The projections of one model's states on one direction at one place; NaN where there is none.
#[derive(Debug, Clone, Default)]
pub struct Values {
    pub examples: Vec<String>,
    /// How many states each example has at the place: the tokens of its position.
    pub tokens: usize,
    /// Row-major [examples, tokens].
    pub values: Vec<f64>,
}

impl Values {
    /// The values of each example.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.tokens.max(1))
    }

    /// The values of `other` in the order of this one's examples.
    ///
    /// # Errors
    /// When an example has a projection in one of the two only, or more of them in one.
    pub fn aligned(&self, other: &Values) -> Result<Vec<f64>> {
        if self.examples.len() != other.examples.len() {
            bail!("{} examples of the one model, {} of the other", self.examples.len(), other.examples.len());
        }
        if self.tokens != other.tokens {
            bail!("{} tokens an example of the one model, {} of the other", self.tokens, other.tokens);
        }
        let rows: HashMap<&str, &[f64]> = other.examples.iter().map(String::as_str).zip(other.rows()).collect();
        let mut values = Vec::with_capacity(self.values.len());
        for example in &self.examples {
            let row = rows.get(example.as_str());
            values.extend_from_slice(row.with_context(|| format!("example {example} is missing in the second model"))?);
        }
        Ok(values)
    }
}

/// The mean of each row of so many values.
pub fn row_means(values: &[f64], tokens: usize) -> Vec<f64> {
    if tokens <= 1 {
        return values.to_vec();
    }
    values.chunks_exact(tokens).map(mean).collect()
}

/// Reads a `projections` node, ordered by direction and place. The rows of an example at a place are adjacent.
///
/// # Errors
/// When a part cannot be read, or the examples have different numbers of states at one place.
pub fn read_projections(parts: &[Part]) -> Result<BTreeMap<(DirectionName, Place), Values>> {
    let batch = table::read(parts, PROJECTION_COLUMNS)?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let projections: &Float64Array = table::values(&batch, "projection")?;
    let mut found: BTreeMap<_, Values> = BTreeMap::new();
    for (row, key) in names(&batch)?.into_iter().zip(places(&batch)?).enumerate() {
        let values = found.entry(key).or_default();
        if values.examples.last().is_none_or(|last| last != examples.value(row)) {
            values.examples.push(examples.value(row).to_string());
        }
        values.values.push(if projections.is_null(row) { f64::NAN } else { projections.value(row) });
    }
    for ((_, place), values) in &mut found {
        values.tokens = values.values.len() / values.examples.len();
        if values.tokens * values.examples.len() != values.values.len() {
            bail!("{} projections of {} examples at {place}", values.values.len(), values.examples.len());
        }
    }
    Ok(found)
}
