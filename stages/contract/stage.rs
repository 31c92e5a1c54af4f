//! What a stage is: how it plans its nodes from a pipeline, and how one task of it runs.
//!
//! A stage knows nothing of caching. It says which nodes it has (`plan`), each with the inputs it reads and
//! the parameters its numbers depend on; the engine decides which of their tasks are stale and runs its `work`
//! with the inputs as files. A task is a pure function of its parameters and of its inputs' contents.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cost::{Cost, Expected};
use super::figures::Figures;
use super::node::{Node, Part};
use super::observer::{Observer, PassContext};
pub use super::output::Output;
use super::pipeline::{Pipeline, PlanError};
use super::setting::{Setting, toml};
use crate::table::Table;

/// One analysis. Add a file with one of these, name it in `crate::STAGES`, and it is part of the program.
pub struct Stage {
    /// Its section in pipeline.toml, its folder below `artifacts/tables`, and its name in keys.
    pub name: &'static str,
    /// Part of every key of this stage. Raise it when the same inputs give other numbers than before.
    pub version: u32,
    /// One sentence for `strata tables` and the documentation.
    pub about: &'static str,
    /// Whether the pipeline.toml that `strata init` writes asks for it.
    pub asked_by_default: bool,
    /// What a run that made new outputs says of them below its summary; of its distinct parts, `None` for nothing.
    pub notice: Option<fn(&[Part]) -> anyhow::Result<Option<String>>>,
    pub outputs: Outputs,
    /// The keys of `[stages.<name>]`, for `strata init`, the documentation and near-miss suggestions.
    pub settings: &'static [Setting],
    /// The settings of a section in which nothing is written, of which `settings` tells the keys; null stands for no default.
    pub defaults: fn() -> Value,
    /// Every node the stage has in this pipeline under these settings (the section's table; `{}` where the
    /// section is absent). Called for sections that are present and for stages another node reads.
    pub plan: fn(&Value, &Pipeline) -> Result<Vec<Node>, PlanError>,
    /// What a node with these parameters takes, for the estimate of `strata run --dry-run`; `None` for stages whose
    /// arithmetic is small beside a pass: they are taken to hold the tables that they read.
    pub cost: Option<fn(&Value, &Expected) -> Option<Cost>>,
    /// What the report shows of it.
    pub figures: &'static [Figures],
    pub work: Work,
}

/// What a stage's tasks give, and so where the engine shows it.
#[derive(Debug, Clone, Copy)]
pub enum Outputs {
    /// Parts of one table, shown below `tables/`.
    Table(Table),
    /// The files of one of the pipeline's own models (`train = { … }`), shown below `models/`.
    Model,
    /// The files that `corpus = "PART"` of a dataset names, shown below the stage's name.
    Corpus,
    /// Files for a reader, shown below the stage's name; `open` is the one to begin with.
    Files { open: &'static str },
}

/// How a stage's tasks run.
pub enum Work {
    /// Reads files and returns its outputs in order, each one part of the node's output.
    Table(fn(&Task) -> anyhow::Result<Vec<Output>>),
    /// As `Table`, and hands each output on as soon as it has it, so that it need not hold them all.
    Stream(fn(&Task, &mut Give) -> anyhow::Result<()>),
    /// Watches a forward pass: the engine gathers the stale tasks of one model, and each gets an observer made from its
    /// parameters.
    Watch(fn(&Value, &PassContext) -> anyhow::Result<Box<dyn Observer>>),
    /// Brings together what the other stages show.
    Gather(fn(&Gathered) -> anyhow::Result<Vec<Output>>),
}

/// Takes a task's next output.
pub type Give<'a> = dyn FnMut(Output) -> anyhow::Result<()> + 'a;

/// What a task of a [`Work::Gather`] stage is given.
pub struct Gathered<'a> {
    pub task: &'a Task<'a>,
    /// The registry.
    pub stages: &'a [&'static Stage],
    /// The hash of each file that the task was given under a role. They are part of its key.
    pub contents: BTreeMap<String, Vec<String>>,
}

impl Stage {
    /// The stage's table, where it writes one.
    pub fn table(&self) -> Option<Table> {
        match self.outputs {
            Outputs::Table(table) => Some(table),
            Outputs::Model | Outputs::Corpus | Outputs::Files { .. } => None,
        }
    }

    /// Whether a pipeline may have several sections of it, as `[[stages.<name>]]`: one whose sections have a name may.
    pub fn has_named_sections(&self) -> bool {
        self.settings.iter().any(|setting| setting.key == "name")
    }

    /// The default of a key, as TOML; `None` where it has none.
    pub fn default_of(&self, key: &str) -> Option<String> {
        toml((self.defaults)().get(key)?)
    }

    /// The observer of one task, for a forward pass over its part.
    ///
    /// # Errors
    /// When the stage watches no pass, or its parameters do not fit the model.
    pub fn observer(&self, params: &Value, context: &PassContext) -> anyhow::Result<Box<dyn Observer>> {
        match self.work {
            Work::Watch(observer) => observer(params, context),
            Work::Table(_) | Work::Stream(_) | Work::Gather(_) => {
                anyhow::bail!("stage {} does not observe a forward pass", self.name)
            }
        }
    }

    /// Runs one task outside of a forward pass.
    ///
    /// # Errors
    /// When the stage watches a pass, or its own work fails.
    pub fn run(&self, task: &Task) -> anyhow::Result<Vec<Output>> {
        match self.work {
            Work::Table(run) => run(task),
            Work::Stream(run) => {
                let mut outputs = Vec::new();
                run(task, &mut |output| {
                    outputs.push(output);
                    Ok(())
                })?;
                Ok(outputs)
            }
            Work::Gather(_) => anyhow::bail!("stage {} needs to be given the other stages", self.name),
            Work::Watch(_) => anyhow::bail!("stage {} runs only as an observer of a forward pass", self.name),
        }
    }
}

/// What a task of a [`Work::Table`] or [`Work::Stream`] stage is given.
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
