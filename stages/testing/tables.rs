//! Small tables on disk for the stages' tests.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use serde_json::Value;

use crate::contract::node::Part;
use crate::contract::site::Site;
use crate::contract::stage::{Output, Stage, Task};
use crate::table;

/// A temporary folder of Parquet files, removed when dropped.
pub struct TestTables {
    folder: tempfile::TempDir,
    count: Cell<usize>,
}

pub fn text(values: impl IntoIterator<Item = impl Into<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values.into_iter().map(Into::into)))
}

pub fn u32s(values: impl IntoIterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

pub fn f32s(values: impl IntoIterator<Item = f32>) -> ArrayRef {
    Arc::new(Float32Array::from_iter_values(values))
}

impl TestTables {
    pub fn new() -> TestTables {
        TestTables { folder: tempfile::tempdir().expect("a temporary folder"), count: Cell::new(0) }
    }

    /// Writes these columns as one part.
    pub fn part(&self, columns: Vec<(&str, ArrayRef)>) -> Part {
        self.write(&RecordBatch::try_from_iter(columns).expect("columns of one length"))
    }

    pub fn write(&self, batch: &RecordBatch) -> Part {
        let path = self.folder.path().join(format!("{}.parquet", self.count.replace(self.count.get() + 1)));
        table::write(std::fs::File::create(&path).unwrap(), batch, &BTreeMap::new()).unwrap();
        Part { path, name: String::new() }
    }

    /// One part of `hidden_states` for layers 0..=`layers`, and the final norm where asked for, from a
    /// function of (position, site, index of the example).
    pub fn hidden_states(
        &self,
        examples: &[&str],
        positions: &[&str],
        layers: u32,
        final_norm: bool,
        vector: impl Fn(&str, Site, usize) -> Vec<f32>,
    ) -> Part {
        let mut columns: [Vec<String>; 3] = Default::default();
        let (mut numbers, mut vectors, mut width) = (Vec::new(), Vec::new(), 0);
        for &position in positions {
            let residual = (0..=layers as usize).map(Site::residual);
            for site in residual.chain(final_norm.then_some(Site::final_norm(layers as usize))) {
                for (index, example) in examples.iter().enumerate() {
                    columns[0].push(example.to_string());
                    columns[1].push(position.to_string());
                    columns[2].push(site.name().to_string());
                    numbers.push(site.layer as u32);
                    let values = vector(position, site, index);
                    width = values.len();
                    vectors.extend(values);
                }
            }
        }
        let [examples, positions, sites] = columns;
        self.part(vec![
            ("example", text(examples)),
            ("position", text(positions)),
            ("layer", u32s(numbers)),
            ("site", text(sites)),
            ("vector", table::vector_array(vectors, width).unwrap()),
        ])
    }

    /// The states of a model on a dataset in tables.json: examples `x0`, `x1`, ... at layers 0 to 2.
    pub fn golden_states(&self, golden: &Value, model: &str, dataset: &str) -> Part {
        let values: Vec<Vec<Vec<f32>>> =
            serde_json::from_value(golden["states"][format!("{model}/{dataset}")].clone()).expect("states");
        let names: Vec<String> = (0..values[0].len()).map(|i| format!("{dataset}{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let layers = values.len() as u32 - 1;
        self.hidden_states(&names, &["last"], layers, false, |_, site, i| values[site.layer][i].clone())
    }
}

/// What tests/golden/tables.py computed with numpy.
pub fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/tables.json")).expect("tables.json")
}

/// Runs one task of a stage.
pub fn run(stage: &Stage, params: Value, inputs: &[(&str, &[Part])]) -> anyhow::Result<RecordBatch> {
    let task = Task {
        params: &params,
        inputs: inputs.iter().map(|(role, parts)| (role.to_string(), parts.to_vec())).collect(),
        cancelled: &|| false,
        progress: &|_, _| {},
    };
    let mut outputs = stage.run(&task)?;
    match outputs.pop() {
        Some(Output::Table { batch, .. }) if outputs.is_empty() => Ok(batch),
        _ => panic!("{} gave no single table", stage.name),
    }
}

/// A column of numbers, nulls as NaN.
pub fn numbers(batch: &RecordBatch, name: &str) -> Vec<f64> {
    let array = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<Float64Array>() {
        array.iter().map(|value| value.unwrap_or(f64::NAN)).collect()
    } else if let Some(array) = any.downcast_ref::<Float32Array>() {
        array.iter().map(|value| value.map_or(f64::NAN, f64::from)).collect()
    } else {
        let array = any.downcast_ref::<UInt32Array>().expect("a column of numbers");
        array.iter().map(|value| value.map_or(f64::NAN, f64::from)).collect()
    }
}

pub fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let array: &StringArray = table::values(batch, name).unwrap();
    array.iter().map(|value| value.unwrap_or("null").to_string()).collect()
}

#[track_caller]
pub fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not within {tolerance} of {expected}");
}
