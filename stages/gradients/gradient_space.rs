//! The space that the gradients of all of a model's examples span, and where in it each of them lies.
//!
//! n gradients, each as large as its weight matrix, lie in a space of at most n dimensions. Their coordinates
//! there are n numbers each and have the inner products of the gradients themselves, so whatever compares
//! vectors (cosines raw and centred, principal components, means over pairs of groups) compares gradients by them, exactly. From the Gram
//! matrix K = U Λ Uᵀ they are the rows of U Λ^½ (classical scaling, Torgerson 1952).

mod gram;
mod parts;
mod scratch;
mod slabs;
mod stored;

use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, StringArray};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected};
use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::contract::setting::{NoSettings, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::gradients::factors::kept;
use crate::gradients::settings::Settings;
use crate::gradients::vector_columns::VECTOR_COLUMNS;
use crate::linear_algebra::symmetric_eigen;
use crate::table::folders::MODEL;
use crate::table::{Table, list_array};
use gram::gram;
use parts::{Loaded, Module};

pub const TABLE: Table = Table { name: "gradient_space", folders: &[MODEL], columns: VECTOR_COLUMNS };

/// What a module counts in the progress.
const SHARE: f64 = 1000.0;

pub static STAGE: Stage = Stage {
    name: "gradient_space",
    version: 4,
    about: "The exact inner products of all of a model's gradients, and coordinates with these inner products.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[],
    defaults: defaults::<NoSettings>,
    plan,
    cost: Some(cost),
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let NoSettings {} = parse_settings(STAGE.name, settings)?;
    let gradients: Settings = pipeline.section("gradients")?;
    gradients.check(pipeline)?;
    let datasets = pipeline.datasets(&gradients.datasets, "stages.gradients.datasets")?;
    let mut nodes = Vec::new();
    for model in pipeline.models(&gradients.models, "stages.gradients.models")? {
        let inputs = datasets.iter().enumerate().map(|(i, dataset)| {
            Input::node(format!("factors/{i}"), "gradient_factors", model_dataset(&model.name, &dataset.name))
        });
        nodes.push(Node {
            stage: STAGE.name,
            bindings: vec![("model", model.name.clone())],
            params: json!({}),
            inputs: inputs.collect(),
            per_part: None,
        });
    }
    Ok(nodes)
}

/// For each module: gradients from their factors, the products of all pairs, and the eigenvectors of their
/// matrix, of which about 10 n³ is what a symmetric solver takes. One module's at a time, and of it what is held at once.
fn cost(_params: &Value, expected: &Expected) -> Option<Cost> {
    let n: f64 = expected.tables.iter().map(|table| table.text.examples).sum();
    let mut cost = Cost::default();
    let kept: Option<Vec<_>> =
        expected.tables.iter().map(|table| Some((table, kept(&table.params, &table.model, table.text)?))).collect();
    let kept = kept?;
    for module in 0..kept.first()?.1.len() {
        let mut bytes = 0.0;
        for (table, modules) in &kept {
            let module = modules.get(module)?;
            bytes += module.bytes;
            if !module.whole {
                cost.flops += 2.0 * table.text.tokens * module.entries;
            }
        }
        cost.flops += n * n * kept[0].1[module].entries + 10.0 * n * n * n;
        cost.written += 4.0 * n * n;
        cost.memory = cost.memory.max(slabs::memory(bytes, kept[0].1[module].entries, n));
    }
    Some(cost)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let modules = parts::modules(task)?;
    let mut found = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        found.push(embed(module, (index, modules.len()), task)?);
    }
    let width = found.iter().map(|embedded| embedded.width).max().unwrap_or(0).max(1);
    let datasets = task.inputs.keys().filter(|role| role.starts_with("factors/")).count();
    (0..datasets).map(|dataset| output(dataset, width, &modules, &found)).collect()
}

/// Where the examples of all datasets lie, for one module.
struct Embedded {
    /// Dataset and example, in the order of the coordinates' rows.
    examples: Vec<(usize, String)>,
    width: usize,
    /// [examples, width]
    coordinates: Vec<f32>,
}

/// The coordinates of one module's gradients; `place` is its index among all modules, for the progress.
fn embed(module: &Module, (index, modules): (usize, usize), task: &Task) -> Result<Embedded> {
    let Loaded { examples, stored, bytes } = module.load()?;
    let n = examples.len();
    // The modules' shares of the work are not known before they are read: each counts as one.
    let products = gram(&stored, bytes, |done| {
        (task.progress)(((index as f64 + done) * SHARE) as u64, (modules as f64 * SHARE) as u64);
        !(task.cancelled)()
    })?;
    drop(stored);
    let Some(products) = products else { bail!("stopped") };
    let eigen = symmetric_eigen(&products, n, n)?;
    // What is below the products' own rounding is no dimension.
    let least = eigen.values.first().map_or(0.0, |largest| largest * 1e-14);
    let width = eigen.values.iter().take_while(|value| **value > least).count();
    let mut coordinates = vec![0f32; n * width];
    for (k, (value, vector)) in eigen.values.iter().zip(&eigen.vectors).take(width).enumerate() {
        // An eigenvector's sign is arbitrary; its largest entry positive makes it one.
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        let scale = value.sqrt() * largest.signum();
        for (i, entry) in vector.iter().enumerate().filter(|(i, _)| products[i * n + i] > 0.0) {
            coordinates[i * width + k] = (scale * entry) as f32;
        }
    }
    Ok(Embedded { examples, width, coordinates })
}

/// One dataset's part: the modules one after another, their vectors filled up with zeros to one width.
fn output(dataset: usize, width: usize, modules: &[Module], found: &[Embedded]) -> Result<Output> {
    let (mut examples, mut names, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
    for (module, embedded) in modules.iter().zip(found) {
        for (i, (_, example)) in embedded.examples.iter().enumerate().filter(|(_, (of, _))| *of == dataset) {
            examples.push(example.as_str());
            names.push(module.name.as_str());
            vectors.extend_from_slice(&embedded.coordinates[i * embedded.width..(i + 1) * embedded.width]);
            vectors.resize(examples.len() * width, 0.0);
        }
    }
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from(examples)) as ArrayRef,
        Arc::new(StringArray::from(names)),
        list_array(vectors, width)?,
    ])?;
    Ok(Output::table(batch))
}

#[cfg(test)]
mod tests;
