//! The three columns that say where in the text and in the network a row was measured.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};

use crate::states::state_table::Place;
use crate::table::{self, Column, Kind, column};

pub const POSITION: Column = column("position", Kind::Text, "where in the text the state was read");
pub const LAYER: Column = column("layer", Kind::U32, "layer: 0 is the embedding output, l the stream after block l");
pub const SITE: Column =
    column("site", Kind::Text, "residual (the stream) or final_norm (the last layer after the final norm)");

/// Beside them, where a position may keep several states of an example.
pub const TOKEN: Column =
    column("token", Kind::U32, "which of the position's tokens, from 0; 0 where the position has one state an example");

/// Collects the places of rows.
#[derive(Default)]
pub struct PlaceColumns {
    positions: Vec<String>,
    layers: Vec<u32>,
    sites: Vec<&'static str>,
}

impl PlaceColumns {
    pub fn push(&mut self, place: &Place) {
        self.positions.push(place.position.clone());
        self.layers.push(place.site.layer as u32);
        self.sites.push(place.site.name());
    }

    /// [`POSITION`], [`LAYER`] and [`SITE`], in this order.
    pub fn arrays(self) -> [ArrayRef; 3] {
        [
            Arc::new(StringArray::from(self.positions)),
            Arc::new(UInt32Array::from(self.layers)),
            Arc::new(StringArray::from(self.sites)),
        ]
    }
}

/// The place of every row of a table that has the three columns.
pub fn places(batch: &RecordBatch) -> Result<Vec<Place>> {
    let positions: &StringArray = table::values(batch, "position")?;
    let layers: &UInt32Array = table::values(batch, "layer")?;
    let sites: &StringArray = table::values(batch, "site")?;
    (0..batch.num_rows()).map(|row| Place::new(positions.value(row), layers.value(row), sites.value(row))).collect()
}
