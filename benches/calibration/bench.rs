//! A pipeline whose tables are made by the stages themselves, from tables that a simulation gives.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use serde_json::Value;
use strata_stages::contract::pipeline::{Dataset, DatasetSource, Model, ModelSource};
use strata_stages::{Node, Output, Part, Pipeline, Source, Task, stage, table};

pub struct Bench {
    pipeline: Pipeline,
    folder: tempfile::TempDir,
    parts: HashMap<String, Part>,
    planned: HashMap<&'static str, Vec<Node>>,
}

fn key(stage: &str, bindings: &[(&'static str, String)]) -> String {
    format!("{stage} {bindings:?}")
}

impl Bench {
    /// `sections` are those of pipeline.toml, `[stages.*]`.
    pub fn new(models: &[&str], datasets: &[&str], sections: Value) -> Result<Bench> {
        let model = |name: &&str| Model {
            name: name.to_string(),
            source: ModelSource::Directory(name.into()),
            tokenizer: None,
            chat_template: None,
            precision: Default::default(),
        };
        let dataset = |name: &&str| Dataset {
            name: name.to_string(),
            source: DatasetSource::Corpus(name.to_string()),
            reading: Value::Null,
        };
        let Value::Object(sections) = sections else { bail!("sections are an object") };
        Ok(Bench {
            pipeline: Pipeline {
                models: models.iter().map(model).collect(),
                datasets: datasets.iter().map(dataset).collect(),
                sections: sections.into_iter().collect(),
                ..Pipeline::default()
            },
            folder: tempfile::tempdir()?,
            parts: HashMap::new(),
            planned: HashMap::new(),
        })
    }

    /// Gives a table of a model on a dataset.
    pub fn give(&mut self, stage: &str, model: &str, dataset: &str, columns: Vec<(&str, ArrayRef)>) -> Result<()> {
        self.give_bound(stage, &[("model", model.to_string()), ("dataset", dataset.to_string())], columns)
    }

    /// The table of a node with these bindings.
    pub fn give_bound(
        &mut self,
        stage: &str,
        bindings: &[(&'static str, String)],
        columns: Vec<(&str, ArrayRef)>,
    ) -> Result<()> {
        let part = self.write(&RecordBatch::try_from_iter(columns)?)?;
        self.parts.insert(key(stage, bindings), part);
        Ok(())
    }

    fn write(&self, batch: &RecordBatch) -> Result<Part> {
        let path = self.folder.path().join(format!("{}.parquet", self.folder.path().read_dir()?.count()));
        table::write(File::create(&path)?, batch, &BTreeMap::new())?;
        Ok(Part { path, name: String::new() })
    }

    fn planned(&mut self, name: &'static str) -> Result<&[Node]> {
        if !self.planned.contains_key(name) {
            let stage = stage(name).with_context(|| format!("there is no stage {name}"))?;
            let section = self.pipeline.sections.iter().find(|(section, _)| section == name);
            let settings = section.map_or(Value::Object(Default::default()), |(_, settings)| settings.clone());
            let nodes = (stage.plan)(&settings, &self.pipeline)?;
            self.planned.insert(name, nodes);
        }
        Ok(&self.planned[name])
    }

    /// The rows of all nodes of a stage whose bindings hold these names.
    pub fn table(&mut self, name: &'static str, names: &[(&str, &str)]) -> Result<Rows> {
        let fits = |node: &&Node| {
            names.iter().all(|(role, name)| {
                let bound = node.bindings.iter().find(|(found, _)| found == role);
                bound.is_none_or(|(_, found)| found == name)
            })
        };
        let nodes: Vec<Node> = self.planned(name)?.iter().filter(fits).cloned().collect();
        let mut rows = Rows::default();
        for node in nodes {
            let part = self.made(&node)?;
            let batch = table::read(&[part], &[])?;
            for row in 0..batch.num_rows() {
                let cell = |i: usize| (batch.schema().field(i).name().clone(), cell(batch.column(i), row));
                let mut cells: BTreeMap<String, Cell> = (0..batch.num_columns()).map(cell).collect();
                cells.extend(node.bindings.iter().map(|(role, name)| (role.to_string(), Cell::Text(name.clone()))));
                rows.0.push(Row(cells));
            }
        }
        Ok(rows.keep(names))
    }

    fn made(&mut self, node: &Node) -> Result<Part> {
        if let Some(part) = self.parts.get(&key(node.stage, &node.bindings)) {
            return Ok(part.clone());
        }
        let mut inputs: BTreeMap<String, Vec<Part>> = BTreeMap::new();
        for input in &node.inputs {
            let Source::Node { stage: name, bindings } = &input.source else {
                bail!("{} reads {:?}, which no simulation gives", node.stage, input.source)
            };
            let part = match self.parts.get(&key(name, bindings)) {
                Some(part) => part.clone(),
                None => {
                    let found = self.planned(name)?.iter().find(|node| node.bindings == *bindings).cloned();
                    self.made(&found.with_context(|| format!("{} has no node {bindings:?}", name))?)?
                }
            };
            inputs.entry(input.role.clone()).or_default().push(part);
        }
        let task = Task { params: &node.params, inputs, cancelled: &|| false, progress: &|_, _| {} };
        let stage = stage(node.stage).context("a planned stage")?;
        let outputs = stage.run(&task).with_context(|| format!("{} {:?}", node.stage, node.bindings))?;
        let Some(Output::Table { batch, .. }) = outputs.into_iter().next() else {
            bail!("{} gave no table", node.stage)
        };
        let part = self.write(&batch)?;
        self.parts.insert(key(node.stage, &node.bindings), part.clone());
        Ok(part)
    }
}

#[derive(Debug, Clone)]
pub enum Cell {
    Number(f64),
    Text(String),
    Vector(Vec<f32>),
    Null,
}

fn cell(column: &ArrayRef, row: usize) -> Cell {
    let any = column.as_any();
    if column.is_null(row) {
        Cell::Null
    } else if let Some(values) = any.downcast_ref::<Float64Array>() {
        Cell::Number(values.value(row))
    } else if let Some(values) = any.downcast_ref::<Float32Array>() {
        Cell::Number(f64::from(values.value(row)))
    } else if let Some(values) = any.downcast_ref::<UInt32Array>() {
        Cell::Number(f64::from(values.value(row)))
    } else if let Some(values) = any.downcast_ref::<BooleanArray>() {
        Cell::Text(values.value(row).to_string())
    } else if let Some(values) = any.downcast_ref::<StringArray>() {
        Cell::Text(values.value(row).to_string())
    } else if let Some(values) = any.downcast_ref::<arrow::array::FixedSizeListArray>() {
        let values = values.value(row);
        values
            .as_any()
            .downcast_ref::<Float32Array>()
            .map_or(Cell::Null, |values| Cell::Vector(values.values().to_vec()))
    } else {
        Cell::Null
    }
}

#[derive(Debug, Clone)]
pub struct Row(BTreeMap<String, Cell>);

impl Row {
    /// NaN where there is no such column, or no value.
    pub fn number(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Cell::Number(value)) => *value,
            _ => f64::NAN,
        }
    }

    pub fn vector(&self, name: &str) -> &[f32] {
        match self.0.get(name) {
            Some(Cell::Vector(values)) => values,
            _ => &[],
        }
    }

    fn is(&self, name: &str, wanted: &str) -> bool {
        match self.0.get(name) {
            Some(Cell::Text(text)) => text == wanted,
            Some(Cell::Number(value)) => value.to_string() == wanted,
            Some(Cell::Vector(_) | Cell::Null) => false,
            None => true,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    /// The rows in which these columns, where they are there, have these values.
    pub fn keep(&self, wanted: &[(&str, &str)]) -> Rows {
        let fits = |row: &&Row| wanted.iter().all(|(name, value)| row.is(name, value));
        Rows(self.0.iter().filter(fits).cloned().collect())
    }

    pub fn least(&self, column: &str) -> f64 {
        self.0.iter().map(|row| row.number(column)).fold(f64::NAN, f64::min)
    }
}
