//! What the models' config.json files say against a graph before anything runs: a family that is not computed, or
//! models of different shapes where a node holds one against the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use strata_stages::contract::node::Alike;
use strata_stages::contract::pipeline::{ModelSource, Origin};
use strata_stages::contract::toml_path::{TomlPath, at};
use strata_stages::model::shape::{Shape, shape};
use strata_stages::model::{adapter, files};
use strata_stages::{Pipeline, PlanError, Source};

use super::{From, Graph, GraphNode, PerNode};

/// A model directory's config.json and what it says.
struct Known {
    path: PathBuf,
    shape: Shape,
}

/// What models' files say against a graph.
pub struct ModelFaults {
    /// Models that cannot be computed, each once.
    pub of_one: Vec<PlanError>,
    /// Models that do not fit another that the same node reads: each difference once, at the first two that have it.
    pub of_two: Vec<PlanError>,
}

impl Graph {
    /// As [`Graph::faults_of_models`], with the first of them.
    ///
    /// # Errors
    /// At a model that cannot be computed, or that does not fit another that the same node reads.
    pub fn check_models(&self, pipeline: &Pipeline) -> Result<(), PlanError> {
        let ModelFaults { of_one, of_two } = self.faults_of_models(pipeline);
        of_one.into_iter().chain(of_two).next().map_or(Ok(()), Err)
    }

    /// Reads the config.json of each model directory whose weights a node reads. The pipeline's own models have none yet.
    pub fn faults_of_models(&self, pipeline: &Pipeline) -> ModelFaults {
        let (mut faults, mut misfits) = (Vec::new(), Vec::new());
        let mut shapes: BTreeMap<&str, Known> = BTreeMap::new();
        let mut looked_at: BTreeSet<&str> = BTreeSet::new();
        for (_, node) in self.nodes() {
            for input in &node.inputs {
                let Source::Weights { model } = &input.source else { continue };
                if !looked_at.insert(model) {
                    continue;
                }
                let Some(found) = pipeline.find_model(model) else { continue };
                let Some(Origin::Directory(base)) = pipeline.origin(found) else { continue };
                // A model that is not here was looked at where its results were made.
                if self.lock.speaks_for(base)
                    || (self.lock.awaited(base).is_some() && !files::config_file(base).exists())
                {
                    continue;
                }
                match read(model, base) {
                    Ok(known) => shapes.insert(model, known),
                    Err(fault) => {
                        faults.push(fault);
                        continue;
                    }
                };
                if let ModelSource::Adapter { directory, .. } = &found.source
                    && input.from.each().iter().all(|from| !matches!(from, From::Absent { .. }))
                {
                    faults.extend(check_adapter(model, directory, base).err());
                }
            }
        }
        let mut said = BTreeSet::new();
        let mut behind: PerNode<BTreeSet<&str>> = PerNode::new();
        for (_, node) in self.nodes() {
            let models = compared(node, &behind);
            if let Some((difference, misfit)) = unlike(node, &models, &shapes)
                && said.insert(difference)
            {
                misfits.push(misfit);
            }
            let all = node.inputs.iter().flat_map(|input| models_of(&input.source, &input.from, &behind)).collect();
            behind.push(all);
        }
        ModelFaults { of_one: faults, of_two: misfits }
    }
}

/// The models that the node holds against each other, and in what they must be alike.
fn compared<'a>(node: &'a GraphNode, behind: &PerNode<BTreeSet<&'a str>>) -> Vec<(&'a str, Alike)> {
    let mut found: Vec<(&str, Alike)> = Vec::new();
    let mut known = BTreeSet::new();
    for input in &node.inputs {
        let Some(alike) = input.alike else { continue };
        for model in models_of(&input.source, &input.from, behind) {
            if known.insert(model) {
                found.push((model, alike));
            }
        }
    }
    found
}

/// The models whose weights made an input; not those that one of the pipeline's own was trained from.
fn models_of<'a>(source: &'a Source, from: &From, behind: &PerNode<BTreeSet<&'a str>>) -> Vec<&'a str> {
    match (source, from) {
        (Source::Weights { model }, _) => vec![model.as_str()],
        (Source::Node { .. }, From::Node { node, .. }) => behind[*node].iter().copied().collect(),
        _ => Vec::new(),
    }
}

/// A number in which two models differ, and what it is of the one and of the other, the smaller one first.
type Difference = (&'static str, usize, usize);

/// The first two of the models that do not fit each other.
fn unlike(
    node: &GraphNode,
    models: &[(&str, Alike)],
    shapes: &BTreeMap<&str, Known>,
) -> Option<(Difference, PlanError)> {
    let mut known = models.iter().filter_map(|(model, alike)| Some((*model, shapes.get(model)?, *alike)));
    let (first, a, asked) = known.next()?;
    for (second, b, alike) in known {
        let Some((what, found_a, found_b)) = a.shape.difference(&b.shape, alike.max(asked)) else { continue };
        let message = format!(
            "{} reads models that do not fit each other: {first} has {what} {found_a} ({}), {second} has {found_b} ({})",
            node.label(),
            a.path.display(),
            b.path.display()
        );
        let help = format!("expected models of one {what}; [stages.{}] says which it reads", node.stage.name);
        let difference = (what, found_a.min(found_b), found_a.max(found_b));
        return Some((difference, PlanError::new(entry(second), message).help(help)));
    }
    None
}

fn read(model: &str, of: &Path) -> Result<Known, PlanError> {
    let path = files::config_file(of);
    let fail = |reason: String| {
        // Reasons that begin with the file's name do so in place of its path.
        let reason = reason.strip_prefix("config.json: ").unwrap_or(&reason);
        let (found, help) = match reason.split_once("; ") {
            Some((found, help)) => (found, Some(help)),
            None => (reason, None),
        };
        let error = PlanError::new(entry(model), format!("{}: {found}", path.display()));
        match help {
            Some(help) => error.help(help),
            None => error,
        }
    };
    let text = files::config(of).map_err(|error| fail(format!("{:#}", error.root_cause())))?;
    let shape = shape(&text).map_err(|error| fail(format!("{error:#}")))?;
    Ok(Known { path, shape })
}

fn check_adapter(model: &str, adapter: &Path, base: &Path) -> Result<(), PlanError> {
    let text = files::config(base).map_err(|error| PlanError::new(entry(model), format!("{error:#}")))?;
    adapter::check(adapter, &text).map_err(|error| {
        let message = format!("{error:#}");
        match message.split_once("; ") {
            Some((found, help)) => PlanError::new(entry(model), found).help(help),
            None => PlanError::new(entry(model), message),
        }
    })
}

fn entry(model: &str) -> TomlPath {
    at("models").key(model).key("path")
}
