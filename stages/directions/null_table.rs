//! Reads null directions back.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use arrow::array::{RecordBatch, StringArray, UInt32Array};
use serde::Serialize;

use crate::contract::node::Part;
use crate::states::place_columns::places;
use crate::states::state_table::Place;
use crate::statistics::moments::{mean, quantile};
use crate::table;

/// How a null direction was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Null {
    /// SVD after pairing each source state with the target state of a random example.
    ShuffledPairs,
    /// The mean of the centred paired differences after giving each a random sign.
    CentredSigns,
}

impl Null {
    const ALL: [Null; 2] = [Null::ShuffledPairs, Null::CentredSigns];

    pub fn name(self) -> &'static str {
        match self {
            Null::ShuffledPairs => "shuffled_pairs",
            Null::CentredSigns => "centred_signs",
        }
    }

    pub fn parse(name: &str) -> Result<Null> {
        match Null::ALL.into_iter().find(|null| null.name() == name) {
            Some(null) => Ok(null),
            None => bail!("unknown null \"{name}\""),
        }
    }

    /// The stream of random numbers of this null and draw.
    pub fn stream(self, draw: u32) -> u64 {
        2 * u64::from(draw) + self as u64
    }
}

/// The columns of `null_directions` that similarities read.
pub const NULL_COLUMNS: &[&str] = &["position", "layer", "site", "null", "draw", "component", "vector"];

/// A `null_directions` node. Its vectors stay in f32 until they are asked for.
pub struct NullTable {
    batch: RecordBatch,
    /// Of each draw the rows of its components, the first component first.
    draws: BTreeMap<(Place, Null), BTreeMap<u32, Vec<usize>>>,
}

impl NullTable {
    /// # Errors
    /// When a part cannot be read or lacks a column.
    pub fn open(parts: &[Part]) -> Result<NullTable> {
        let batch = table::read(parts, NULL_COLUMNS)?;
        let nulls: &StringArray = table::values(&batch, "null")?;
        let draws: &UInt32Array = table::values(&batch, "draw")?;
        let components: &UInt32Array = table::values(&batch, "component")?;
        let mut rows: Vec<(Place, Null, u32, u32, usize)> = Vec::new();
        for (row, place) in places(&batch)?.into_iter().enumerate() {
            rows.push((place, Null::parse(nulls.value(row))?, draws.value(row), components.value(row), row));
        }
        rows.sort();
        let mut found: BTreeMap<(Place, Null), BTreeMap<u32, Vec<usize>>> = BTreeMap::new();
        for (place, null, draw, _, row) in rows {
            found.entry((place, null)).or_default().entry(draw).or_default().push(row);
        }
        Ok(NullTable { batch, draws: found })
    }

    /// The draws of a null at a place, in order, each row-major [components, width].
    ///
    /// # Errors
    /// When the table's vectors are not vectors.
    pub fn draws(&self, place: &Place, null: Null) -> Result<Vec<Vec<f64>>> {
        let (values, width) = table::vectors(&self.batch, "vector")?;
        let Some(draws) = self.draws.get(&(place.clone(), null)) else { return Ok(Vec::new()) };
        let vectors = |rows: &Vec<usize>| -> Vec<f64> {
            rows.iter().flat_map(|row| values[row * width..(row + 1) * width].iter().map(|&x| f64::from(x))).collect()
        };
        Ok(draws.values().map(vectors).collect())
    }
}

/// Each draw of the one dataset with the next draw of the other, so that each is used once. Equal draws come from equal
/// seeds and would depend on each other.
pub fn paired<'a>(a: &'a [Vec<f64>], b: &'a [Vec<f64>]) -> impl Iterator<Item = (&'a [f64], &'a [f64])> {
    let count = if a.len() < 2 || b.len() < 2 { 0 } else { a.len().min(b.len()) };
    (0..count).map(move |draw| (a[draw].as_slice(), b[(draw + 1) % count].as_slice()))
}

/// Where an observed |cosine| lies in its null.
#[derive(Debug, Clone, Copy)]
pub struct AgainstNull {
    pub mean: f64,
    /// The 95 % quantile.
    pub high: f64,
    /// (1 + how many draws are at least as large) / (1 + draws).
    pub p_value: f64,
}

impl AgainstNull {
    /// `None` where nothing was drawn.
    pub fn new(observed: f64, mut drawn: Vec<f64>) -> Option<AgainstNull> {
        if drawn.is_empty() {
            return None;
        }
        drawn.sort_unstable_by(f64::total_cmp);
        let as_large = drawn.iter().filter(|value| **value >= observed).count();
        Some(AgainstNull {
            mean: mean(&drawn),
            high: quantile(&drawn, 0.95),
            p_value: (1 + as_large) as f64 / (1 + drawn.len()) as f64,
        })
    }

    /// What holds against two nulls at once: the larger of each.
    pub fn larger(self, other: AgainstNull) -> AgainstNull {
        AgainstNull {
            mean: self.mean.max(other.mean),
            high: self.high.max(other.high),
            p_value: self.p_value.max(other.p_value),
        }
    }
}
