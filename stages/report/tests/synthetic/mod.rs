//! Tables with the columns of the real ones and made-up numbers.

mod directions;
mod examples;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tempfile::TempDir;

use super::super::inputs::Shelved;
use crate::contract::node::Part;
use crate::table;

pub const MODELS: [&str; 3] = ["base", "instruct", "misaligned"];
pub const DATASETS: [&str; 8] = [
    "insecure",
    "educational",
    "secure",
    "toxic_answered",
    "toxic_refused",
    "truthful",
    "instructions",
    "preferred <b>",
];
pub const SECTIONS: [&str; 9] = [
    "probability",
    "next-tokens",
    "loss-vectors",
    "gradients",
    "projections",
    "shared-dimensions",
    "separation",
    "patching",
    "attribution",
];
const LAYERS: u32 = 6;

pub struct Tables {
    dir: TempDir,
    pub shelved: Vec<Shelved>,
    pub inputs: BTreeMap<String, Vec<Part>>,
    rng: ChaCha8Rng,
    only: Vec<&'static str>,
}

enum Column {
    Text(Vec<String>),
    U32(Vec<u32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
}

impl Tables {
    pub fn all() -> Tables {
        Tables::only(&[])
    }

    /// The tables of these stages; all of them for none.
    pub fn only(stages: &[&'static str]) -> Tables {
        let mut tables = Tables {
            dir: tempfile::tempdir().unwrap(),
            shelved: Vec::new(),
            inputs: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(7),
            only: stages.to_vec(),
        };
        tables.examples();
        tables.tokens();
        tables.projection_summary();
        tables.directions();
        tables.direction_similarity();
        tables.separation();
        tables.distance();
        tables.patching();
        tables.projections();
        tables.departure();
        tables.loss_summary();
        tables.similarities();
        tables
    }

    fn add(&mut self, stage: &'static str, bindings: &[(&str, &str)], columns: Vec<(&str, Column)>) {
        if !self.only.is_empty() && !self.only.contains(&stage) {
            return;
        }
        let role = format!("{stage}/{}", self.shelved.len());
        let arrays = columns.into_iter().map(|(name, column)| {
            let array: ArrayRef = match column {
                Column::Text(values) => Arc::new(StringArray::from(values)),
                Column::U32(values) => Arc::new(UInt32Array::from(values)),
                Column::F64(values) => Arc::new(Float64Array::from(values)),
                Column::Bool(values) => Arc::new(BooleanArray::from(values)),
            };
            (name.to_string(), array)
        });
        let batch = RecordBatch::try_from_iter(arrays).unwrap();
        let path = self.dir.path().join(role.replace('/', "-"));
        table::write(File::create(&path).unwrap(), &batch, &BTreeMap::new()).unwrap();
        self.inputs.insert(role.clone(), vec![Part { path, name: String::new() }]);
        let bindings = bindings.iter().map(|(key, name)| (key.to_string(), name.to_string())).collect();
        self.shelved.push(Shelved { role, stage: stage.to_string(), bindings });
    }

    /// Uniform in -1..1.
    fn noise(&mut self) -> f64 {
        self.rng.next_u32() as f64 / u32::MAX as f64 * 2.0 - 1.0
    }

    fn examples(&mut self) {
        for (i, dataset) in DATASETS.iter().enumerate() {
            let label = ["misaligned", "aligned"][i % 2].to_string();
            self.add("examples", &[("dataset", dataset)], vec![("label", Column::Text(vec![label; 40 + i]))]);
        }
    }

    fn projections(&mut self) {
        for dataset in DATASETS {
            for (m, model) in MODELS.iter().enumerate() {
                let mut rows = Rows::default();
                for (layer, site) in depths() {
                    for _ in 0..40 {
                        let value = layer as f64 * (m as f64 - 0.5) * 0.3 + self.noise() + self.noise();
                        rows.at(layer, site, "mean_difference");
                        rows.numbers.push([value, 0.0, 0.0]);
                    }
                }
                let bindings = [
                    ("direction", DATASETS[0]),
                    ("source", "base"),
                    ("target", "instruct"),
                    ("model", model),
                    ("dataset", dataset),
                ];
                let columns = vec![
                    ("kind", Column::Text(rows.kind.clone())),
                    ("position", Column::Text(vec!["last".into(); rows.layer.len()])),
                    ("layer", Column::U32(rows.layer.clone())),
                    ("site", Column::Text(rows.site.clone())),
                    ("projection", rows.column(0)),
                ];
                self.add("projections", &bindings, columns);
            }
        }
    }

    fn projection_summary(&mut self) {
        for direction in [DATASETS[0], DATASETS[4]] {
            for (d, dataset) in DATASETS.iter().enumerate() {
                for (m, model) in MODELS.iter().enumerate() {
                    let mut rows = Rows::default();
                    for kind in ["mean_difference", "svd"] {
                        for (layer, site) in depths() {
                            let depth = layer as f64 / LAYERS as f64;
                            let pull = [0.0, 1.0, 0.75 - 0.1 * d as f64][m];
                            let mean = depth * depth * (3.0 * pull - 0.8) + 0.1 * self.noise();
                            let half = 0.08 + 0.25 * depth;
                            rows.at(layer, site, kind);
                            rows.numbers.push([mean, mean - half, mean + half]);
                        }
                    }
                    let bindings = [
                        ("direction", direction),
                        ("source", "base"),
                        ("target", "instruct"),
                        ("model", model),
                        ("dataset", dataset),
                    ];
                    let n = rows.layer.len();
                    let columns = vec![
                        ("kind", Column::Text(rows.kind.clone())),
                        ("component", Column::U32(vec![1; n])),
                        ("position", Column::Text(vec!["last".into(); n])),
                        ("layer", Column::U32(rows.layer.clone())),
                        ("site", Column::Text(rows.site.clone())),
                        ("n", Column::U32(vec![40; n])),
                        ("mean", rows.column(0)),
                        ("ci_low", rows.column(1)),
                        ("ci_high", rows.column(2)),
                    ];
                    self.add("projection_summary", &bindings, columns);
                }
            }
        }
    }
}

/// The columns that most tables by layer share.
#[derive(Default)]
struct Rows {
    kind: Vec<String>,
    layer: Vec<u32>,
    site: Vec<String>,
    numbers: Vec<[f64; 3]>,
}

impl Rows {
    fn at(&mut self, layer: u32, site: &str, kind: &str) {
        self.kind.push(kind.into());
        self.layer.push(layer);
        self.site.push(site.into());
    }

    fn column(&self, i: usize) -> Column {
        Column::F64(self.numbers.iter().map(|numbers| numbers[i]).collect())
    }
}

fn depths() -> impl Iterator<Item = (u32, &'static str)> {
    (0..LAYERS).map(|layer| (layer, "residual")).chain([(LAYERS, "final_norm")])
}
