//! From a pipeline to a graph: the stages' nodes, and on demand the nodes that those read.

mod figures;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::json;
use strata_stages::contract::node::{Bindings, Node};
use strata_stages::contract::pipeline::{DatasetSource, Model, ModelSource, Origin, Precision};
use strata_stages::contract::toml_path::{TomlPath, at};
use strata_stages::model::files::is_gguf;
use strata_stages::model::transformer::PRECISION_PART;
use strata_stages::{Outputs, Pipeline, PlanError, STAGES, Source, Stage, Work};

use super::model_files::{adapter_files, model_files, template_files};
use super::{FileFilter, FileRole, From, Graph, GraphInput, GraphNode, NodeId, PerNode, label};
use crate::lock::Lock;

/// A node before it has an id.
type Name = (&'static str, Bindings);

struct Builder<'a> {
    pipeline: &'a Pipeline,
    stages: &'static [&'static Stage],
    /// The stages' nodes; those that were placed are taken out.
    planned: HashMap<&'static str, BTreeMap<Bindings, Option<Node>>>,
    placed: HashMap<Name, NodeId>,
    /// The nodes from the root to the one being placed, for the error of a cycle.
    path: Vec<Name>,
    nodes: PerNode<GraphNode>,
    /// What was found in each model directory: every dataset's nodes read it.
    found: HashMap<(PathBuf, FileFilter), From>,
    to_estimate: bool,
    lock: Lock,
}

impl Graph {
    /// Of files that are not there, what the lock says of them is enough.
    pub fn build(pipeline: &Pipeline, lock: &Lock) -> Result<Graph, PlanError> {
        Graph::with_lock(STAGES, pipeline, false, lock.clone())
    }

    /// As `build`, where weights, tokenizers and datasets may be absent: the nodes that read them cannot run.
    pub fn build_to_estimate(pipeline: &Pipeline, lock: &Lock) -> Result<Graph, PlanError> {
        Graph::with_lock(STAGES, pipeline, true, lock.awaited_alone())
    }

    /// The graph of a pipeline under a registry of stages.
    #[cfg(test)]
    pub fn of_stages(
        stages: &'static [&'static Stage],
        pipeline: &Pipeline,
        to_estimate: bool,
    ) -> Result<Graph, PlanError> {
        Graph::with_lock(stages, pipeline, to_estimate, Lock::default())
    }

    fn with_lock(
        stages: &'static [&'static Stage],
        pipeline: &Pipeline,
        to_estimate: bool,
        lock: Lock,
    ) -> Result<Graph, PlanError> {
        if pipeline.sections.is_empty() {
            let help = "add [stages.report], [stages.projections] or another stage's section; `strata init` shows them";
            return Err(PlanError::new("", "the pipeline asks for no stage").help(help));
        }
        let (planned, placed) = (HashMap::new(), HashMap::new());
        let nodes = PerNode::new();
        let found = HashMap::new();
        let mut builder =
            Builder { pipeline, stages, planned, placed, path: Vec::new(), nodes, found, to_estimate, lock };
        // What shows the others' figures comes after them.
        let (last, first): (Vec<&Stage>, Vec<&Stage>) =
            stages.iter().partition(|stage| matches!(stage.work, Work::Gather(_)));
        for stage in first.into_iter().chain(last) {
            if pipeline.sections.iter().any(|(name, _)| name == stage.name) {
                let wanted: Vec<Bindings> = builder.plan(stage)?.keys().cloned().collect();
                for bindings in wanted {
                    builder.place(stage, &bindings)?;
                }
            }
        }
        let (mut nodes, lock) = (builder.nodes, builder.lock);
        if nodes.len() == 0 {
            return Err(PlanError::new("", "the pipeline's stages have nothing to compute")
                .help("name the models under [models] and the datasets under [datasets]"));
        }
        for id in nodes.ids() {
            let read: BTreeSet<NodeId> = nodes[id].upstream().collect();
            read.into_iter().for_each(|upstream| nodes[upstream].readers.push(id));
        }
        Ok(Graph { nodes, stages, lock })
    }
}

