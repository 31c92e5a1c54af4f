//! The tables that the report was given, by stage and by the names that bind them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::DataType;

use super::Params;
use super::inputs::{SHOWN, Shelved};
use crate::contract::node::Part;
use crate::contract::stage::Task;
use crate::table::{read, values};

/// One node's table, not yet read.
#[derive(Debug, Clone)]
pub struct Entry {
    pub stage: String,
    bindings: Vec<(String, String)>,
    pub parts: Vec<Part>,
}

/// All tables, and the names in the pipeline's order.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    pub models: Vec<String>,
    pub datasets: Vec<Dataset>,
    pub entries: Vec<Entry>,
    /// How many of each dataset's examples are shown one by one.
    pub conversations: usize,
}

/// A dataset, and what its examples say of it where the report was given them.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    pub name: String,
    pub label: String,
    pub examples: Option<usize>,
}

/// The rows of one table in memory.
pub struct Rows {
    batch: RecordBatch,
}

impl Entry {
    /// The name bound to a role such as `model`; empty where the table has no such folder.
    pub fn name(&self, role: &str) -> &str {
        self.bindings.iter().find(|(key, _)| key == role).map_or("", |(_, name)| name)
    }

    /// Reads the columns that the report declares for this stage.
    pub fn rows(&self) -> Result<Rows> {
        let columns = SHOWN.iter().find(|shown| shown.stage == self.stage).map_or(&[][..], |shown| shown.columns);
        let batch = read(&self.parts, columns).with_context(|| format!("the table {}", self.describe()))?;
        Ok(Rows { batch })
    }

    /// The rows of the first part alone, where a dataset's first examples are.
    pub fn first_rows(&self) -> Result<Rows> {
        Entry { parts: self.parts[..1].to_vec(), ..self.clone() }.rows()
    }

    fn describe(&self) -> String {
        let names: Vec<String> = self.bindings.iter().map(|(key, name)| format!("{key}={name}")).collect();
        format!("{}[{}]", self.stage, names.join(", "))
    }
}

impl Shelf {
    pub fn open(params: &Params, task: &Task) -> Result<Shelf> {
        let mut entries = Vec::new();
        for Shelved { role, stage, bindings } in &params.tables {
            let parts = task.parts(role)?.to_vec();
            if !parts.is_empty() {
                entries.push(Entry { stage: stage.clone(), bindings: bindings.clone(), parts });
            }
        }
        let conversations = params.conversations;
        let mut shelf = Shelf { models: params.models.clone(), datasets: Vec::new(), entries, conversations };
        for name in &params.datasets {
            let mut dataset = Dataset { name: name.clone(), ..Dataset::default() };
            if let Some(entry) = shelf.of("examples").find(|entry| entry.name("dataset") == name) {
                let rows = entry.rows()?;
                let mut labels = rows.text("label")?;
                dataset.examples = Some(labels.len());
                labels.sort();
                labels.dedup();
                dataset.label = labels.join(", ");
            }
            shelf.datasets.push(dataset);
        }
        Ok(shelf)
    }

    pub fn of<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.stage == stage)
    }

    /// The entries of a stage grouped by some of their names, groups and entries in order of appearance.
    pub fn grouped<'a>(&'a self, stage: &'a str, roles: &[&str]) -> Vec<(Vec<&'a str>, Vec<&'a Entry>)> {
        let mut groups: Vec<(Vec<&str>, Vec<&Entry>)> = Vec::new();
        for entry in self.of(stage) {
            let names: Vec<&str> = roles.iter().map(|role| entry.name(role)).collect();
            match groups.iter_mut().find(|(group, _)| *group == names) {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((names, vec![entry])),
            }
        }
        groups
    }

    /// A model's place in the pipeline, which gives it its colour in every figure.
    pub fn model_index(&self, name: &str) -> usize {
        self.models.iter().position(|model| model == name).unwrap_or(self.models.len())
    }

    /// The datasets among `names`, in the pipeline's order.
    pub fn datasets_among(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
        let mut names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_string()).collect();
        names.sort_by_key(|name| (self.dataset_index(name), name.clone()));
        names.dedup();
        names
    }

    /// `insecure 40, secure 38`: how many examples these datasets have, as far as that is known.
    pub fn sizes(&self, names: &[String]) -> String {
        let known = self.datasets.iter().filter(|dataset| names.contains(&dataset.name));
        let sizes: Vec<String> =
            known.filter_map(|dataset| Some(format!("{} {}", dataset.name, dataset.examples?))).collect();
        sizes.join(", ")
    }

    pub fn dataset_index(&self, name: &str) -> usize {
        self.datasets.iter().position(|dataset| dataset.name == name).unwrap_or(self.datasets.len())
    }
}

