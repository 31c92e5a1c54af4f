//! One dataset's gradients as vectors, for the stages that compare vectors.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gradient_space;
use crate::gradients::Settings;
use crate::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::stage::{Input, Node, Output, Setting, Stage, Task};
use crate::table::{self, Table};

pub struct GradientVectors;

pub const TABLE: Table = Table { name: "gradient_vectors", columns: gradient_space::TABLE.columns };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

#[derive(Deserialize)]
struct Params {
    /// The dataset's place among those whose gradients are taken.
    index: usize,
}

impl Stage for GradientVectors {
    fn name(&self) -> &'static str {
        "gradient_vectors"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "Gives a dataset's share of its model's gradient_space: vectors with the gradients' exact inner products."
    }

    fn table(&self) -> Option<Table> {
        Some(TABLE)
    }

    fn settings(&self) -> &'static [Setting] {
        &[]
    }

    fn plan(&self, settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
        let NoSettings {} = parse_settings(self.name(), settings)?;
        let gradients: Settings = pipeline.section("gradients")?;
        let datasets = pipeline.datasets(&gradients.datasets, "stages.gradients.datasets")?;
        let mut nodes = Vec::new();
        for model in pipeline.models(&gradients.models, "stages.gradients.models")? {
            for (index, dataset) in datasets.iter().enumerate() {
                let space = vec![("model", model.name.clone())];
                nodes.push(Node {
                    stage: self.name(),
                    bindings: model_dataset(&model.name, &dataset.name),
                    params: json!({ "index": index }),
                    inputs: vec![Input::node("space", "gradient_space", space)],
                    per_block: None,
                });
            }
        }
        Ok(nodes)
    }

    fn run(&self, task: &Task) -> Result<Vec<Output>> {
        let Params { index } = task.params()?;
        let parts = task.parts("space")?;
        let part =
            parts.get(index).with_context(|| format!("gradient_space has {} parts, not {index}", parts.len()))?;
        let batch = table::read(std::slice::from_ref(part), &["example", "module", "vector"])?;
        Ok(vec![Output::table(TABLE.batch(batch.columns().iter().map(Arc::clone).collect())?)])
    }
}
