//! Stages applied to models and datasets: the nodes of a pipeline and what each reads.
//!
//! A stage's section in pipeline.toml asks for all of that stage's nodes; what those read is added on demand.
//! Nothing here touches the store: how many tasks a node has is known only when its inputs are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use strata_stages::contract::node::{Bindings, Node};
use strata_stages::contract::pipeline::{DatasetSource, ModelSource};
use strata_stages::contract::toml_path::{TomlPath, at};
use strata_stages::{Pipeline, PlanError, STAGES, Source, Stage};

/// Nodes in an order in which every node comes after those it reads.
pub struct Graph {
    pub nodes: Vec<GraphNode>,
}

pub struct GraphNode {
    pub stage: &'static Stage,
    pub node: Node,
    pub inputs: Vec<GraphInput>,
    /// Nodes that read this one.
    pub readers: Vec<usize>,
}

pub struct GraphInput {
    pub role: String,
    pub columns: Option<&'static [&'static str]>,
    pub from: From,
}

/// Where an input's parts come from.
pub enum From {
    /// Another node's outputs; of a node with named files, those that `files` admits.
    Node { index: usize, files: FileFilter },
    /// Files of the user's, by name.
    Files { role: FileRole, files: Vec<(String, PathBuf)> },
    /// Files that are not there, in a graph that is only looked at; what is missing, in words.
    Absent(String),
}

/// What a file's name means: part of the content (which tensor file this is), or nothing but its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    Model,
    Dataset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFilter {
    All,
    Weights,
    Tokenizer,
    Config,
    Named(String),
}

impl FileFilter {
    pub fn admits(&self, name: &str) -> bool {
        match self {
            FileFilter::All => true,
            FileFilter::Config => name == "config.json",
            FileFilter::Weights => name == "config.json" || name.ends_with(".safetensors"),
            FileFilter::Tokenizer => TOKENIZER_FILES.contains(&name),
            FileFilter::Named(wanted) => name == wanted,
        }
    }
}

const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

impl GraphNode {
    /// `hidden_states[base,insecure]`
    pub fn label(&self) -> String {
        label(self.node.stage, &self.node.bindings)
    }
}

