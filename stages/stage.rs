//! What a stage is: how it plans its nodes from a pipeline, and how one task of it runs.
//!
//! A stage knows nothing of caching. It says which nodes it has (`plan`), each with the inputs it reads and
//! the parameters its numbers depend on; the engine decides which of their tasks are stale and calls `run`
//! with the inputs as files. A task is a pure function of its parameters and of its inputs' contents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use serde_json::Value;

use crate::model::cost::{Cost, Expected};
use crate::model::observer::{Observer, PassContext};
use crate::pipeline::{Pipeline, PlanError};
use crate::table::Table;

/// One analysis. Add a file with one of these, name it in `crate::STAGES`, and it is part of the program.
pub trait Stage: Send + Sync {
    /// The stage's name: its section in pipeline.toml, its folder below `artifacts/tables`, and in its keys.
    fn name(&self) -> &'static str;

    /// Part of every key of this stage. Raise it when the same inputs give other numbers than before.
    fn version(&self) -> u32;

    /// One sentence for `strata tables` and the documentation.
    fn about(&self) -> &'static str;

    /// The columns of the stage's table; `None` for stages whose outputs are files (corpus, train, report).
    fn table(&self) -> Option<Table>;

    /// The keys of `[stages.<name>]`, for `strata init`, the documentation and near-miss suggestions.
    fn settings(&self) -> &'static [Setting];

    /// Every node the stage has in this pipeline under these settings (the section's table; `{}` where the
    /// section is absent). Called for sections that are present and for stages another node reads.
    fn plan(&self, settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError>;

    /// True for stages that watch a model's forward pass: the engine gathers their stale tasks of one model
    /// and calls [`crate::model::pass::run`] instead of [`Stage::run`].
    fn observes(&self) -> bool {
        false
    }

    /// The observer for one block; only called when [`Stage::observes`] is true.
    fn observer(&self, _params: &Value, _context: &PassContext) -> anyhow::Result<Box<dyn Observer>> {
        anyhow::bail!("stage {} does not observe a forward pass", self.name())
    }

    /// What a node with these parameters takes, for the estimate of `strata run --dry-run`; `None` for stages
    /// that pass no model, whose cost is small beside that.
    fn cost(&self, _params: &Value, _expected: &Expected) -> Option<Cost> {
        None
    }

    /// Runs one task and returns its outputs in order, each one part of the node's output.
    fn run(&self, _task: &Task) -> anyhow::Result<Vec<Output>> {
        anyhow::bail!("stage {} runs only as an observer of a forward pass", self.name())
    }
}

/// A documented key of a stage's section in pipeline.toml.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub key: &'static str,
    /// The default as it would be written in TOML.
    pub default: &'static str,
    pub about: &'static str,
}

/// A stage applied to names: `hidden_states[model=base, dataset=insecure]`.
#[derive(Debug, Clone)]
pub struct Node {
    pub stage: &'static str,
    /// The Hive folders of the node's view, outermost first. Never part of a key.
    pub bindings: Bindings,
    /// The parameters that this node's numbers depend on, and no others.
    pub params: Value,
    pub inputs: Vec<Input>,
    /// The role whose parts split this node into one task each; `None` makes the node one task.
    pub per_block: Option<&'static str>,
}

pub type Bindings = Vec<(&'static str, String)>;

/// What a node reads under one role.
#[derive(Debug, Clone)]
pub struct Input {
    /// Unique within the node. Stages that read many nodes number their roles (`states/0`, `states/1`).
    pub role: String,
    pub source: Source,
    /// The columns this stage reads, so that a change in the others does not reach it; `None` reads all.
    pub columns: Option<&'static [&'static str]>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// All parts of another stage's node, in order.
    Node { stage: &'static str, bindings: Bindings },
    /// A model's config.json and safetensors files.
    Weights { model: String },
    /// A model's tokenizer.json, tokenizer_config.json and, where there is one, chat_template.jinja.
    Tokenizer { model: String },
    /// A model's config.json alone.
    Config { model: String },
    /// The file (or the generated corpus part) a dataset is read from.
    Dataset { dataset: String },
}

impl Input {
    pub fn node(role: impl Into<String>, stage: &'static str, bindings: Bindings) -> Input {
        Input { role: role.into(), source: Source::Node { stage, bindings }, columns: None }
    }

    pub fn weights(model: &str) -> Input {
        Input { role: "model".into(), source: Source::Weights { model: model.into() }, columns: None }
    }

    pub fn tokenizer(model: &str) -> Input {
        Input { role: "tokenizer".into(), source: Source::Tokenizer { model: model.into() }, columns: None }
    }

    pub fn columns(mut self, columns: &'static [&'static str]) -> Input {
        self.columns = Some(columns);
        self
    }
}

/// One file of an input: an object of the store, or a file of the user's.
#[derive(Debug, Clone)]
pub struct Part {
    pub path: PathBuf,
    /// The file's name in its model directory or corpus; empty for the parts of a table.
    pub name: String,
}

/// What `Stage::run` is given.
pub struct Task<'a> {
    pub params: &'a Value,
    pub inputs: BTreeMap<String, Vec<Part>>,
    /// True once the user asked to stop; long stages look at it and return early with an error.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Reports progress within the task as (done, total) in any unit.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Task<'_> {
    /// The parts of a role, in order.
    pub fn parts(&self, role: &str) -> anyhow::Result<&[Part]> {
        match self.inputs.get(role) {
            Some(parts) => Ok(parts),
            None => anyhow::bail!("this task was given no input \"{role}\""),
        }
    }

    /// The parameters as the stage's own type.
    pub fn params<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        Ok(T::deserialize(self.params)?)
    }
}

/// One part of a task's output.
#[derive(Debug)]
pub enum Output {
    /// A table part; `metadata` goes into the Parquet key-value metadata beside the column descriptions.
    Table { batch: RecordBatch, metadata: BTreeMap<String, String> },
    /// A file (a trained model's, a corpus part, a report).
    File { name: String, bytes: Vec<u8> },
}

impl Output {
    pub fn table(batch: RecordBatch) -> Output {
        Output::Table { batch, metadata: BTreeMap::new() }
    }
}
