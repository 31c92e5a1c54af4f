//! How much text a node will be given: counted in its tokens table where there is one, and else from the dataset's
//! file or its limit, in words that say which.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{Array, ListArray};
use serde::Deserialize;
use serde_json::Value;

use super::planned::{NodeIndex, PlannedNode, PlannedRun};
use crate::contract::cost::Text;
use crate::contract::node::{Bindings, Part};
use crate::contract::pipeline::{Dataset, DatasetSource, model_dataset};
use crate::contract::stage::Outputs;
use crate::organism::corpus_text::settings::Settings;
use crate::table;

/// The stage that writes the dataset's rows, and the one that tokenizes them.
const EXAMPLES_STAGE: &str = "examples";
const TOKENS_STAGE: &str = "tokens";
/// Of an example of which nothing else is known.
const TOKENS_AN_EXAMPLE: f64 = 300.0;
const EXAMPLES: f64 = 100.0;
/// Of an example of the corpus, whose words are few and whose answers are short.
const TOKENS_IN_CORPUS: f64 = 37.0;
/// English text and code under the tokenizers in use come near 4 bytes a token.
const BYTES_A_TOKEN: f64 = 4.0;

/// The texts of a run's nodes of `tokens` and `examples`.
pub struct Texts<'a> {
    run: &'a PlannedRun<'a>,
    known: BTreeMap<NodeIndex, Text>,
    /// Tokens of the largest part, where they are counted.
    largest: BTreeMap<NodeIndex, f64>,
    /// The first node of tokens for each names, and for each node of examples that it reads.
    named: HashMap<&'a Bindings, NodeIndex>,
    reading: HashMap<NodeIndex, NodeIndex>,
    /// For each way of guessing, the datasets it was used for.
    guesses: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Texts<'a> {
    pub fn new(run: &'a PlannedRun<'a>) -> Texts<'a> {
        let (mut named, mut reading) = (HashMap::new(), HashMap::new());
        for (index, node) in run.nodes.iter().enumerate().filter(|(_, node)| node.stage.name == TOKENS_STAGE) {
            named.entry(node.bindings).or_insert(index);
            for upstream in node.upstream() {
                reading.entry(upstream).or_insert(index);
            }
        }
        Texts { run, known: BTreeMap::new(), largest: BTreeMap::new(), named, reading, guesses: BTreeMap::new() }
    }

    /// The text that a node reads: of its tokens, or of the examples that it tokenizes itself.
    pub fn source(&self, node: &PlannedNode) -> Option<NodeIndex> {
        self.run.upstream(node, TOKENS_STAGE).or_else(|| {
            let examples = self.run.upstream(node, EXAMPLES_STAGE)?;
            // Any model's tokens of them, counted where they are.
            Some(self.reading.get(&examples).copied().unwrap_or(examples))
        })
    }

    /// A dataset's tokens for a model, where the pipeline has them.
    pub fn tokens(&self, model: &str, dataset: &str) -> Option<NodeIndex> {
        self.named.get(&model_dataset(model, dataset)).copied()
    }

    /// The text of a node of `tokens` or `examples`.
    ///
    /// # Errors
    /// When its table or its dataset's file cannot be read.
    pub fn of(&mut self, tokens: NodeIndex) -> Result<Text> {
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
    ///
    /// # Errors
    /// As for [`Texts::of`].
    pub fn parts(&mut self, tokens: NodeIndex) -> Result<f64> {
        if let Some(outputs) = &self.run.nodes[tokens].outputs {
            return Ok(outputs.len() as f64);
        }
        // Parts hold about twice their least size on average.
        let least =
            self.examples(tokens).and_then(|examples| self.run.nodes[examples].params["block"]["least"].as_f64());
        Ok((self.of(tokens)?.examples / (2.0 * least.unwrap_or(16.0))).ceil())
    }

    /// Tokens of the largest part: these pass together.
    ///
    /// # Errors
    /// As for [`Texts::of`].
    pub fn largest_part(&mut self, tokens: NodeIndex) -> Result<f64> {
        let text = self.of(tokens)?;
        match self.largest.get(&tokens) {
            Some(largest) => Ok(*largest),
            None => Ok(text.tokens / self.parts(tokens)?.max(1.0)),
        }
    }

    /// How each dataset's text was guessed.
    pub fn notes(&self) -> Vec<String> {
        const SHOWN: usize = 8;
        let note = |(how, datasets): (&String, &BTreeSet<String>)| {
            let names: Vec<&str> = datasets.iter().take(SHOWN).map(String::as_str).collect();
            let more = datasets.len() - names.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("tokens of {}{more}: {how}", names.join(", "))
        };
        let mut notes: Vec<String> = self.guesses.iter().map(note).collect();
        if !notes.is_empty() {
            notes.push("(`strata run tokens` counts them)".into());
        }
        notes
    }

    /// The node of `examples` that a node of `tokens` reads, or that it is.
    fn examples(&self, tokens: NodeIndex) -> Option<NodeIndex> {
        let node = &self.run.nodes[tokens];
        if node.stage.name == EXAMPLES_STAGE { Some(tokens) } else { self.run.upstream(node, EXAMPLES_STAGE) }
    }

    fn counted(&mut self, tokens: NodeIndex) -> Result<Option<Text>> {
        let node = &self.run.nodes[tokens];
        let Some(outputs) = node.outputs.as_ref().filter(|_| node.stage.name == TOKENS_STAGE) else { return Ok(None) };
        let mut text = Text::default();
        let mut largest: f64 = 0.0;
        for part in outputs {
            let before = text.tokens;
            let batch = table::read(std::slice::from_ref(part), &["ids"])?;
            let ids: &ListArray = table::values(&batch, "ids")?;
            for row in 0..ids.len() {
                text = text + Text::of_length(1.0, f64::from(ids.value_length(row)));
            }
            largest = largest.max(text.tokens - before);
        }
        self.largest.insert(tokens, largest);
        Ok(Some(text))
    }

    fn guessed(&mut self, tokens: NodeIndex) -> Result<Text> {
        let node = &self.run.nodes[tokens];
        let name = node.binding("dataset").context("tokens are of a dataset")?;
        let dataset = self.run.pipeline.dataset(name, "datasets")?;
        let longest = node.params["max_tokens"].as_f64().unwrap_or(f64::INFINITY);
        let (text, how) = match (self.file(tokens), self.corpus(tokens)) {
            (Some(Part { path, .. }), _) => {
                from_file(dataset, path).with_context(|| format!("cannot read {}", path.display()))?
            }
            (None, Some(corpus)) => from_corpus(dataset, &corpus),
            (None, None) if matches!(dataset.source, DatasetSource::Written(_)) => from_pipeline(dataset),
            (None, None) => assumed(dataset),
        };
        let length = (text.tokens / text.examples.max(1.0)).min(longest);
        self.guesses.entry(how).or_default().insert(name.to_string());
        Ok(Text::of_length(text.examples, length))
    }

    /// The settings of the corpus that the tokens' dataset is a part of.
    fn corpus(&self, tokens: NodeIndex) -> Option<Settings> {
        let mut upstream = self.run.nodes[self.examples(tokens)?].upstream().map(|upstream| &self.run.nodes[upstream]);
        let corpus = upstream.find(|node| matches!(node.stage.outputs, Outputs::Corpus))?;
        Settings::deserialize(corpus.params).ok()
    }

    /// The file that the tokens' dataset is read from, if it is there.
    fn file(&self, tokens: NodeIndex) -> Option<&'a Part> {
        let examples = &self.run.nodes[self.examples(tokens)?];
        examples.inputs.iter().find_map(|input| input.files.as_ref()?.first())
    }
}

