//! How much text a node will be given: counted in its tokens table where there is one, and else from the dataset's
//! file or its limit, in words that say which.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{Array, ListArray};
use strata_stages::contract::cost::Text;
use strata_stages::contract::pipeline::{Dataset, model_dataset};
use strata_stages::{Part, table};

use super::Workspace;
use crate::graph::{From, GraphNode, NodeId};
use crate::plan::Plan;

/// Of an example of which nothing else is known.
const TOKENS_AN_EXAMPLE: f64 = 300.0;
const EXAMPLES: f64 = 100.0;
/// English text and code under the tokenizers in use come near 4 bytes a token.
const BYTES_A_TOKEN: f64 = 4.0;

pub struct Texts<'a> {
    workspace: &'a Workspace,
    plan: &'a Plan<'a>,
    known: BTreeMap<NodeId, Text>,
    /// Tokens of the largest part, where they are counted.
    largest: BTreeMap<NodeId, f64>,
    /// For each way of guessing, the datasets it was used for.
    guesses: BTreeMap<String, Vec<String>>,
}

impl<'a> Texts<'a> {
    pub fn new(workspace: &'a Workspace, plan: &'a Plan<'a>) -> Texts<'a> {
        Texts { workspace, plan, known: BTreeMap::new(), largest: BTreeMap::new(), guesses: BTreeMap::new() }
    }

    /// The text that a node reads: of its tokens, or of the examples that it tokenizes itself.
    pub fn source(&self, node: &GraphNode) -> Option<NodeId> {
        let graph = &self.workspace.graph;
        let of = |stage: &str| node.upstream().find(|upstream| graph.node(*upstream).stage.name == stage);
        of("tokens").or_else(|| {
            let examples = of("examples")?;
            // Any model's tokens of them, counted where they are.
            let mut tokens = graph
                .nodes()
                .filter(|(_, node)| node.stage.name == "tokens" && node.upstream().any(|id| id == examples));
            tokens.next().map(|(id, _)| id).or(Some(examples))
        })
    }

    /// A dataset's tokens for a model, where the pipeline has them.
    pub fn tokens(&self, model: &str, dataset: &str) -> Option<NodeId> {
        let bindings = model_dataset(model, dataset);
        let of_both = |node: &GraphNode| node.stage.name == "tokens" && node.bindings == bindings;
        self.workspace.graph.nodes().find(|(_, node)| of_both(node)).map(|(id, _)| id)
    }

    /// The text of a node of `tokens` or `examples`.
    pub fn of(&mut self, tokens: NodeId) -> Result<Text> {
        if let Some(text) = self.known.get(&tokens) {
            return Ok(*text);
        }
        let text = match self.counted(tokens)? {
            Some(text) => text,
            None => self.guessed(tokens)?,
        };
        self.known.insert(tokens, text);
        Ok(text)
    }

    /// How many parts it comes in.
    pub fn parts(&mut self, tokens: NodeId) -> Result<f64> {
        if let Some(outputs) = self.plan.state(tokens).outputs() {
            return Ok(outputs.len() as f64);
        }
        // Blocks hold about twice their least size on average.
        let examples = self.upstream(tokens, "examples");
        let least = examples.and_then(|index| self.workspace.graph.node(index).params["block"]["least"].as_f64());
        Ok((self.of(tokens)?.examples / (2.0 * least.unwrap_or(16.0))).ceil())
    }

    /// Tokens of the largest part: these pass together.
    pub fn largest_part(&mut self, tokens: NodeId) -> Result<f64> {
        let text = self.of(tokens)?;
        match self.largest.get(&tokens) {
            Some(largest) => Ok(*largest),
            None => Ok(text.tokens / self.parts(tokens)?.max(1.0)),
        }
    }

    pub fn notes(&self) -> Vec<String> {
        let note = |(how, datasets): (&String, &Vec<String>)| format!("tokens of {}: {how}", datasets.join(", "));
        let mut notes: Vec<String> = self.guesses.iter().map(note).collect();
        if !notes.is_empty() {
            notes.push("(`strata run tokens` counts them)".into());
        }
        notes
    }

    fn upstream(&self, id: NodeId, stage: &str) -> Option<NodeId> {
        let graph = &self.workspace.graph;
        if graph.node(id).stage.name == stage {
            return Some(id);
        }
        graph.node(id).upstream().find(|upstream| graph.node(*upstream).stage.name == stage)
    }

    fn counted(&mut self, tokens: NodeId) -> Result<Option<Text>> {
        let Some(outputs) = self.plan.state(tokens).outputs() else { return Ok(None) };
        if self.workspace.graph.node(tokens).stage.name != "tokens" {
            return Ok(None);
        }
        let mut text = Text::default();
        let mut largest: f64 = 0.0;
        for output in outputs {
            let before = text.tokens;
            let part = Part { path: self.workspace.store.layout.object(output), name: String::new() };
            let batch = table::read(&[part], &["ids"])?;
            let ids: &ListArray = table::values(&batch, "ids")?;
            for row in 0..ids.len() {
                text = text + Text::of_length(1.0, f64::from(ids.value_length(row)));
            }
            largest = largest.max(text.tokens - before);
        }
        self.largest.insert(tokens, largest);
        Ok(Some(text))
    }

    fn guessed(&mut self, tokens: NodeId) -> Result<Text> {
        let node = self.workspace.graph.node(tokens);
        let name = node.binding("dataset").map(str::to_string);
        let name = name.context("tokens are of a dataset")?;
        let dataset = self.workspace.manifest.pipeline.dataset(&name, "datasets")?;
        let longest = node.params["max_tokens"].as_f64().unwrap_or(f64::INFINITY);
        let (text, how) = match self.file(tokens) {
            Some(path) => from_file(dataset, &path).with_context(|| format!("cannot read {}", path.display()))?,
            None => {
                let (examples, whence) = match limit(dataset) {
                    Some(limit) => (limit, "the limit"),
                    None => (EXAMPLES, "assumed"),
                };
                let how = format!(
                    "{examples} examples ({whence}) of {TOKENS_AN_EXAMPLE} tokens (assumed), because its file is not there"
                );
                (Text::of_length(examples, TOKENS_AN_EXAMPLE), how)
            }
        };
        let length = (text.tokens / text.examples.max(1.0)).min(longest);
        let datasets = self.guesses.entry(how).or_default();
        if !datasets.contains(&name) {
            datasets.push(name);
        }
        Ok(Text::of_length(text.examples, length))
    }

    /// The file that the tokens' dataset is read from, if it is there.
    fn file(&self, tokens: NodeId) -> Option<std::path::PathBuf> {
        let examples = self.upstream(tokens, "examples")?;
        self.workspace.graph.node(examples).inputs.iter().find_map(|input| match &input.from {
            From::Files { files, .. } => files.first().map(|(_, path)| path.clone()),
            From::Node { node, files } => {
                let outputs = self.plan.state(*node).outputs()?;
                let output = outputs.iter().find(|output| files.admits(&output.name))?;
                Some(self.workspace.store.layout.object(output))
            }
            From::Absent(_) => None,
        })
    }
}

fn limit(dataset: &Dataset) -> Option<f64> {
    dataset.reading["limit"].as_f64()
}

/// The file's bytes over those of a token; of its rows no more than the limit.
fn from_file(dataset: &Dataset, path: &Path) -> Result<(Text, String)> {
    let bytes = std::fs::metadata(path)?.len() as f64;
    let tokens = bytes / BYTES_A_TOKEN;
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    let by_line = ending.is_some_and(|ending| ending == "jsonl" || ending == "ndjson");
    let rows = if by_line { lines(path)? } else { (tokens / TOKENS_AN_EXAMPLE).ceil() }.max(1.0);
    let examples = limit(dataset).map_or(rows, |limit| limit.min(rows));
    Ok((Text::of_length(examples, tokens / rows), format!("the bytes of its file / {BYTES_A_TOKEN}")))
}

fn lines(path: &Path) -> Result<f64> {
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
    let mut lines = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(lines as f64);
        }
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        let read = chunk.len();
        reader.consume(read);
    }
}