fn label(stage: &str, bindings: &[(&'static str, String)]) -> String {
    let names: Vec<&str> = bindings.iter().map(|(_, value)| value.as_str()).collect();
    if names.is_empty() { stage.to_string() } else { format!("{stage}[{}]", names.join(",")) }
}

struct Builder<'a> {
    pipeline: &'a Pipeline,
    planned: HashMap<&'static str, BTreeMap<Bindings, Node>>,
    placed: HashMap<(&'static str, Bindings), usize>,
    /// The nodes from the root to the one being placed, for the error of a cycle.
    path: Vec<(&'static str, Bindings)>,
    nodes: Vec<GraphNode>,
    to_estimate: bool,
}

impl Graph {
    pub fn build(pipeline: &Pipeline) -> Result<Graph, PlanError> {
        Graph::of(pipeline, false)
    }

    /// As `build`, where weights, tokenizers and datasets may be absent: the nodes that read them cannot run.
    pub fn build_to_estimate(pipeline: &Pipeline) -> Result<Graph, PlanError> {
        Graph::of(pipeline, true)
    }

    fn of(pipeline: &Pipeline, to_estimate: bool) -> Result<Graph, PlanError> {
        if pipeline.sections.is_empty() {
            let help = "add [stages.report], [stages.projections] or another stage's section; `strata init` shows them";
            return Err(PlanError::new("", "the pipeline asks for no stage").help(help));
        }
        let (planned, placed) = (HashMap::new(), HashMap::new());
        let mut builder = Builder { pipeline, planned, placed, path: Vec::new(), nodes: Vec::new(), to_estimate };
        for stage in STAGES {
            if pipeline.sections.iter().any(|(name, _)| name == stage.name) {
                let wanted: Vec<Bindings> = builder.plan(*stage)?.keys().cloned().collect();
                for bindings in wanted {
                    builder.place(*stage, &bindings)?;
                }
            }
        }
        let mut nodes = builder.nodes;
        if nodes.is_empty() {
            return Err(PlanError::new("", "the pipeline's stages have nothing to compute")
                .help("name the models under [models] and the datasets under [datasets]"));
        }
        for index in 0..nodes.len() {
            let read: BTreeSet<usize> = nodes[index].upstream().collect();
            read.into_iter().for_each(|upstream| nodes[upstream].readers.push(index));
        }
        Ok(Graph { nodes })
    }

    /// The nodes that targets name, and everything those read; all nodes where there are no targets.
    pub fn select(&self, targets: &[Target]) -> Result<Vec<bool>, PlanError> {
        let mut wanted = vec![targets.is_empty(); self.nodes.len()];
        for target in targets {
            let mut any = false;
            for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| target.matches(node)) {
                any = true;
                wanted[index] = node.node.stage == target.stage;
            }
            if !any {
                return Err(self.unknown_target(target));
            }
        }
        for index in (0..self.nodes.len()).rev() {
            if wanted[index] {
                self.nodes[index].upstream().for_each(|upstream| wanted[upstream] = true);
            }
        }
        Ok(wanted)
    }

    /// The nodes a target names.
    pub fn find(&self, target: &Target) -> Result<Vec<usize>, PlanError> {
        let found: Vec<usize> = (0..self.nodes.len()).filter(|index| target.matches(&self.nodes[*index])).collect();
        if found.is_empty() { Err(self.unknown_target(target)) } else { Ok(found) }
    }

    fn unknown_target(&self, target: &Target) -> PlanError {
        let stages: BTreeSet<&str> = self.nodes.iter().map(|node| node.node.stage).collect();
        if !stages.contains(target.stage.as_str()) {
            return PlanError::unknown("", "target", &target.stage, stages);
        }
        // The first name that no node has in its place, given the names before it.
        let mut nodes: Vec<&GraphNode> = self.nodes.iter().filter(|node| node.node.stage == target.stage).collect();
        for place in 0..target.names.len() {
            let name = &target.names[place];
            let first = Target { stage: target.stage.clone(), names: target.names[..=place].to_vec() };
            let known: BTreeSet<&str> =
                nodes.iter().filter_map(|node| Some(node.node.bindings.get(place)?.1.as_str())).collect();
            if known.is_empty() {
                let error = PlanError::new("", format!("{target} has more names than {} has", target.stage));
                return error.help(format!("for example {}", self.example(&target.stage)));
            }
            nodes.retain(|node| first.matches(node));
            if nodes.is_empty() {
                return PlanError::unknown("", &format!("name in {target},"), name, known);
            }
        }
        PlanError::unknown("", "target", &target.to_string(), [self.example(&target.stage).as_str()])
    }

    /// A stage's first node, as a target.
    fn example(&self, stage: &str) -> String {
        self.nodes.iter().find(|node| node.node.stage == stage).map_or_else(String::new, GraphNode::label)
    }
}

impl GraphNode {
    /// What it reads that is not there.
    pub fn absent(&self) -> Option<&str> {
        self.inputs.iter().find_map(|input| match &input.from {
            From::Absent(what) => Some(what.as_str()),
            _ => None,
        })
    }

    pub fn upstream(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().filter_map(|input| match input.from {
            From::Node { index, .. } => Some(index),
            From::Files { .. } | From::Absent(_) => None,
        })
    }
}

/// `stage` or `stage[name,name,…]` as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub stage: String,
    pub names: Vec<String>,
}

impl Target {
    pub fn parse(text: &str) -> Result<Target, PlanError> {
        let Some((stage, rest)) = text.split_once('[') else {
            return Ok(Target { stage: text.to_string(), names: Vec::new() });
        };
        let Some(names) = rest.strip_suffix(']') else {
            return Err(PlanError::new("", format!("target \"{text}\" has no closing bracket"))
                .help("expected STAGE or STAGE[NAME,NAME], for example \"hidden_states[base,insecure]\""));
        };
        let names = names.split(',').map(|name| name.trim().to_string()).collect();
        Ok(Target { stage: stage.to_string(), names })
    }

    /// A name matches in its place, or anywhere as `key=value`; `*` matches all, missing ones match all.
    fn matches(&self, node: &GraphNode) -> bool {
        self.stage == node.node.stage
            && self.names.len() <= node.node.bindings.len()
            && self.names.iter().enumerate().all(|(place, name)| match name.split_once('=') {
                Some((key, value)) => node.node.bindings.iter().any(|(k, v)| *k == key && v == value),
                None => name == "*" || node.node.bindings[place].1 == *name,
            })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.stage)?;
        if self.names.is_empty() { Ok(()) } else { write!(f, "[{}]", self.names.join(",")) }
    }
}