/// Examples of a common length, as many as the limit says.
fn assumed(dataset: &Dataset) -> (Text, String) {
    let (examples, whence) = match limit(dataset) {
        Some(limit) => (limit, "the limit"),
        None => (EXAMPLES, "assumed"),
    };
    let how = format!(
        "{examples} examples ({whence}) of {TOKENS_AN_EXAMPLE} tokens (assumed), because its file is not there"
    );
    (Text::of_length(examples, TOKENS_AN_EXAMPLE), how)
}

/// A part of a corpus that is yet to be made.
fn from_corpus(dataset: &Dataset, corpus: &Settings) -> (Text, String) {
    let examples = limit(dataset).map_or(corpus.examples as f64, |limit| limit.min(corpus.examples as f64));
    let how =
        format!("{examples} examples of {TOKENS_IN_CORPUS} tokens (assumed), because the corpus is yet to be made");
    (Text::of_length(examples, TOKENS_IN_CORPUS), how)
}

fn limit(dataset: &Dataset) -> Option<f64> {
    dataset.reading["limit"].as_f64().or_else(|| dataset.reading["sample"]["n"].as_f64())
}

/// The conversations' bytes over those of a token.
fn from_pipeline(dataset: &Dataset) -> (Text, String) {
    let DatasetSource::Written(Value::Array(list)) = &dataset.source else { return Default::default() };
    let examples = if list.first().is_some_and(Value::is_array) { list.len() as f64 } else { 1.0 };
    let tokens = serde_json::to_string(list).map_or(0.0, |text| text.len() as f64) / BYTES_A_TOKEN;
    (Text::of_length(examples, tokens / examples), format!("the bytes of its conversations / {BYTES_A_TOKEN}"))
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
    let mut reader = BufReader::with_capacity(1 << 20, crate::contract::file::open(path)?);
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