impl Builder<'_> {
    fn plan(&mut self, stage: &'static Stage) -> Result<&mut BTreeMap<Bindings, Option<Node>>, PlanError> {
        if !self.planned.contains_key(stage.name) {
            let section = self.pipeline.sections.iter().find(|(name, _)| name == stage.name);
            let settings = section.map_or_else(|| json!({}), |(_, settings)| settings.clone());
            let nodes = (stage.plan)(&settings, self.pipeline)?;
            let nodes = nodes.into_iter().map(|node| (node.bindings.clone(), Some(node))).collect();
            self.planned.insert(stage.name, nodes);
        }
        Ok(self.planned.entry(stage.name).or_default())
    }

    fn place(&mut self, stage: &'static Stage, bindings: &Bindings) -> Result<NodeId, PlanError> {
        let name = (stage.name, bindings.clone());
        if let Some(id) = self.placed.get(&name) {
            return Ok(*id);
        }
        if let Some(start) = self.path.iter().position(|step| *step == name) {
            let mut cycle: Vec<String> = self.path[start..].iter().map(|(stage, names)| label(stage, names)).collect();
            cycle.push(label(name.0, &name.1));
            return Err(PlanError::new(section(&name), format!("a cycle: {}", cycle.join(" reads "))));
        }
        let Some(mut node) = self.plan(stage)?.get_mut(bindings).and_then(Option::take) else {
            return Err(self.unplanned(stage, bindings));
        };
        self.path.push(name.clone());
        let mut inputs = Vec::new();
        for input in std::mem::take(&mut node.inputs) {
            if let Source::Figures { stages, also } = &input.source {
                let (read, given) = self.figures(stages, also, &name)?;
                inputs.extend(read);
                node.params["tables"] = json!(given);
                continue;
            }
            let from = self.source(&input.source, &name)?;
            inputs.push(GraphInput {
                role: input.role,
                source: input.source,
                columns: input.columns.map(Cow::Borrowed),
                alike: input.alike,
                from,
            });
        }
        self.path.pop();
        let Node { bindings, params, per_part, .. } = node;
        let id = self.nodes.push(GraphNode { stage, bindings, params, per_part, inputs, readers: Vec::new() });
        self.placed.insert(name, id);
        Ok(id)
    }

    /// A stage reads a node that the stage it is of does not have.
    fn unplanned(&self, stage: &'static Stage, bindings: &Bindings) -> PlanError {
        let known: Vec<String> = self.planned[stage.name].keys().map(|names| label(stage.name, names)).collect();
        let wanted = label(stage.name, bindings);
        let reader = self.path.last();
        let at = reader.map_or_else(TomlPath::default, section);
        let reader = reader.map_or_else(String::new, |(stage, names)| label(stage, names));
        PlanError::new(at, format!("{reader} reads {wanted}, which is not in the pipeline")).help(format!(
            "[stages.{}] gives: {}",
            stage.name,
            known.join(", ")
        ))
    }

    fn source(&mut self, source: &Source, reader: &Name) -> Result<From, PlanError> {
        match source {
            Source::Node { stage, bindings } => {
                let known = self.stages.iter().map(|stage| stage.name);
                let found = self.stages.iter().find(|known| known.name == *stage);
                let found = found.ok_or_else(|| PlanError::unknown(section(reader), "stage", stage, known))?;
                self.node(found, bindings, FileFilter::All)
            }
            Source::Weights { model } => self.model(model, FileFilter::Weights, reader),
            Source::Config { model } => self.model(model, FileFilter::Config, reader),
            Source::Tokenizer { model } => self.model(model, FileFilter::Tokenizer, reader),
            Source::Figures { .. } => Err(PlanError::new(section(reader), "figures are many inputs, not one")),
            Source::Dataset { dataset } => match &self.pipeline.dataset(dataset, section(reader))?.source {
                DatasetSource::File(path) if self.to_estimate && !path.exists() => {
                    let said = self.lock.awaited(path).map(str::to_string);
                    let what = said.unwrap_or_else(|| format!("there is no file {}", path.display()));
                    Ok(From::Absent { what, path: path.clone() })
                }
                DatasetSource::File(path) => {
                    if let Some(what) = self.lock.awaited(path) {
                        return Ok(From::Absent { what: what.to_string(), path: path.clone() });
                    }
                    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    Ok(From::Files { role: FileRole::Dataset, files: [(name, path.clone())].into() })
                }
                DatasetSource::Written(_) => {
                    Err(PlanError::new(section(reader), format!("the dataset \"{dataset}\" is no file")))
                }
                DatasetSource::Corpus(part) => {
                    let maker = self.maker("a corpus", reader, |outputs| matches!(outputs, Outputs::Corpus))?;
                    self.node(maker, &Vec::new(), FileFilter::Named(format!("{part}.jsonl")))
                }
            },
        }
    }

    fn node(&mut self, stage: &'static Stage, bindings: &Bindings, files: FileFilter) -> Result<From, PlanError> {
        Ok(From::Node { node: self.place(stage, bindings)?, files })
    }

    fn model(&mut self, name: &str, files: FileFilter, reader: &Name) -> Result<From, PlanError> {
        let model = self.pipeline.model(name, section(reader))?;
        if files == FileFilter::Tokenizer {
            let tokenizer = match &model.tokenizer {
                Some(directory) => self.files(name, directory, &files)?,
                None => self.origin(name, model, files, reader)?,
            };
            return match template_files(name, model, &self.lock)? {
                Some(template) => Ok(From::Together(vec![tokenizer, template])),
                None => Ok(tokenizer),
            };
        }
        let weights = files == FileFilter::Weights;
        let base = self.origin(name, model, files, reader)?;
        if !weights {
            return Ok(base);
        }
        let mut all = vec![base];
        if let ModelSource::Adapter { directory, .. } = &model.source {
            all.push(adapter_files(name, directory, &self.lock)?);
        }
        // The default is not said, so that results in f32 keep their keys.
        if model.precision != Precision::default() {
            all.push(From::Setting(format!("{PRECISION_PART}{}", model.precision.name())));
        }
        Ok(if all.len() == 1 { all.remove(0) } else { From::Together(all) })
    }

    /// A model's own files, or its base's.
    fn origin(&mut self, name: &str, model: &Model, files: FileFilter, reader: &Name) -> Result<From, PlanError> {
        match self.pipeline.origin(model) {
            Some(Origin::Directory(directory)) => self.files(name, directory, &files),
            Some(Origin::Trained(trained)) => {
                let maker = self.maker("models", reader, |outputs| matches!(outputs, Outputs::Model))?;
                self.node(maker, &vec![("model", trained.to_string())], files)
            }
            None => Err(PlanError::new(at("models").key(name), "the base of an adapter is another adapter")),
        }
    }

    /// The stage that makes the pipeline's own models, or its corpus.
    fn maker(&self, what: &str, reader: &Name, makes: impl Fn(&Outputs) -> bool) -> Result<&'static Stage, PlanError> {
        let found = self.stages.iter().copied().find(|stage| makes(&stage.outputs));
        found.ok_or_else(|| PlanError::new(section(reader), format!("no stage makes {what}")))
    }

    fn files(&mut self, name: &str, directory: &Path, filter: &FileFilter) -> Result<From, PlanError> {
        let asked = (directory.to_path_buf(), filter.clone());
        if let Some(found) = self.found.get(&asked) {
            return Ok(found.clone());
        }
        // A file that is here says nothing of the others. A configuration needs none, where it is a file of its own.
        let is_own = *filter == FileFilter::Config && !is_gguf(directory);
        let awaited = self.lock.awaited(directory).filter(|_| !is_own);
        let absent = |what: &str| From::Absent { what: what.to_string(), path: directory.to_path_buf() };
        let found = match awaited {
            Some(what) => absent(what),
            None => match model_files(name, directory, filter, &self.lock) {
                Err(missing) if self.to_estimate => absent(&missing.message),
                found => found?,
            },
        };
        self.found.insert(asked, found.clone());
        Ok(found)
    }
}

/// Where a stage's own mistakes are looked for in pipeline.toml.
fn section(node: &Name) -> TomlPath {
    at("stages").key(node.0)
}
