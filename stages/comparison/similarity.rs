//! Cosine similarities of pairs of examples, raw and centred on the mean of the comparison.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{BooleanArray, Float32Array, StringArray};
use serde::Deserialize;
use serde_json::Value;

use crate::comparison::compared::{SETTINGS, Settings, comparisons};
use crate::comparison::groups::{CENTRED, Groups, PairParams, SLICE_COLUMNS, Sizes, pooled, slice_arrays};
use crate::contract::cost::{Cost, Expected};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::defaults;
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{products, scale_to_unit};
use crate::table::folders::{DATASET_A, DATASET_B, MODEL_A, MODEL_B, OF};
use crate::table::{Kind, Table, column};

const TABLE: Table = Table {
    name: "similarity",
    folders: &[OF, MODEL_A, DATASET_A, MODEL_B, DATASET_B],
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
        column("cosine", Kind::F32, "cosine of the two vectors; 0 where one of them is 0"),
    ],
};

/// Bytes of a row: a cosine that hardly compresses, and names that do.
const ROW_IN_FILE: f64 = 6.0;
/// The same with the names spelt out, as they are while a table is made.
const ROW_IN_MEMORY: f64 = 150.0;

pub static STAGE: Stage = Stage {
    name: "similarity",
    version: 1,
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
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    let mut nodes = Vec::new();
    for comparison in comparisons(&settings, pipeline)? {
        for (a, b) in comparison.pairs() {
            let mut params = comparison.params(&settings);
            params["a"] = a.into();
            params["b"] = b.into();
            nodes.push(Node {
                stage: STAGE.name,
                bindings: comparison.pair(a, b),
                params,
                inputs: comparison.inputs(),
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

/// Two products for each pair, raw and centred; a row of the table is a cosine and the two names' numbers in
/// their dictionaries.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = PairParams::deserialize(params).ok()?;
    let sizes = Sizes::expected(&params.reading, expected)?;
    let rows = 2.0 * sizes.slices * sizes.pairs(params.a, params.b)?;
    let memory = sizes.memory() + ROW_IN_MEMORY * rows;
    Some(Cost { flops: 2.0 * rows * sizes.width, written: ROW_IN_FILE * rows, memory, ..Cost::default() })
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: PairParams = task.params()?;
    let groups = Groups::open(task, &params.reading)?;
    let mut slices = Vec::new();
    let (mut centred_rows, mut cosines) = (Vec::new(), Vec::new());
    let (mut examples_a, mut examples_b) = (Vec::new(), Vec::new());
    for slice in groups.slices() {
        let loaded = groups.load(&slice)?;
        let before = cosines.len();
        for centred in [false, true] {
            let mut pool = pooled(&loaded, centred);
            let width = loaded[0].width;
            pool.chunks_exact_mut(width).for_each(|vector| {
                scale_to_unit(vector);
            });
            let rows = |group: usize| {
                let start: usize = loaded[..group].iter().map(|group| group.examples.len()).sum();
                &pool[start * width..(start + loaded[group].examples.len()) * width]
            };
            let dots = products(rows(params.a), rows(params.b), width);
            let (a, b) = (&loaded[params.a].examples, &loaded[params.b].examples);
            for (i, example_a) in a.iter().enumerate() {
                let first = if params.a == params.b { i + 1 } else { 0 };
                for (j, example_b) in b.iter().enumerate().skip(first) {
                    centred_rows.push(centred);
                    examples_a.push(example_a.clone());
                    examples_b.push(example_b.clone());
                    cosines.push(dots[i * b.len() + j] as f32);
                }
            }
        }
        slices.push((slice, cosines.len() - before));
    }
    let [positions, layers, sites, modules] = slice_arrays(&slices);
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        modules,
        Arc::new(BooleanArray::from(centred_rows)),
        Arc::new(StringArray::from(examples_a)),
        Arc::new(StringArray::from(examples_b)),
        Arc::new(Float32Array::from(cosines)),
    ])?;
    Ok(vec![Output::table(batch)])
}

#[cfg(test)]
#[path = "similarity_tests.rs"]
mod tests;
