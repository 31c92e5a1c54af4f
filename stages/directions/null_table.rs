//! Reads null directions back.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use arrow::array::{StringArray, UInt32Array};
use serde::Serialize;

use crate::contract::node::Part;
use crate::states::place_columns::places;
use crate::states::state_table::Place;
use crate::table;

/// How a null direction was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Null {
    /// SVD after pairing each source state with the target state of a random example.
    ShuffledPairs,
    /// Mean difference after exchanging source and target in a random half of the pairs.
    FlippedPairs,
    /// A normal draw with the covariance of the paired differences.
    RandomCovariance,
}

impl Null {
    pub fn name(self) -> &'static str {
        match self {
            Null::ShuffledPairs => "shuffled_pairs",
            Null::FlippedPairs => "flipped_pairs",
            Null::RandomCovariance => "random_covariance",
        }
    }

    pub fn parse(name: &str) -> Result<Null> {
        match [Null::ShuffledPairs, Null::FlippedPairs, Null::RandomCovariance].into_iter().find(|n| n.name() == name) {
            Some(null) => Ok(null),
            None => bail!("unknown null \"{name}\""),
        }
    }

    /// The stream of random numbers of this null and draw.
    pub fn stream(self, draw: u32) -> u64 {
        3 * u64::from(draw) + self as u64
    }
}

/// The columns of `null_directions` that similarities read.
pub const NULL_COLUMNS: &[&str] = &["position", "layer", "site", "null", "draw", "component", "vector"];

/// The draws of every null at a place: for each null and component, (draw, vector).
pub type Nulls = BTreeMap<(Null, u32), Vec<(u32, Vec<f64>)>>;

/// Reads a `null_directions` node.
pub fn read_nulls(parts: &[Part]) -> Result<BTreeMap<Place, Nulls>> {
    let batch = table::read(parts, NULL_COLUMNS)?;
    let nulls: &StringArray = table::values(&batch, "null")?;
    let draws: &UInt32Array = table::values(&batch, "draw")?;
    let components: &UInt32Array = table::values(&batch, "component")?;
    let (values, width) = table::vectors(&batch, "vector")?;
    let mut found: BTreeMap<Place, Nulls> = BTreeMap::new();
    for (row, place) in places(&batch)?.into_iter().enumerate() {
        let vector = values[row * width..(row + 1) * width].iter().map(|&value| f64::from(value)).collect();
        let key = (Null::parse(nulls.value(row))?, components.value(row));
        found.entry(place).or_default().entry(key).or_default().push((draws.value(row), vector));
    }
    Ok(found)
}
