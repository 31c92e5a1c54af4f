//! Counts a run: each node's own cost in its stage's row, the passes that nodes share in rows of their own.

use std::collections::BTreeMap;

use anyhow::Result;

use super::machine;
use super::memory::{PROCESS, of_reading};
use super::models::Models;
use super::passes::{Asked, Passes};
use super::planned::{NodeIndex, PlannedNode, PlannedRun};
use super::quantity::bytes;
use super::row::Row;
use super::texts::Texts;
use crate::contract::cost::{Cost, Expected, ExpectedTable, ModelSize, Pass, Text};
use crate::contract::node::{Part, Source};

/// The row of the stages that have no cost of their own.
const OTHERS: &str = "stages that read tables";

/// What a run takes, before it is known how fast the machine is.
pub struct Counted {
    pub rows: Vec<Row>,
    pub largest: ModelSize,
    pub notes: Vec<String>,
}

/// `None` when nothing of the run passes a model, trains one or compares what passed.
///
/// # Errors
/// When a model's config.json cannot be read or describes a model that is not supported.
pub fn count(run: &PlannedRun) -> Result<Option<Counted>> {
    let mut counter = Counter {
        run,
        texts: Texts::new(run),
        models: Models::new(run),
        passes: Passes::default(),
        stages: Vec::new(),
        others: Row::of(OTHERS),
        at_once: AtOnce::default(),
        written: BTreeMap::new(),
        uncounted: 0,
    };
    for index in run.undone() {
        counter.add(index)?;
    }
    Ok(counter.finish())
}

struct Counter<'a> {
    run: &'a PlannedRun<'a>,
    texts: Texts<'a>,
    models: Models<'a>,
    passes: Passes,
    stages: Vec<Row>,
    others: Row,
    at_once: AtOnce,
    /// Bytes of nodes' tables that are yet to be written.
    written: BTreeMap<NodeIndex, f64>,
    /// Nodes of models whose sizes are not known.
    uncounted: usize,
}

/// What a node is given: passes of these tokens, or tables.
struct Given {
    expected: Expected,
    tokens: Option<NodeIndex>,
}

