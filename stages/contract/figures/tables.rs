//! The tables that the report was given, and the names of the pipeline's models and datasets.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::rows::Rows;
use crate::contract::node::Part;
use crate::contract::site::Stream;
use crate::contract::stage::Task;

/// Everything that figures are drawn from.
#[derive(Default)]
pub struct Tables {
    /// In the order of the pipeline, which is that of every legend and colour.
    pub models: Vec<String>,
    pub datasets: Vec<Dataset>,
    /// How many of each dataset's examples are shown one by one.
    pub conversations: usize,
    nodes: Vec<NodeTable>,
}

/// A dataset, and what its examples say of it.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    pub name: String,
    pub label: String,
    pub examples: Option<usize>,
}

/// A node whose table the report reads. The report prints its names, so they are part of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub role: String,
    pub stage: String,
    pub bindings: Vec<(String, String)>,
    pub columns: Vec<String>,
}

/// One node's table, not yet read.
pub struct NodeTable {
    given: Given,
    parts: Vec<Part>,
}

impl NodeTable {
    /// The name bound to a role such as `model`; empty where the table has no such folder.
    pub fn name(&self, role: &str) -> &str {
        self.given.bindings.iter().find(|(key, _)| key == role).map_or("", |(_, name)| name)
    }

    fn describe(&self) -> String {
        let names: Vec<String> = self.given.bindings.iter().map(|(key, name)| format!("{key}={name}")).collect();
        format!("{}[{}]", self.given.stage, names.join(", "))
    }
}

impl Tables {
    /// The tables that a task was given under the roles of `given`. A node without parts is left out.
    ///
    /// # Errors
    /// When a role is missing, or the examples cannot be read.
    pub fn open(
        models: &[String],
        datasets: &[String],
        conversations: usize,
        given: &[Given],
        task: &Task,
    ) -> Result<Tables> {
        let mut tables = Tables { models: models.to_vec(), conversations, ..Tables::default() };
        for given in given {
            let parts = task.parts(&given.role)?.to_vec();
            if !parts.is_empty() {
                tables.nodes.push(NodeTable { given: given.clone(), parts });
            }
        }
        tables.datasets = datasets.iter().map(|name| Dataset { name: name.clone(), ..Dataset::default() }).collect();
        let examples = tables.rows("examples")?;
        for (names, rows) in examples.groups(&["dataset"]) {
            let labels: Vec<String> = rows.groups(&["label"]).into_iter().map(|(label, _)| label[0].clone()).collect();
            if let Some(dataset) = tables.datasets.iter_mut().find(|dataset| dataset.name == names[0]) {
                (dataset.label, dataset.examples) = (labels.join(", "), Some(rows.len()));
            }
        }
        Ok(tables)
    }

    /// The place of a model or dataset in the pipeline, models first; the last for another name.
    pub fn rank(&self, name: &str) -> usize {
        let datasets = self.datasets.iter().map(|dataset| dataset.name.as_str());
        let mut names = self.models.iter().map(String::as_str).chain(datasets);
        names.position(|known| known == name).unwrap_or(usize::MAX)
    }

    /// The nodes of a stage, in the order of its plan.
    pub fn nodes(&self, stage: &'static str) -> impl Iterator<Item = &NodeTable> {
        self.nodes.iter().filter(move |node| node.given.stage == stage)
    }

    /// All rows of a stage's tables, with the columns that the report reads of it.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn rows(&self, stage: &'static str) -> Result<Rows> {
        self.rows_of(stage, self.nodes(stage))
    }

    /// The rows of some of a stage's nodes.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn rows_of<'a>(&self, stage: &'static str, nodes: impl IntoIterator<Item = &'a NodeTable>) -> Result<Rows> {
        self.read(stage, nodes, |parts| parts)
    }

    /// The rows of the first part of each node of a stage, where a dataset's first examples are.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn first_rows(&self, stage: &'static str) -> Result<Rows> {
        self.read(stage, self.nodes(stage), |parts| &parts[..1])
    }

    fn read<'a>(
        &self,
        stage: &'static str,
        nodes: impl IntoIterator<Item = &'a NodeTable>,
        parts: fn(&[Part]) -> &[Part],
    ) -> Result<Rows> {
        let mut batches = Vec::new();
        for node in nodes {
            let columns: Vec<&str> = node.given.columns.iter().map(String::as_str).collect();
            let batch = crate::table::read(parts(&node.parts), &columns);
            batches.push((&node.given.bindings[..], batch.with_context(|| format!("the table {}", node.describe()))?));
        }
        let order = |column: &str| -> Vec<&str> {
            match column.split('_').next() {
                Some("site") => Stream::ALL.map(Stream::name).to_vec(),
                Some("model" | "source" | "target") => self.models.iter().map(String::as_str).collect(),
                // What the groups of a comparison share.
                Some("shared") => {
                    let datasets = self.datasets.iter().map(|dataset| dataset.name.as_str());
                    self.models.iter().map(String::as_str).chain(datasets).collect()
                }
                Some("dataset" | "direction") => self.datasets.iter().map(|dataset| dataset.name.as_str()).collect(),
                _ => Vec::new(),
            }
        };
        Rows::new(stage, &batches, order).with_context(|| format!("the tables of {stage}"))
    }

    /// `insecure 40, secure 38`: how many examples these datasets have, as far as that is known.
    pub fn sizes(&self, names: &[String]) -> String {
        let known = self.datasets.iter().filter(|dataset| names.contains(&dataset.name));
        let sizes: Vec<String> =
            known.filter_map(|dataset| Some(format!("{} {}", dataset.name, dataset.examples?))).collect();
        sizes.join(", ")
    }
}
