//! The inputs of a node that shows figures: every other node of the graph whose table some figure reads.

use std::borrow::Cow;
use std::collections::HashMap;

use strata_stages::contract::figures::tables::Given;
use strata_stages::contract::figures::{Reads, columns_read};
use strata_stages::contract::pipeline::Selection;
use strata_stages::{PlanError, Source};

use super::super::{FileFilter, From, GraphInput, NodeId};
use super::{Builder, Name, section};

impl Builder<'_> {
    /// Places the selected stages, and gives for each node that the figures read an input and what there is to say of it.
    ///
    /// # Errors
    /// When a selected stage is unknown or has no figures, or no node is read.
    pub(super) fn figures(
        &mut self,
        selected: &Selection,
        also: &[Reads],
        reader: &Name,
    ) -> Result<(Vec<GraphInput>, Vec<Given>), PlanError> {
        let known = || self.stages.iter().copied().filter(|stage| !stage.figures.is_empty());
        let mut asked = Vec::new();
        for (i, name) in selected.names().unwrap_or_default().iter().enumerate() {
            let unknown = || {
                let at = section(reader).key("stages").index(i);
                PlanError::unknown(at, "stage with figures", name, known().map(|stage| stage.name))
            };
            asked.push(known().find(|stage| stage.name == name).ok_or_else(unknown)?);
        }
        for stage in &asked {
            let nodes: Vec<_> = self.plan(stage)?.keys().cloned().collect();
            nodes.iter().try_for_each(|bindings| self.place(stage, bindings).map(|_| ()))?;
        }
        let shown = |name: &str| selected.names().is_none() || asked.iter().any(|stage| stage.name == name);
        let columns = columns_read(self.stages, |stage| shown(stage.name), also);
        let (mut inputs, mut given) = (Vec::new(), Vec::new());
        let mut of_stage: HashMap<&str, Vec<NodeId>> = HashMap::new();
        for (id, node) in self.nodes.iter() {
            of_stage.entry(node.stage.name).or_default().push(id);
        }
        for stage in self.stages {
            let Some(columns) = columns.get(stage.name) else { continue };
            for id in of_stage.remove(stage.name).unwrap_or_default() {
                let node = &self.nodes[id];
                let role = format!("{}/{}", stage.name, given.len());
                given.push(Given {
                    role: role.clone(),
                    stage: stage.name.to_string(),
                    bindings: node.bindings.iter().map(|(key, name)| (key.to_string(), name.clone())).collect(),
                    columns: columns.iter().map(|column| column.to_string()).collect(),
                });
                inputs.push(GraphInput {
                    role,
                    source: Source::Node { stage: stage.name, bindings: node.bindings.clone() },
                    columns: Some(Cow::Owned(columns.clone())),
                    alike: None,
                    from: From::Node { node: id, files: FileFilter::All },
                });
            }
        }
        if given.iter().all(|given| also.iter().any(|reads| reads.stage == given.stage)) {
            let error = PlanError::new(section(reader), "no stage of the pipeline has a figure to show");
            return Err(
                error.help("name models, and add the section of an analysis, for example [stages.projection_summary]")
            );
        }
        Ok((inputs, given))
    }
}
