//! Reads directions back, and gives the columns that name one.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};

use crate::contract::node::Part;
use crate::directions::fold::ALL;
use crate::states::place_columns::places;
use crate::states::state_table::Place;
use crate::table::{self, Column, Kind, column};

pub const KIND: Column = column("kind", Kind::Text, "the direction's kind: mean_difference or svd");
pub const COMPONENT: Column =
    column("component", Kind::U32, "the direction's rank by singular value, from 1; 1 for mean_difference");

/// The columns of `directions` that tell one direction from another, and the vector.
pub const DIRECTION_COLUMNS: &[&str] = &["position", "layer", "site", "kind", "component", "fold", "vector"];

/// [`DIRECTION_COLUMNS`] and how far the mean difference lies along the direction.
pub const FITTED_COLUMNS: &[&str] = &["position", "layer", "site", "kind", "component", "fold", "vector", "mean_along"];

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

/// Reads the directions from all examples of a `directions` node.
///
/// # Errors
/// When a part cannot be read or lacks a column.
pub fn read_directions(parts: &[Part]) -> Result<DirectionsByPlace> {
    let mut found = DirectionsByPlace::new();
    for (place, name, fold, vector) in rows(parts, DIRECTION_COLUMNS)?.1 {
        if fold == ALL {
            found.entry(place).or_default().push((name, vector));
        }
    }
    Ok(found)
}

/// One direction as it was found in each fold.
pub type Folds<T> = BTreeMap<u32, T>;

/// The directions of every fold of a `directions` node.
///
/// # Errors
/// When a part cannot be read or lacks a column.
pub fn read_folds(parts: &[Part]) -> Result<BTreeMap<Place, BTreeMap<DirectionName, Folds<Vec<f64>>>>> {
    let mut found: BTreeMap<Place, BTreeMap<DirectionName, Folds<Vec<f64>>>> = BTreeMap::new();
    for (place, name, fold, vector) in rows(parts, DIRECTION_COLUMNS)?.1 {
        found.entry(place).or_default().entry(name).or_default().insert(fold, vector);
    }
    Ok(found)
}

/// A unit vector, and the mean difference's projection on it.
pub struct Fitted {
    pub vector: Vec<f64>,
    pub mean_along: f64,
}

/// The directions of every fold of a `directions` node, by name and place, with the mean difference along each.
///
/// # Errors
/// When a part cannot be read or lacks a column.
pub fn read_fitted(parts: &[Part]) -> Result<BTreeMap<(DirectionName, Place), Folds<Fitted>>> {
    let (batch, rows) = rows(parts, FITTED_COLUMNS)?;
    let along: &Float64Array = table::values(&batch, "mean_along")?;
    let mut found: BTreeMap<_, Folds<Fitted>> = BTreeMap::new();
    for ((place, name, fold, vector), mean_along) in rows.zip(along.values()) {
        found.entry((name, place)).or_default().insert(fold, Fitted { vector, mean_along: *mean_along });
    }
    Ok(found)
}

type DirectionRow = (Place, DirectionName, u32, Vec<f64>);

/// A node's table, and its rows with their vectors.
fn rows(parts: &[Part], columns: &'static [&'static str]) -> Result<(RecordBatch, std::vec::IntoIter<DirectionRow>)> {
    let batch = table::read(parts, columns)?;
    let folds: &UInt32Array = table::values(&batch, "fold")?;
    let (values, width) = table::vectors(&batch, "vector")?;
    let names = places(&batch)?.into_iter().zip(names(&batch)?).zip(folds.values());
    let rows: Vec<DirectionRow> = names
        .enumerate()
        .map(|(row, ((place, name), fold))| {
            let vector = values[row * width..(row + 1) * width].iter().map(|&value| f64::from(value)).collect();
            (place, name, *fold, vector)
        })
        .collect();
    Ok((batch, rows.into_iter()))
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
