//! Reads directions back, and gives the columns that name one.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};

use serde::{Deserialize, Serialize};

use crate::contract::node::Part;
use crate::states::place_columns::places;
use crate::states::state_table::Place;
use crate::table::{self, Column, Kind, column};

pub const KIND: Column = column("kind", Kind::Text, "the direction's kind: mean_difference or svd");
pub const COMPONENT: Column =
    column("component", Kind::U32, "the direction's rank by singular value, from 1; 1 for mean_difference");

/// The columns of `directions` that tell one direction from another, and the vector.
pub const DIRECTION_COLUMNS: &[&str] = &["position", "layer", "site", "kind", "component", "vector"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectionKind {
    MeanDifference,
    Svd,
}

impl DirectionKind {
    pub fn name(self) -> &'static str {
        match self {
            DirectionKind::MeanDifference => "mean_difference",
            DirectionKind::Svd => "svd",
        }
    }

    pub fn parse(name: &str) -> Result<DirectionKind> {
        match name {
            "mean_difference" => Ok(DirectionKind::MeanDifference),
            "svd" => Ok(DirectionKind::Svd),
            other => bail!("unknown kind of direction \"{other}\"; expected mean_difference or svd"),
        }
    }
}

/// A direction's name within its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectionName {
    pub kind: DirectionKind,
    pub component: u32,
}

/// The directions of a table, by place.
pub type DirectionsByPlace = BTreeMap<Place, Vec<(DirectionName, Vec<f64>)>>;

/// Reads a `directions` node.
///
/// # Errors
/// When a part cannot be read or lacks a column.
pub fn read_directions(parts: &[Part]) -> Result<DirectionsByPlace> {
    let batch = table::read(parts, DIRECTION_COLUMNS)?;
    let (values, width) = table::vectors(&batch, "vector")?;
    let mut found = DirectionsByPlace::new();
    for (row, (place, name)) in places(&batch)?.into_iter().zip(names(&batch)?).enumerate() {
        let vector = values[row * width..(row + 1) * width].iter().map(|&value| f64::from(value)).collect();
        found.entry(place).or_default().push((name, vector));
    }
    Ok(found)
}

/// The direction that each row of a table belongs to.
pub fn names(batch: &RecordBatch) -> Result<Vec<DirectionName>> {
    let kinds: &StringArray = table::values(batch, "kind")?;
    let components: &UInt32Array = table::values(batch, "component")?;
    let name =
        |row| Ok(DirectionName { kind: DirectionKind::parse(kinds.value(row))?, component: components.value(row) });
    (0..batch.num_rows()).map(name).collect()
}

/// [`KIND`] and [`COMPONENT`], in this order.
pub fn name_arrays(names: &[DirectionName]) -> [ArrayRef; 2] {
    [
        Arc::new(StringArray::from_iter_values(names.iter().map(|name| name.kind.name()))),
        Arc::new(UInt32Array::from_iter_values(names.iter().map(|name| name.component))),
    ]
}