impl Rows {
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// A text column; nulls read as the empty string.
    pub fn text(&self, name: &str) -> Result<Vec<&str>> {
        let array: &StringArray = values(&self.batch, name)?;
        Ok(array.iter().map(Option::unwrap_or_default).collect())
    }

    /// A column of numbers of any type; nulls read as NaN.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let array = self.batch.column_by_name(name).with_context(|| format!("no column \"{name}\""))?;
        Ok(match array.data_type() {
            DataType::Float64 => {
                let array: &Float64Array = values(&self.batch, name)?;
                array.iter().map(|value| value.unwrap_or(f64::NAN)).collect()
            }
            DataType::Float32 => {
                let array: &Float32Array = values(&self.batch, name)?;
                array.iter().map(|value| value.map_or(f64::NAN, f64::from)).collect()
            }
            DataType::UInt32 => {
                let array: &UInt32Array = values(&self.batch, name)?;
                array.iter().map(|value| value.map_or(f64::NAN, f64::from)).collect()
            }
            other => bail!("column \"{name}\" has the type {other}, which is no number"),
        })
    }

    pub fn flags(&self, name: &str) -> Result<Vec<bool>> {
        let array: &BooleanArray = values(&self.batch, name)?;
        Ok(array.iter().map(Option::unwrap_or_default).collect())
    }

    /// A column of indices and counts.
    pub fn counts(&self, name: &str) -> Result<Vec<u32>> {
        let array: &UInt32Array = values(&self.batch, name)?;
        Ok(array.iter().map(Option::unwrap_or_default).collect())
    }
}

/// A layer at a site, in the order in which a forward pass comes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Depth {
    pub layer: u32,
    /// True at the final norm, which follows the last layer.
    pub normed: bool,
}

impl Depth {
    pub fn new(layer: u32, site: &str) -> Depth {
        Depth { layer, normed: site == "final_norm" }
    }

    /// `3`, or `norm` for the last layer's stream after the final norm.
    pub fn label(self) -> String {
        if self.normed { "norm".into() } else { self.layer.to_string() }
    }

    /// The end of an SQL condition that picks it.
    pub fn condition(self) -> String {
        let site = if self.normed { "final_norm" } else { "residual" };
        format!(" AND layer = {} AND site = '{site}'", self.layer)
    }

    /// As part of a sentence.
    pub fn phrase(self) -> String {
        if self.normed { "the final norm".into() } else { format!("layer {}", self.layer) }
    }
}

/// All depths of some rows in order, and each one's place.
pub fn depth_axis(depths: impl IntoIterator<Item = Depth>) -> (Vec<Depth>, BTreeMap<Depth, usize>) {
    let mut all: Vec<Depth> = depths.into_iter().collect();
    all.sort();
    all.dedup();
    let places = all.iter().enumerate().map(|(i, &depth)| (depth, i)).collect();
    (all, places)
}

/// At most `count` of the items, evenly spread, the first and the last among them.
pub fn spread<T: Copy>(items: &[T], count: usize) -> Vec<T> {
    if items.len() <= count {
        return items.to_vec();
    }
    (0..count).map(|i| items[i * (items.len() - 1) / (count - 1).max(1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_norm_comes_after_the_last_layer() {
        let depths = [Depth::new(2, "final_norm"), Depth::new(2, "residual"), Depth::new(0, "residual")];
        let (axis, places) = depth_axis(depths);
        assert_eq!(axis.iter().map(|depth| depth.label()).collect::<Vec<_>>(), ["0", "2", "norm"]);
        assert_eq!(places[&depths[0]], 2);
    }

    #[test]
    fn a_spread_keeps_both_ends() {
        assert_eq!(spread(&[1, 2, 3], 5), [1, 2, 3]);
        let some = spread(&(0..65).collect::<Vec<_>>(), 9);
        assert_eq!((some.len(), some[0], some[8]), (9, 0, 64));
    }
}
