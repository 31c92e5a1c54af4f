//! Cosine similarities of pairs of examples, raw and centred.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray, UInt32Array};
use arrow::compute::take;
use serde::Deserialize;
use serde_json::Value;

use crate::comparison::compared::{Centring, SETTINGS, Settings, of_section};
use crate::comparison::cosines::Vectors;
use crate::comparison::groups::{CENTRED, Groups, SLICE_COLUMNS, Sizes, slice_arrays};
use crate::comparison::task::Comparing;
use crate::contract::cost::{Cost, Expected};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError};
use crate::contract::setting::defaults;
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::table::folders::{COMPARISON, DATASET_A, DATASET_B, MODEL_A, MODEL_B, OF, SHARED};
use crate::table::{Kind, Table, column};

const TABLE: Table = Table {
    name: "similarity",
    folders: &[OF, COMPARISON, SHARED, MODEL_A, DATASET_A, MODEL_B, DATASET_B],
    columns: &[
        SLICE_COLUMNS[0],
        SLICE_COLUMNS[1],
        SLICE_COLUMNS[2],
        SLICE_COLUMNS[3],
        CENTRED,
        column("example_a", Kind::Text, "identity of the example in group a"),
        column(
            "example_b",
            Kind::Text,
            "identity of the example in group b; within one group it comes after example_a",
        ),
        column("same_example", Kind::Bool, "whether the two are one example, of a dataset under two models"),
        column(
            "cosine",
            Kind::F32,
            "cosine of the two vectors; 0 where one of them is 0, null where they have fewer than `least` losses in common",
        ),
    ],
};

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    comparing: Comparing,
    a: usize,
    b: usize,
}

/// Bytes of a row: a cosine that hardly compresses, and names that do.
const ROW_IN_FILE: f64 = 6.0;
/// The same with the names spelt out, as they are while a table is made.
const ROW_IN_MEMORY: f64 = 150.0;

pub static STAGE: Stage = Stage {
    name: "similarity",
    version: 2,
    about: "Pairwise cosine similarities of examples' hidden states, loss vectors or gradients, raw and centred.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: SETTINGS,
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: figure::FIGURES,
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let mut nodes = Vec::new();
    for comparison in of_section(settings, pipeline)? {
        for (a, b) in comparison.pairs() {
            let mut params = comparison.params();
            params["a"] = a.into();
            params["b"] = b.into();
            let (of_a, of_b) = (&comparison.groups[a], &comparison.groups[b]);
            let mut bindings = comparison.bindings();
            bindings.extend([
                ("model_a", of_a.model.clone()),
                ("dataset_a", of_a.dataset.clone()),
                ("model_b", of_b.model.clone()),
                ("dataset_b", of_b.dataset.clone()),
            ]);
            nodes.push(Node { stage: STAGE.name, bindings, params, inputs: comparison.inputs(), per_part: None });
        }
    }
    Ok(nodes)
}

/// Two products for each pair, raw and centred; a row of the table is a cosine and the two names' numbers in
/// their dictionaries.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let sizes = Sizes::expected(&params.comparing.reading, expected)?;
    let rows = 2.0 * sizes.slices * sizes.pairs(params.a, params.b)?;
    let memory = sizes.memory() + ROW_IN_MEMORY * rows;
    Some(Cost { flops: 2.0 * rows * sizes.width, written: ROW_IN_FILE * rows, memory, ..Cost::default() })
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let Params { comparing, a, b } = task.params()?;
    let groups = Groups::open(task, &comparing.reading)?;
    let slices = groups.slices();
    let mut counts = Vec::new();
    let (mut centred_rows, mut same, mut cosines) = (Vec::new(), Vec::new(), Vec::new());
    let mut examples = [Texts::default(), Texts::default()];
    for slice in &slices {
        let filled = comparing.load(&groups, slice)?;
        let before = cosines.len();
        let all: Vec<usize> = (0..filled.groups.len()).collect();
        let pair = if a == b { vec![a] } else { vec![a, b] };
        for centred in [false, true] {
            // The groups that are centred together. A group has no pair to be centred with but the whole of a comparison of
            // two.
            let together = match comparing.centring {
                Centring::None if centred => continue,
                Centring::Pair if centred && a == b && all.len() > 2 => continue,
                Centring::Comparison if centred => &all,
                Centring::Pair if centred && a == b => &all,
                _ => &pair,
            };
            let vectors = Vectors::centred_with(&filled, together, &pair, centred, comparing.least);
            let found = vectors.between(vectors.rows(0), vectors.rows(pair.len() - 1));
            let (of_a, of_b) = (&filled.groups[a].examples, &filled.groups[b].examples);
            let [codes_a, codes_b] = &mut examples;
            let (from_a, from_b) = (codes_a.add(of_a), codes_b.add(of_b));
            for (i, example_a) in of_a.iter().enumerate() {
                let first = if a == b { i + 1 } else { 0 };
                for (j, example_b) in of_b.iter().enumerate().skip(first) {
                    centred_rows.push(centred);
                    same.push(a != b && example_a == example_b);
                    codes_a.rows.push(from_a + i as u32);
                    codes_b.rows.push(from_b + j as u32);
                    cosines.push(Some(found[i * of_b.len() + j] as f32).filter(|cosine| !cosine.is_nan()));
                }
            }
        }
        counts.push(cosines.len() - before);
    }
    let [positions, layers, sites, modules] = slice_arrays(slices.iter().zip(counts.iter().copied()))?;
    let [examples_a, examples_b] = examples;
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        modules,
        Arc::new(BooleanArray::from(centred_rows)),
        examples_a.column()?,
        examples_b.column()?,
        Arc::new(BooleanArray::from(same)),
        Arc::new(Float32Array::from(cosines)),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// A column of texts of which each stands in many rows.
#[derive(Default)]
struct Texts {
    texts: Vec<String>,
    rows: Vec<u32>,
}

impl Texts {
    /// Where these texts begin.
    fn add(&mut self, texts: &[String]) -> u32 {
        let first = self.texts.len() as u32;
        self.texts.extend_from_slice(texts);
        first
    }

    fn column(self) -> Result<ArrayRef> {
        Ok(take(&StringArray::from(self.texts), &UInt32Array::from(self.rows), None)?)
    }
}

#[cfg(test)]
#[path = "similarity_tests.rs"]
mod tests;
