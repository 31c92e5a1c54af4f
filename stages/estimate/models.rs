//! The sizes of a run's models, from their config.json files.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::planned::PlannedRun;
use crate::contract::cost::ModelSize;
use crate::contract::pipeline::ModelSource;
use crate::contract::stage::Outputs;
use crate::model::size::size;

pub struct Models<'a> {
    run: &'a PlannedRun<'a>,
    /// `None` for one that the pipeline trains and that is not there.
    known: BTreeMap<String, Option<ModelSize>>,
}

impl<'a> Models<'a> {
    pub fn new(run: &'a PlannedRun<'a>) -> Models<'a> {
        Models { run, known: BTreeMap::new() }
    }

    /// A model's size; `None` while a model that the pipeline trains is not there.
    ///
    /// # Errors
    /// When its config.json cannot be read or describes a model that is not supported.
    pub fn size(&mut self, name: &str) -> Result<Option<ModelSize>> {
        if !self.known.contains_key(name) {
            self.known.insert(name.to_string(), self.read(name)?);
        }
        Ok(self.known[name].clone())
    }

    /// The models that were asked for and whose sizes are known, by name.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, &ModelSize)> {
        self.known.iter().filter_map(|(name, size)| Some((name.as_str(), size.as_ref()?)))
    }

    pub fn largest(&self) -> Option<&ModelSize> {
        self.sizes().map(|(_, size)| size).max_by(|a, b| a.parameters.total_cmp(&b.parameters))
    }

    fn read(&self, name: &str) -> Result<Option<ModelSize>> {
        let path = match &self.run.pipeline.model(name, "models")?.source {
            ModelSource::Directory(directory) => directory.join("config.json"),
            ModelSource::Trained(_) => {
                let makers = self.run.nodes.iter().filter(|node| matches!(node.stage.outputs, Outputs::Model));
                let maker = makers.into_iter().find(|node| node.bindings.iter().any(|(_, model)| model == name));
                let outputs = maker.and_then(|maker| maker.outputs.as_ref()).into_iter().flatten();
                match outputs.into_iter().find(|output| output.name == "config.json") {
                    Some(config) => config.path.clone(),
                    None => return Ok(None),
                }
            }
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(size(&text).with_context(|| format!("reading {}", path.display()))?))
    }
}