impl Counter<'_> {
    fn add(&mut self, index: NodeIndex) -> Result<()> {
        let node = &self.run.nodes[index];
        let Some(cost) = node.stage.cost else { return self.add_reader(index) };
        let Some(given) = self.given(node, node.undone)? else {
            self.uncounted += 1;
            return Ok(());
        };
        let Some(cost) = cost(node.params, &given.expected) else { return Ok(()) };
        let Cost { pass, flops, written, memory } = cost;
        let mut open = 0.0;
        if let Some(tokens) = given.tokens {
            let part = self.texts.largest_part(tokens)?;
            if pass == Pass::default() {
                open = open_models(&given.expected.models, part);
            } else {
                let parts = self.texts.parts(tokens)? * node.undone;
                let asked = Asked { text: given.expected.text, pass, parts, part };
                self.passes.share(node.weights()[0], tokens, asked);
            }
        }
        self.at_once.add(self.run, index);
        let row = self.row(node, !given.expected.tables.is_empty());
        row.flops += flops;
        row.written += written;
        if memory + open > 0.0 {
            row.memory = row.memory.max(PROCESS + memory + open);
        }
        Ok(())
    }

    /// A node whose stage tells no cost holds what it reads.
    fn add_reader(&mut self, index: NodeIndex) -> Result<()> {
        let node = &self.run.nodes[index];
        if node.per_part {
            return Ok(());
        }
        let mut read: BTreeMap<Option<&str>, f64> = BTreeMap::new();
        for input in &node.inputs {
            // Weights are mapped by those that pass a model, and a tokenizer is small.
            if !matches!(input.source, Source::Node { .. } | Source::Dataset { .. }) {
                continue;
            }
            let bytes = match (&input.files, input.node) {
                (Some(files), _) => files.iter().map(file_bytes).sum(),
                (None, Some(upstream)) => self.written(upstream)?,
                (None, None) => 0.0,
            };
            *read.entry(input.node.map(|upstream| self.run.nodes[upstream].stage.name)).or_default() += bytes;
        }
        let memory = PROCESS + of_reading(&node.stage.work, read.into_values());
        self.others.memory = self.others.memory.max(memory);
        self.others.at_once = (self.others.at_once + 1).min(self.run.jobs);
        Ok(())
    }

    /// Bytes of a node's table, as its stage expects them; 0 where it tells none.
    fn written(&mut self, index: NodeIndex) -> Result<f64> {
        if let Some(written) = self.written.get(&index) {
            return Ok(*written);
        }
        let node = &self.run.nodes[index];
        let mut written = 0.0;
        if let Some(cost) = node.stage.cost
            && let Some(given) = self.given(node, 1.0)?
        {
            written = cost(node.params, &given.expected).map_or(0.0, |cost| cost.written);
        }
        self.written.insert(index, written);
        Ok(written)
    }

    /// What a node with this share of its tasks is given; `None` where it is of a model whose size is not known.
    fn given(&mut self, node: &PlannedNode, share: f64) -> Result<Option<Given>> {
        let names = node.weights();
        let mut models = Vec::new();
        for name in &names {
            models.extend(self.models.size(name)?);
        }
        if models.len() < names.len() {
            return Ok(None);
        }
        let tokens = if names.is_empty() { None } else { self.texts.source(node) };
        let text = match tokens {
            Some(tokens) => self.texts.of(tokens)?.share(share),
            None => Text::default(),
        };
        let Some(tables) = (if tokens.is_some() { Some(Vec::new()) } else { self.tables(node)? }) else {
            return Ok(None);
        };
        Ok(Some(Given { expected: Expected { models, text, tables }, tokens }))
    }

    /// The tables of one model and dataset that a node reads; `None` where some are of a model whose size is not known.
    fn tables(&mut self, node: &PlannedNode) -> Result<Option<Vec<ExpectedTable>>> {
        let mut tables = Vec::new();
        for upstream in node.upstream() {
            let upstream = &self.run.nodes[upstream];
            let (Some(model), Some(dataset)) = (upstream.binding("model"), upstream.binding("dataset")) else {
                continue;
            };
            let (Some(size), Some(tokens)) = (self.models.size(model)?, self.texts.tokens(model, dataset)) else {
                return Ok(None);
            };
            tables.push(ExpectedTable { model: size, text: self.texts.of(tokens)?, params: upstream.params.clone() });
        }
        Ok(Some(tables))
    }

    /// The row of a node's stage.
    fn row(&mut self, node: &PlannedNode, reads_tables: bool) -> &mut Row {
        let what = node.stage.name;
        let known = self.stages.iter().position(|row| row.what == what);
        let index = known.unwrap_or_else(|| {
            let compares = reads_tables || what == "gradient_factors";
            self.stages.push(Row { compares, ..Row::of(what) });
            self.stages.len() - 1
        });
        &mut self.stages[index]
    }

    fn finish(mut self) -> Option<Counted> {
        let largest = self.models.largest()?.clone();
        let memory = machine::memory();
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for (name, size) in self.models.sizes() {
            let fits = memory.is_none_or(|memory| size.bytes() < 0.8 * memory);
            if !fits {
                notes.push(format!(
                    "{name} has {} of weights, more than this machine's memory holds: every part of the examples reads them again",
                    bytes(size.bytes())
                ));
            }
            rows.extend(self.passes.rows(name, size, fits));
        }
        rows.retain(|row| row.tokens > 0.0);
        for row in &mut self.stages {
            row.at_once = self.at_once.of(&row.what).min(self.run.jobs);
        }
        rows.extend(self.stages);
        if rows.is_empty() {
            return None;
        }
        rows.extend((self.others.at_once > 0).then_some(self.others));
        if self.uncounted > 0 {
            notes.push(format!("{} nodes of models whose sizes are not known are not counted", self.uncounted));
        }
        notes.extend(self.texts.notes());
        // Mapped weights are read again where they do not fit; what is compared has to.
        for row in rows.iter().filter(|row| row.compares && memory.is_some_and(|memory| row.memory > 0.8 * memory)) {
            notes.push(format!(
                "{} takes {} of memory, and this machine has {}: ask for fewer examples (`limit` of a dataset)",
                row.what,
                bytes(row.memory),
                bytes(memory.unwrap_or_default())
            ));
        }
        notes.extend(absent(self.run));
        Some(Counted { rows, largest, notes })
    }
}

/// How many nodes of a stage could run at once: those that read others of their own stage come after them.
#[derive(Default)]
struct AtOnce {
    /// How many nodes of its own stage a node comes after.
    levels: BTreeMap<NodeIndex, usize>,
    nodes: BTreeMap<(&'static str, usize), usize>,
}

impl AtOnce {
    fn add(&mut self, run: &PlannedRun, index: NodeIndex) {
        let level = run.nodes[index].upstream().filter_map(|upstream| {
            let same = run.nodes[upstream].stage.name == run.nodes[index].stage.name;
            same.then(|| self.levels.get(&upstream).map_or(0, |level| level + 1))
        });
        let level = level.max().unwrap_or(0);
        self.levels.insert(index, level);
        *self.nodes.entry((run.nodes[index].stage.name, level)).or_default() += 1;
    }

    fn of(&self, stage: &str) -> usize {
        self.nodes.iter().filter(|((name, _), _)| *name == stage).map(|(_, nodes)| *nodes).max().unwrap_or(0)
    }
}

fn file_bytes(part: &Part) -> f64 {
    std::fs::metadata(&part.path).map_or(0.0, |file| file.len() as f64)
}

/// Bytes resident for a stage that passes models by itself: all of them are open, and a part of so many tokens goes all
/// the way up in one at a time, with its predictions.
fn open_models(models: &[ModelSize], part: f64) -> f64 {
    let whole = |size: &ModelSize| Pass { blocks: size.layers(), predictions: part, reversed: 0 };
    let values = models.iter().map(|size| size.pass_memory(part, whole(size)) - size.bytes());
    models.iter().map(ModelSize::bytes).sum::<f64>() + values.fold(0.0, f64::max)
}

/// What a real run would not find.
fn absent(run: &PlannedRun) -> Option<String> {
    let mut absent: Vec<&str> = run.undone().filter_map(|index| run.nodes[index].absent()).collect();
    absent.sort_unstable();
    absent.dedup();
    (!absent.is_empty()).then(|| format!("not there, and needed to run: {}", absent.join("; ")))
}
