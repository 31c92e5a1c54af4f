//! The sizes of a run's models: from their config.json files, or from the settings that one will be trained with.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::planned::{PlannedNode, PlannedRun};
use crate::contract::cost::ModelSize;
use crate::contract::pipeline::Origin;
use crate::contract::stage::Outputs;
use crate::model::files;
use crate::model::size::size;
use crate::organism::shape::Shape;

pub struct Models<'a> {
    run: &'a PlannedRun<'a>,
    /// `None` for one whose size is not known.
    known: BTreeMap<String, Option<ModelSize>>,
}

impl<'a> Models<'a> {
    pub fn new(run: &'a PlannedRun<'a>) -> Models<'a> {
        Models { run, known: BTreeMap::new() }
    }

    /// A model's size; `None` where the pipeline trains it and its settings do not tell.
    ///
    /// # Errors
    /// When its config.json cannot be read or describes a model that is not supported.
    pub fn size(&mut self, name: &str) -> Result<Option<ModelSize>> {
        if !self.known.contains_key(name) {
            let pipeline = self.run.pipeline;
            let size = match pipeline.origin(pipeline.model(name, "models")?) {
                Some(Origin::Directory(path)) => {
                    let text = files::config(path)?;
                    Some(size(&text).with_context(|| format!("reading {}", files::config_file(path).display()))?)
                }
                Some(Origin::Trained(name)) => self.trained(name)?,
                None => None,
            };
            self.known.insert(name.to_string(), size);
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

    /// A model that the pipeline trains: as it is, of the shape in its settings, or like the one it starts from.
    fn trained(&mut self, name: &str) -> Result<Option<ModelSize>> {
        let makes = |node: &&PlannedNode| {
            matches!(node.stage.outputs, Outputs::Model) && node.bindings.iter().any(|(_, model)| model == name)
        };
        let Some(maker) = self.run.nodes.iter().find(makes) else { return Ok(None) };
        if let Some(config) = maker.outputs.iter().flatten().find(|output| output.name == "config.json") {
            return Ok(Some(read(&config.path)?));
        }
        match maker.weights().first() {
            Some(from) => self.size(from),
            None => Ok(Shape::deserialize(&maker.params["shape"]).ok().and_then(|shape| shape.size())),
        }
    }
}

fn read(config: &Path) -> Result<ModelSize> {
    let text = crate::contract::file::read_text(config, crate::contract::file::CONFIGURATION)
        .with_context(|| format!("cannot read {}", config.display()))?;
    size(&text).with_context(|| format!("reading {}", config.display()))
}
