//! The table that patching writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray, UInt32Array};

use super::measure::Metric;
use super::sweep::Swept;
use crate::contract::sequences::Sequences;
use crate::contract::stage::Output;
use crate::table::folders::{DATASET, PATCH_SOURCE, PATCH_TARGET};
use crate::table::{Kind, Table, column};

pub const TABLE: Table = Table {
    name: "patching",
    folders: &[PATCH_SOURCE, PATCH_TARGET, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column(
            "layer",
            Kind::U32,
            "the patched layer: 0 is the embedding output, l the residual stream after block l, whose last (before the \
             final norm) gives the source's stream to the target's head",
        ),
        column(
            "last_layer",
            Kind::Bool,
            "whether it is the model's last layer, where the stream is the source's own and only the final norm and the head \
             are the target's",
        ),
        column(
            "metric",
            Kind::Text,
            "loss (mean over tokens), logprob (of the target token) or entropy (at its place)",
        ),
        column("value", Kind::F32, "the patched target's, in nats"),
        column("clean_source", Kind::F32, "the source model's on the same tokens, in nats"),
        column("clean_target", Kind::F32, "the target model's without a patch, in nats"),
        column(
            "change",
            Kind::F32,
            "size of the patch: |source - target| / |target|, L2 norms over the patched states; 0: it changed nothing",
        ),
    ],
};

/// The table's rows, by example, layer and metric.
#[derive(Default)]
pub struct Rows {
    metrics: Vec<Metric>,
    last_layer: usize,
    examples: Vec<String>,
    layers: Vec<u32>,
    names: Vec<&'static str>,
    values: [Vec<f32>; 4],
    patches: u64,
    without_change: u64,
    /// For each metric, the examples that have no such value.
    without: BTreeMap<&'static str, u64>,
}

impl Rows {
    /// Of a model whose last layer this is.
    pub fn new(metrics: &[Metric], last_layer: usize) -> Rows {
        Rows { metrics: metrics.to_vec(), last_layer, ..Rows::default() }
    }

    pub fn add(&mut self, group: &Sequences, swept: &Swept) {
        for (i, example) in group.examples.iter().enumerate() {
            for patch in &swept.patches {
                self.patches += 1;
                self.without_change += u64::from(patch.change[i] == 0.0);
                for (m, metric) in self.metrics.iter().enumerate() {
                    let found = [patch.values[i][m], swept.clean_source[i][m], swept.clean_target[i][m]];
                    let [Some(value), Some(source), Some(target)] = found else { continue };
                    self.examples.push(example.clone());
                    self.layers.push(patch.layer as u32);
                    self.names.push(metric.name());
                    let row = [value, source, target, patch.change[i]];
                    self.values.iter_mut().zip(row).for_each(|(column, value)| column.push(value as f32));
                }
            }
            for (metric, value) in self.metrics.iter().zip(&swept.clean_target[i]) {
                *self.without.entry(metric.name()).or_default() += u64::from(value.is_none());
            }
        }
    }

    /// The table; its metadata say how many patches changed nothing, and how many examples lack a metric.
    pub fn output(self) -> Result<Output> {
        let mut metadata = BTreeMap::from([
            ("strata.patches".to_string(), self.patches.to_string()),
            ("strata.patches_without_change".to_string(), self.without_change.to_string()),
        ]);
        for (metric, count) in self.without.iter().filter(|(_, count)| **count > 0) {
            metadata.insert(format!("strata.examples_without.{metric}"), count.to_string());
        }
        let last = self.layers.iter().map(|layer| Some(*layer as usize == self.last_layer));
        let last: BooleanArray = last.collect();
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(self.examples)),
            Arc::new(UInt32Array::from(self.layers)),
            Arc::new(last),
            Arc::new(StringArray::from(self.names)),
        ];
        arrays.extend(self.values.into_iter().map(|column| Arc::new(Float32Array::from(column)) as ArrayRef));
        Ok(Output::Table { batch: TABLE.batch(arrays)?, metadata })
    }
}