impl Builder<'_> {
    fn plan(&mut self, stage: &'static Stage) -> Result<&BTreeMap<Bindings, Node>, PlanError> {
        if !self.planned.contains_key(stage.name) {
            let section = self.pipeline.sections.iter().find(|(name, _)| name == stage.name);
            let settings = section.map_or_else(|| json!({}), |(_, settings)| settings.clone());
            let nodes = (stage.plan)(&settings, self.pipeline)?;
            let nodes = nodes.into_iter().map(|node| (node.bindings.clone(), node)).collect();
            self.planned.insert(stage.name, nodes);
        }
        Ok(&self.planned[stage.name])
    }

    fn place(&mut self, stage: &'static Stage, bindings: &Bindings) -> Result<usize, PlanError> {
        let id = (stage.name, bindings.clone());
        if let Some(index) = self.placed.get(&id) {
            return Ok(*index);
        }
        if let Some(start) = self.path.iter().position(|step| *step == id) {
            let mut cycle: Vec<String> = self.path[start..].iter().map(|(stage, names)| label(stage, names)).collect();
            cycle.push(label(id.0, &id.1));
            return Err(PlanError::new(place_of(&id), format!("a cycle: {}", cycle.join(" reads "))));
        }
        let reader = self.path.last().cloned();
        let Some(node) = self.plan(stage)?.get(bindings).cloned() else {
            let known: Vec<String> = self.plan(stage)?.keys().map(|names| label(stage.name, names)).collect();
            let wanted = label(stage.name, bindings);
            let at = reader.as_ref().map_or_else(TomlPath::default, place_of);
            let reader = reader.map_or_else(String::new, |(stage, names)| label(stage, &names));
            return Err(PlanError::new(at, format!("{reader} reads {wanted}, which is not in the pipeline"))
                .help(format!("[stages.{}] gives: {}", stage.name, known.join(", "))));
        };
        self.path.push(id.clone());
        let mut inputs = Vec::new();
        for input in &node.inputs {
            let from = self.source(&input.source, &id)?;
            inputs.push(GraphInput { role: input.role.clone(), columns: input.columns, from });
        }
        self.path.pop();
        let index = self.nodes.len();
        self.nodes.push(GraphNode { stage, node, inputs, readers: Vec::new() });
        self.placed.insert(id, index);
        Ok(index)
    }

    fn source(&mut self, source: &Source, reader: &(&'static str, Bindings)) -> Result<From, PlanError> {
        match source {
            Source::Node { stage, bindings } => self.node(stage, bindings, FileFilter::All),
            Source::Weights { model } => self.model(model, FileFilter::Weights, reader),
            Source::Config { model } => self.model(model, FileFilter::Config, reader),
            Source::Tokenizer { model } => self.model(model, FileFilter::Tokenizer, reader),
            Source::Dataset { dataset } => match &self.pipeline.dataset(dataset, place_of(reader))?.source {
                DatasetSource::File(path) if self.to_estimate && !path.exists() => {
                    Ok(From::Absent(format!("there is no file {}", path.display())))
                }
                DatasetSource::File(path) => {
                    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    Ok(From::Files { role: FileRole::Dataset, files: vec![(name, path.clone())] })
                }
                DatasetSource::Corpus(part) => {
                    self.node("corpus", &Vec::new(), FileFilter::Named(format!("{part}.jsonl")))
                }
            },
        }
    }

    fn node(&mut self, stage: &str, bindings: &Bindings, files: FileFilter) -> Result<From, PlanError> {
        let known = STAGES.iter().map(|stage| stage.name);
        let found = strata_stages::stage(stage).ok_or_else(|| PlanError::unknown("", "stage", stage, known))?;
        Ok(From::Node { index: self.place(found, bindings)?, files })
    }

    fn model(&mut self, name: &str, files: FileFilter, reader: &(&'static str, Bindings)) -> Result<From, PlanError> {
        let model = self.pipeline.model(name, place_of(reader))?;
        if files == FileFilter::Tokenizer
            && let Some(directory) = &model.tokenizer
        {
            return self.files(name, directory, &files);
        }
        match &model.source {
            ModelSource::Directory(directory) => self.files(name, directory, &files),
            ModelSource::Trained(_) => self.node("train", &vec![("model", name.to_string())], files),
        }
    }

    fn files(&self, name: &str, directory: &Path, filter: &FileFilter) -> Result<From, PlanError> {
        match model_files(name, directory, filter) {
            Err(missing) if self.to_estimate => Ok(From::Absent(missing.message)),
            found => found,
        }
    }
}

fn place_of(node: &(&'static str, Bindings)) -> TomlPath {
    at("stages").key(node.0)
}

/// The files of a Hugging Face model directory under one role, by name. The index of sharded weights says
/// which safetensors belong to the model; without one, all of them do.
fn model_files(model: &str, directory: &Path, filter: &FileFilter) -> Result<From, PlanError> {
    let at = at("models").key(model);
    let fail = |message: String| PlanError::new(at.clone(), message);
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .map_err(|error| fail(format!("cannot list {}: {error}", directory.display())))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| filter.admits(name))
        .collect();
    names.sort();
    let index = directory.join("model.safetensors.index.json");
    if *filter == FileFilter::Weights && index.is_file() {
        let shards = sharded(&index).map_err(|reason| fail(format!("{}: {reason}", index.display())))?;
        if let Some(missing) = shards.iter().find(|shard| !names.contains(shard)) {
            return Err(fail(format!("{} names {missing}, which is not there", index.display())));
        }
        names.retain(|name| name == "config.json" || shards.contains(name));
    }
    if *filter == FileFilter::Weights && !names.iter().any(|name| name.ends_with(".safetensors")) {
        return Err(fail(format!("{} holds no .safetensors file", directory.display()))
            .help("Strata reads safetensors; transformers' save_pretrained writes them"));
    }
    if *filter == FileFilter::Tokenizer && !names.iter().any(|name| name == "tokenizer.json") {
        return Err(fail(format!("{} holds no tokenizer.json", directory.display()))
            .help("a fast tokenizer's save_pretrained writes it; `tokenizer = \"DIRECTORY\"` names another's"));
    }
    let files = names.into_iter().map(|name| (name.clone(), directory.join(name))).collect();
    Ok(From::Files { role: FileRole::Model, files })
}

fn sharded(index: &Path) -> Result<BTreeSet<String>, String> {
    let text = std::fs::read(index).map_err(|error| error.to_string())?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or("no \"weight_map\" in it")?;
    Ok(map.values().filter_map(|shard| shard.as_str().map(str::to_string)).collect())
}
