//! Counts a run: each node's own cost in its stage's row, the passes that nodes share in rows of their own.

use anyhow::Result;

use super::machine;
use super::memory::PROCESS;
use super::models::Models;
use super::passes::{Asked, Passes};
use super::planned::{NodeIndex, PlannedNode, PlannedRun};
use super::quantity::bytes;
use super::row::Row;
use super::texts::Texts;
use crate::contract::cost::{Cost, Expected, ExpectedTable, ModelSize, Pass, Text};

/// What a run takes, before it is known how fast the machine is.
pub struct Counted {
    pub rows: Vec<Row>,
    pub largest: ModelSize,
    pub notes: Vec<String>,
}

/// `None` when nothing of the run passes a model or compares what did.
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
        uncounted: 0,
    };
    for node in run.undone() {
        counter.add(node)?;
    }
    Ok(counter.finish())
}

struct Counter<'a> {
    run: &'a PlannedRun<'a>,
    texts: Texts<'a>,
    models: Models<'a>,
    passes: Passes,
    stages: Vec<Row>,
    /// Nodes of models whose sizes are not known.
    uncounted: usize,
}

/// What a node is given: passes of these tokens, or tables.
struct Given {
    expected: Expected,
    tokens: Option<NodeIndex>,
}

impl Counter<'_> {
    fn add(&mut self, node: &PlannedNode) -> Result<()> {
        let Some(given) = self.given(node)? else { return Ok(()) };
        let Some(cost) = node.stage.cost.and_then(|cost| cost(node.params, &given.expected)) else { return Ok(()) };
        let Cost { pass, flops, written, memory } = cost;
        let mut open = 0.0;
        if let Some(tokens) = given.tokens {
            let part = self.texts.largest_part(tokens)?;
            if pass == Pass::default() {
                // A stage that passes models by itself has all of them open.
                open = given.expected.models.iter().map(|size| whole_pass(size, part)).sum();
            } else {
                let parts = self.texts.parts(tokens)? * node.undone;
                let asked = Asked { text: given.expected.text, pass, parts, part };
                self.passes.share(node.weights()[0], tokens, asked);
            }
        }
        let row = self.row(node, given.tokens.is_none());
        row.flops += flops;
        row.written += written;
        if memory + open > 0.0 {
            row.memory = row.memory.max(PROCESS + memory + open);
        }
        Ok(())
    }

    /// `None` where nothing is known of it: it reads no model and no table of one, or one that is yet to be trained.
    fn given(&mut self, node: &PlannedNode) -> Result<Option<Given>> {
        let names = node.weights();
        let tokens = if names.is_empty() { None } else { self.texts.source(node) };
        let Some(tokens) = tokens else {
            let tables = self.tables(node)?.filter(|tables| !tables.is_empty());
            let expected = |tables| Expected { models: Vec::new(), text: Text::default(), tables };
            return Ok(tables.map(|tables| Given { expected: expected(tables), tokens: None }));
        };
        let mut models = Vec::new();
        for name in &names {
            models.extend(self.models.size(name)?);
        }
        if models.len() < names.len() {
            self.uncounted += 1;
            return Ok(None);
        }
        let text = self.texts.of(tokens)?.share(node.undone);
        Ok(Some(Given { expected: Expected { models, text, tables: Vec::new() }, tokens: Some(tokens) }))
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

    fn finish(self) -> Option<Counted> {
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
        rows.extend(self.stages);
        if rows.is_empty() {
            return None;
        }
        if self.uncounted > 0 {
            notes.push(format!("{} nodes of models that this run would train first are not counted", self.uncounted));
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

/// Bytes resident while a part of so many tokens goes all the way up, with its predictions.
fn whole_pass(size: &ModelSize, part: f64) -> f64 {
    size.pass_memory(part, Pass { blocks: size.layers(), predictions: part, reversed: 0 })
}

/// What a real run would not find.
fn absent(run: &PlannedRun) -> Option<String> {
    let mut absent: Vec<&str> = run.undone().filter_map(PlannedNode::absent).collect();
    absent.sort_unstable();
    absent.dedup();
    (!absent.is_empty()).then(|| format!("not there, and needed to run: {}", absent.join("; ")))
}
