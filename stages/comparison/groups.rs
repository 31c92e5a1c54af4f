//! The vectors of the groups of a comparison, as a task reads them: one slice, a place or a weight matrix, at a time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, ArrayRef, StringArray, UInt32Array};
use arrow::compute::take;
use serde::Deserialize;

use crate::comparison::compared::Of;
use crate::contract::cost::Expected;
use crate::contract::node::Part;
use crate::contract::site::Stream;
use crate::contract::stage::Task;
use crate::states::state_table::{Place, StateTable, States};
use crate::statistics::vector_products::are_too_many;
use crate::table::{self, Column, Kind, column};

/// The parameters that [`crate::comparison::compared::Comparison::params`] gave.
#[derive(Debug, Deserialize)]
pub struct Reading {
    of: Of,
    #[serde(default)]
    positions: Vec<String>,
    #[serde(default)]
    layers: Vec<i64>,
}

/// What is known of a comparison before its vectors are there.
pub struct Sizes {
    /// Examples of each group.
    pub groups: Vec<f64>,
    /// Numbers in a vector.
    pub width: f64,
    pub slices: f64,
}

impl Sizes {
    /// `None` where a group's size is not known.
    pub fn expected(reading: &Reading, expected: &Expected) -> Option<Sizes> {
        let first = expected.tables.first()?;
        let groups: Vec<f64> = expected.tables.iter().map(|table| table.text.examples).collect();
        let (width, slices) = match reading.of {
            Of::HiddenState => {
                (first.model.hidden_size as f64, (reading.positions.len() * reading.layers.len()) as f64)
            }
            Of::Loss => (first.params["n"].as_f64()?, 1.0),
            Of::Gradient => (groups.iter().sum(), 1.0),
        };
        Some(Sizes { groups, width, slices })
    }

    pub fn examples(&self) -> f64 {
        self.groups.iter().sum()
    }

    /// Bytes of the vectors of one slice, in f64 as they are read and once more as they are compared.
    pub fn memory(&self) -> f64 {
        2.0 * 8.0 * self.examples() * self.width
    }

    /// Of so many vectors the inner products that are held at a time; of more their sums come from the vectors.
    pub fn held(&self, vectors: f64) -> f64 {
        if are_too_many(vectors as usize, self.width as usize) { 0.0 } else { vectors * vectors }
    }

    /// Pairs of examples of two groups.
    pub fn pairs(&self, a: usize, b: usize) -> Option<f64> {
        let (in_a, in_b) = (*self.groups.get(a)?, *self.groups.get(b)?);
        Some(if a == b { in_a * (in_a - 1.0).max(0.0) / 2.0 } else { in_a * in_b })
    }
}

/// The vectors of all groups of a comparison, read one slice at a time.
pub enum Groups {
    States {
        tables: Vec<StateTable>,
        places: Vec<Place>,
    },
    Vectors(Vec<States>),
    /// For each module the vectors of all groups.
    Modules(Vec<(String, Vec<States>)>),
}

/// Where in the network the vectors of a slice come from.
#[derive(Debug, Clone)]
pub enum Slice {
    /// There is nothing more to say.
    Whole,
    Place(Place),
    /// A weight matrix by its name.
    Module(String),
}

impl Slice {
    pub fn place(&self) -> Option<&Place> {
        match self {
            Slice::Place(place) => Some(place),
            _ => None,
        }
    }

    fn module(&self) -> Option<&str> {
        match self {
            Slice::Module(name) => Some(name),
            _ => None,
        }
    }
}

impl Groups {
    /// Opens the inputs `group/0`, `group/1`, …
    ///
    /// # Errors
    /// When a group lacks a position or layer.
    pub fn open(task: &Task, reading: &Reading) -> Result<Groups> {
        let mut parts = Vec::new();
        while let Some(found) = task.inputs.get(&format!("group/{}", parts.len())) {
            parts.push(found.as_slice());
        }
        ensure!(!parts.is_empty(), "this task was given no groups");
        match reading.of {
            Of::HiddenState => {
                let tables: Vec<StateTable> = parts.into_iter().map(StateTable::open).collect::<Result<_>>()?;
                let places = chosen_places(&tables[0].places_at(&reading.positions)?, &reading.layers)?;
                Ok(Groups::States { tables, places })
            }
            Of::Loss => Ok(Groups::Vectors(parts.into_iter().map(read_vectors).collect::<Result<_>>()?)),
            Of::Gradient => Ok(Groups::Modules(read_modules(&parts)?)),
        }
    }

    pub fn slices(&self) -> Vec<Slice> {
        match self {
            Groups::States { places, .. } => places.iter().cloned().map(Slice::Place).collect(),
            Groups::Vectors(_) => vec![Slice::Whole],
            Groups::Modules(modules) => modules.iter().map(|(name, _)| Slice::Module(name.clone())).collect(),
        }
    }

    /// The vectors of each group.
    ///
    /// # Errors
    /// When the groups' vectors differ in length.
    pub fn load(&self, slice: &Slice) -> Result<Vec<States>> {
        let groups: Vec<States> = match self {
            Groups::States { tables, .. } => {
                let place = slice.place().context("hidden states have a place")?;
                let loaded = tables
                    .iter()
                    .enumerate()
                    .map(|(i, table)| table.load(place).with_context(|| format!("group {i} of the comparison")));
                loaded.collect::<Result<_>>()?
            }
            Groups::Vectors(groups) => groups.clone(),
            Groups::Modules(modules) => {
                let found = modules.iter().find(|(name, _)| slice.module() == Some(name));
                found.context("a module of the comparison")?.1.clone()
            }
        };
        if let Some(other) = groups.iter().find(|group| group.width != groups[0].width) {
            bail!("vectors of {} numbers cannot be compared with vectors of {}", other.width, groups[0].width);
        }
        Ok(groups)
    }
}

