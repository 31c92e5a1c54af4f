//! What a stage plans: its nodes, what each reads, and the parameters its numbers depend on.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::figures::Reads;
use super::selection::Selection;

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
    pub per_part: Option<&'static str>,
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
    /// In what the models behind it must be like those behind the node's other inputs that say so; `None` asks for nothing.
    pub alike: Option<Alike>,
}

/// What models have in common whose numbers are held against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alike {
    /// The hidden size and the number of layers, so that each has the other's hidden states.
    States,
    /// The vocabulary too, so that each reads the other's tokens.
    Tokens,
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
    /// Of all other nodes of the pipeline those whose tables figures are drawn from: the figures of the selected stages,
    /// which are also computed. Each node becomes an input of its own, and the engine writes a list of
    /// [`Given`](super::figures::tables::Given) into the parameter `tables`.
    Figures { stages: Selection, also: &'static [Reads] },
}

impl Input {
    pub fn node(role: impl Into<String>, stage: &'static str, bindings: Bindings) -> Input {
        Input { role: role.into(), source: Source::Node { stage, bindings }, columns: None, alike: None }
    }

    pub fn weights(model: &str) -> Input {
        Input { role: "model".into(), source: Source::Weights { model: model.into() }, columns: None, alike: None }
    }

    pub fn tokenizer(model: &str) -> Input {
        Input {
            role: "tokenizer".into(),
            source: Source::Tokenizer { model: model.into() },
            columns: None,
            alike: None,
        }
    }

    pub fn alike(mut self, alike: Alike) -> Input {
        self.alike = Some(alike);
        self
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

impl AsRef<Path> for Part {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