fn read_vectors(parts: &[Part]) -> Result<States> {
    let batch = table::read(parts, &["example", "vector"])?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let (values, width) = table::vectors(&batch, "vector")?;
    Ok(States {
        examples: examples.iter().flatten().map(String::from).collect(),
        width,
        values: values.iter().map(|&value| f64::from(value)).collect(),
    })
}

/// For each module, in the order of the first group, the vectors of every group.
fn read_modules(groups: &[&[Part]]) -> Result<Vec<(String, Vec<States>)>> {
    let mut found: Vec<(String, Vec<States>)> = Vec::new();
    for (index, parts) in groups.iter().enumerate() {
        let batch = table::read(parts, &["example", "module", "vector"])?;
        let examples: &StringArray = table::values(&batch, "example")?;
        let modules: &StringArray = table::values(&batch, "module")?;
        let (vectors, width) = table::vectors(&batch, "vector")?;
        for (_, of_groups) in &mut found {
            of_groups.push(States { examples: Vec::new(), width, values: Vec::new() });
        }
        for ((example, module), vector) in
            examples.iter().flatten().zip(modules.iter().flatten()).zip(vectors.chunks(width))
        {
            let at = match found.iter().position(|(name, _)| name == module) {
                Some(at) => at,
                None => {
                    let empty = States { examples: Vec::new(), width, values: Vec::new() };
                    found.push((module.to_string(), vec![empty; index + 1]));
                    found.len() - 1
                }
            };
            let states = &mut found[at].1[index];
            states.examples.push(example.to_string());
            states.values.extend(vector.iter().map(|value| f64::from(*value)));
        }
    }
    Ok(found)
}

/// The places at these layers (from the end where negative), at each layer the state after the final norm
/// where there is one.
fn chosen_places(places: &[Place], layers: &[i64]) -> Result<Vec<Place>> {
    let top = i64::from(places.iter().map(|place| place.site.layer).max().unwrap_or(0) as u32);
    let mut wanted = Vec::new();
    for &layer in layers {
        let layer = if layer < 0 { layer + top + 1 } else { layer };
        if !places.iter().any(|place| place.site.layer as i64 == layer) {
            bail!("hidden_states holds no layer {layer}; the last is {top}");
        }
        wanted.push(layer);
    }
    let mut chosen: BTreeMap<(&str, usize), &Place> = BTreeMap::new();
    for place in places.iter().filter(|place| wanted.contains(&(place.site.layer as i64))) {
        let best = chosen.entry((&place.position, place.site.layer)).or_insert(place);
        if place.site.stream == Stream::FinalNorm {
            *best = place;
        }
    }
    Ok(chosen.into_values().cloned().collect())
}

pub const SLICE_COLUMNS: [Column; 4] = [
    column("position", Kind::Text, "where in the text a hidden state was read; null for other vectors"),
    column("layer", Kind::U32, "layer of a hidden state; null for other vectors"),
    column("site", Kind::Text, "residual or final_norm; null for other vectors"),
    column("module", Kind::Text, "weight matrix of a gradient; null for other vectors"),
];

/// [`SLICE_COLUMNS`] with each slice repeated for its number of rows.
///
/// # Errors
/// When the texts are more than a column holds, 2 GiB.
pub fn slice_arrays<'a>(slices: impl IntoIterator<Item = (&'a Slice, usize)>) -> Result<[ArrayRef; 4]> {
    let (slices, counts): (Vec<&Slice>, Vec<usize>) = slices.into_iter().unzip();
    let places = || slices.iter().map(|slice| slice.place());
    let positions: StringArray = places().map(|place| place.map(|place| place.position.as_str())).collect();
    let layers: UInt32Array = places().map(|place| place.map(|place| place.site.layer as u32)).collect();
    let sites: StringArray = places().map(|place| place.map(|place| place.site.name())).collect();
    let modules: StringArray = slices.iter().map(|slice| slice.module()).collect();
    let rows = counts.iter().enumerate().flat_map(|(slice, count)| std::iter::repeat_n(slice as u32, *count));
    let rows = UInt32Array::from(rows.collect::<Vec<u32>>());
    let repeated = |values: &dyn Array| take(values, &rows, None).context("the names of places and modules");
    Ok([repeated(&positions)?, repeated(&layers)?, repeated(&sites)?, repeated(&modules)?])
}

pub const CENTRED: Column = column(
    "centred",
    Kind::Bool,
    "whether the mean that `centring` names was subtracted: of the comparison, or of the pair's two groups",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_the_end_and_the_final_norm_comes_first() {
        let place = |layer, site| Place::new("last", layer, site).unwrap();
        let all = [place(0, "residual"), place(1, "residual"), place(2, "residual"), place(2, "final_norm")];
        assert_eq!(chosen_places(&all, &[-1]).unwrap(), [all[3].clone()]);
        assert_eq!(chosen_places(&all, &[2, 0, -3]).unwrap(), [all[0].clone(), all[3].clone()]);
        assert!(chosen_places(&all, &[3]).unwrap_err().to_string().contains("no layer 3; the last is 2"));
        assert!(chosen_places(&all, &[-4]).is_err());
    }
}
