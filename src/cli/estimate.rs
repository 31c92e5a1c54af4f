//! What a run would take, from the models' configs and the datasets' sizes: the end of `strata run --dry-run`.
//!
//! Weights, tokenizers and datasets need not be there. Stages say what they take (`Stage::cost`); what they share, a
//! forward pass for each model and dataset and one back from its losses, is counted once and has rows of its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use strata_stages::contract::cost::{Cost, Expected, ExpectedTable, ModelSize, Pass, Text};
use strata_stages::contract::pipeline::ModelSource;
use strata_stages::model::size::{self, Speed};
use strata_stages::{Outputs, Source};

use super::Workspace;
use super::expected_text::Texts;
use super::say::say;
use crate::graph::{GraphNode, NodeId, NodeSet};
use crate::plan::Plan;

pub struct Estimate {
    /// One for each model's passes, then one for each stage that has a cost of its own.
    rows: Vec<Row>,
    speed: Speed,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    what: String,
    tokens: f64,
    flops: f64,
    read: f64,
    written: f64,
    /// Resident at most, mapped weights included, of the one task that takes most.
    memory: f64,
    /// Whether it compares examples with each other, or keeps what is compared.
    compares: bool,
}

/// The pass that the observers of one model and dataset share.
struct Shared {
    text: Text,
    pass: Pass,
    parts: f64,
    /// Tokens of the largest part that passes.
    part: f64,
}

/// The process itself, with its threads and what its allocator keeps.
const PROCESS: f64 = 60e6;

/// What the wanted nodes that are not done would take; `None` when none of them passes a model or compares what did.
///
/// # Errors
/// When a model's config.json cannot be read or describes a model that is not supported.
pub fn of(workspace: &Workspace, wanted: &NodeSet, plan: &Plan) -> Result<Option<Estimate>> {
    count(workspace, wanted, plan)?.map(Counted::timed).transpose()
}

/// The same where an exact comparison of the vectors takes much memory or disk or long, to be said before a run:
/// the comparison comes last, when all that it reads has been computed.
///
/// # Errors
/// As for [`of`].
pub fn of_demanding(workspace: &Workspace, wanted: &NodeSet, plan: &Plan) -> Result<Option<Estimate>> {
    const MEMORY: f64 = 1e9;
    const WRITTEN: f64 = 1e9;
    const FLOPS: f64 = 1e13;
    let Some(mut counted) = count(workspace, wanted, plan)? else { return Ok(None) };
    counted.rows.retain(|row| row.compares);
    if !counted.rows.iter().any(|row| row.memory > MEMORY || row.written > WRITTEN || row.flops > FLOPS) {
        return Ok(None);
    }
    counted.timed().map(Some)
}

struct Counted {
    rows: Vec<Row>,
    largest: ModelSize,
    notes: Vec<String>,
}

impl Counted {
    /// With the speed of this machine at the largest model's products.
    fn timed(self) -> Result<Estimate> {
        Ok(Estimate { rows: self.rows, speed: size::measure(&self.largest)?, notes: self.notes })
    }
}

fn count(workspace: &Workspace, wanted: &NodeSet, plan: &Plan) -> Result<Option<Counted>> {
    let mut texts = Texts::new(workspace, plan);
    let mut sizes: BTreeMap<String, Option<ModelSize>> = BTreeMap::new();
    let mut passes: BTreeMap<(String, NodeId), Shared> = BTreeMap::new();
    let mut stages: Vec<Row> = Vec::new();
    let mut uncounted = 0;
    for id in wanted.iter() {
        let node = workspace.graph.node(id);
        let share = undone(plan, id);
        let names: Vec<&String> = weights(node).collect();
        if share == 0.0 {
            continue;
        }
        let mut known = |name: &str| -> Result<Option<ModelSize>> {
            if !sizes.contains_key(name) {
                sizes.insert(name.to_string(), size(workspace, plan, name)?);
            }
            Ok(sizes[name].clone())
        };
        let source = if names.is_empty() { None } else { texts.source(node) };
        let mut expected = Expected { models: Vec::new(), text: Text::default(), tables: Vec::new() };
        match source {
            Some(tokens) => {
                expected.text = texts.of(tokens)?.share(share);
                for name in &names {
                    expected.models.extend(known(name)?);
                }
                if expected.models.len() < names.len() {
                    uncounted += 1;
                    continue;
                }
            }
            None => match tables(workspace, &mut texts, node, &mut known)? {
                Some(tables) => expected.tables = tables,
                None => continue,
            },
        }
        let Some(cost) = node.stage.cost.and_then(|cost| cost(&node.params, &expected)) else { continue };
        let Cost { pass, flops, written, memory } = cost;
        if let Some(tokens) = source.filter(|_| pass != Pass::default()) {
            let text = expected.text;
            let parts = texts.parts(tokens)? * share;
            let part = texts.largest_part(tokens)?;
            let shared = passes.entry((names[0].clone(), tokens));
            let shared = shared.or_insert_with(|| Shared { text, pass, parts, part });
            shared.pass = shared.pass.and(pass);
            if text.tokens > shared.text.tokens {
                (shared.text, shared.parts) = (text, parts);
            }
        }
        let what = node.stage.name;
        if !stages.iter().any(|row| row.what == what) {
            let compares = source.is_none() || what == "gradient_factors";
            stages.push(Row { what: what.to_string(), compares, ..Row::default() });
        }
        let row = stages.iter_mut().find(|row| row.what == what).context("it was just put there")?;
        row.flops += flops;
        row.written += written;
        // A stage that passes models by itself has all of them open.
        let open = match source.filter(|_| pass == Pass::default()) {
            Some(tokens) => {
                let part = texts.largest_part(tokens)?;
                let whole = |size: &ModelSize| {
                    let pass = Pass { blocks: size.layers(), predictions: part, reversed: 0 };
                    size.pass_memory(part, pass)
                };
                expected.models.iter().map(whole).sum()
            }
            None => 0.0,
        };
        if memory + open > 0.0 {
            row.memory = row.memory.max(PROCESS + memory + open);
        }
    }
    let Some(largest) = sizes.values().flatten().max_by(|a, b| a.parameters.total_cmp(&b.parameters)) else {
        return Ok(None);
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut notes = Vec::new();
    for (name, size) in sizes.iter().filter_map(|(name, size)| Some((name, size.as_ref()?))) {
        let own = passes.iter().filter(|((model, _), _)| model == name).map(|(_, shared)| shared);
        let mut row = Row { what: format!("forward passes of {name}"), ..Row::default() };
        let mut back = Row { what: format!("backward passes of {name}"), ..Row::default() };
        let mut times = 0.0;
        for shared in own {
            row.tokens += shared.text.tokens;
            row.flops += size.pass_flops(shared.text, shared.pass);
            let up = Pass { reversed: 0, ..shared.pass };
            row.memory = row.memory.max(PROCESS + size.pass_memory(shared.part, up));
            if shared.pass.reversed > 0 {
                back.tokens += shared.text.tokens;
                back.flops += size.backward_flops(shared.text, shared.pass);
                back.memory = back.memory.max(PROCESS + size.pass_memory(shared.part, shared.pass));
            }
            times += shared.parts;
        }
        // What does not fit into memory is read again for every part that passes.
        let fits = memory().is_none_or(|memory| size.bytes() < 0.8 * memory);
        if !fits {
            notes.push(format!(
                "{name} has {} of weights, more than this machine's memory holds: every part of the examples reads them again",
                bytes(size.bytes())
            ));
        }
        row.read = size.bytes() * if fits { 1.0 } else { times.max(1.0) };
        rows.extend([row, back]);
    }
    rows.retain(|row| row.tokens > 0.0);
    rows.extend(stages);
    if rows.is_empty() {
        return Ok(None);
    }
    if uncounted > 0 {
        notes.push(format!("{uncounted} nodes of models that this run would train first are not counted"));
    }
    notes.extend(texts.notes());
    if let Some(memory) = memory() {
        // Mapped weights are read again where they do not fit; what is compared has to.
        for row in rows.iter().filter(|row| row.compares && row.memory > 0.8 * memory) {
            notes.push(format!(
                "{} takes {} of memory, and this machine has {}: ask for fewer examples (`limit` of a dataset)",
                row.what,
                bytes(row.memory),
                bytes(memory)
            ));
        }
    }
    notes.extend(absent(workspace, wanted));
    Ok(Some(Counted { rows, largest: largest.clone(), notes }))
}

/// The tables of one model and dataset that a node reads; `None` where it reads none, or some of them are of a
/// model that the pipeline has yet to train.
fn tables(
    workspace: &Workspace,
    texts: &mut Texts,
    node: &GraphNode,
    known: &mut impl FnMut(&str) -> Result<Option<ModelSize>>,
) -> Result<Option<Vec<ExpectedTable>>> {
    let mut tables = Vec::new();
    for upstream in node.upstream() {
        let upstream = workspace.graph.node(upstream);
        let (Some(model_name), Some(dataset)) = (upstream.binding("model"), upstream.binding("dataset")) else {
            continue;
        };
        let (Some(model), Some(tokens)) = (known(model_name)?, texts.tokens(model_name, dataset)) else {
            return Ok(None);
        };
        tables.push(ExpectedTable { model, text: texts.of(tokens)?, params: upstream.params.clone() });
    }
    Ok((!tables.is_empty()).then_some(tables))
}

/// The share of a node's tasks that would run.
fn undone(plan: &Plan, id: NodeId) -> f64 {
    let state = plan.state(id);
    match state.tasks() {
        0 => 1.0,
        tasks => state.stale().count() as f64 / tasks as f64,
    }
}

/// The models whose weights a node reads.
fn weights(node: &GraphNode) -> impl Iterator<Item = &String> {
    node.inputs.iter().filter_map(|input| match &input.source {
        Source::Weights { model } => Some(model),
        _ => None,
    })
}

/// A model's size; `None` while a model that the pipeline trains is not there.
fn size(workspace: &Workspace, plan: &Plan, name: &str) -> Result<Option<ModelSize>> {
    let model = workspace.manifest.pipeline.models.iter().find(|model| model.name == name);
    let path = match &model.with_context(|| format!("no model {name}"))?.source {
        ModelSource::Directory(directory) => directory.join("config.json"),
        ModelSource::Trained(_) => {
            let trained = |node: &GraphNode| {
                matches!(node.stage.outputs, Outputs::Model) && node.bindings.iter().any(|(_, model)| model == name)
            };
            let maker = workspace.graph.nodes().find(|(_, node)| trained(node)).map(|(id, _)| id);
            let outputs = maker.and_then(|id| plan.state(id).outputs());
            match outputs.into_iter().flatten().find(|output| output.name == "config.json") {
                Some(config) => workspace.store.layout.object(config),
                None => return Ok(None),
            }
        }
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(size::size(&text).with_context(|| format!("reading {}", path.display()))?))
}

/// This machine's memory in bytes, where it can be asked.
fn memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// What a real run would not find.
fn absent(workspace: &Workspace, wanted: &NodeSet) -> Option<String> {
    let mut absent: Vec<&str> = wanted.iter().filter_map(|id| workspace.graph.node(id).absent()).collect();
    absent.sort_unstable();
    absent.dedup();
    (!absent.is_empty()).then(|| format!("not there, and needed to run: {}", absent.join("; ")))
}

impl Estimate {
    pub fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({ "what": row.what, "tokens": row.tokens.round(), "flops": row.flops, "read": row.read.round(),
                "written": row.written.round(), "memory": row.memory.round(), "hours": self.hours(row) })
        };
        json!({ "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "total": row(&self.total()),
            "flops_per_second": self.speed.flops_per_second, "notes": self.notes })
    }

    pub fn print(&self) -> Result<()> {
        say!("\n{}", self.text("what it would take"));
        Ok(())
    }

    /// A table with the notes below it, under this heading.
    pub fn text(&self, heading: &str) -> String {
        let mut lines = vec![format!(
            "{:<36} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            heading, "tokens", "FLOPs", "read", "written", "memory", "time"
        )];
        let total = self.total();
        for row in self.rows.iter().chain([&total]) {
            let dash = |value: f64, text: String| if value > 0.0 { text } else { "-".into() };
            lines.push(format!(
                "{:<36} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                row.what,
                dash(row.tokens, si(row.tokens)),
                dash(row.flops, si(row.flops)),
                dash(row.read, bytes(row.read)),
                dash(row.written, bytes(row.written)),
                dash(row.memory, bytes(row.memory)),
                dash(row.flops, duration(self.hours(row))),
            ));
        }
        let Speed { flops_per_second, rows, inputs, outputs } = self.speed;
        lines.push(format!(
            "time: the FLOPs at {}FLOP/s, as this machine just made a product of {rows} x {inputs} x {outputs}; \
             reading and writing come on top",
            si(flops_per_second)
        ));
        lines.extend(self.notes.iter().cloned());
        lines.join("\n")
    }

    fn hours(&self, row: &Row) -> f64 {
        row.flops / self.speed.flops_per_second / 3600.0
    }

    fn total(&self) -> Row {
        let sum = |field: fn(&Row) -> f64| self.rows.iter().map(field).sum();
        Row {
            what: "total".into(),
            tokens: sum(|row| row.tokens),
            flops: sum(|row| row.flops),
            read: sum(|row| row.read),
            written: sum(|row| row.written),
            // Tasks follow one another.
            memory: self.rows.iter().map(|row| row.memory).fold(0.0, f64::max),
            compares: false,
        }
    }
}

/// `1.25 k`, `62.4 P`
fn si(value: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let unit = (value.max(1.0).log10() / 3.0).floor().min(6.0);
    let scaled = value / 1000_f64.powf(unit);
    let digits = if unit == 0.0 || scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$} {}", UNITS[unit as usize])
}

fn bytes(value: f64) -> String {
    format!("{}B", si(value))
}

fn duration(hours: f64) -> String {
    match hours {
        hours if hours >= 1.0 => format!("{hours:.1} h"),
        hours if hours >= 1.0 / 60.0 => format!("{:.1} min", hours * 60.0),
        hours => format!("{:.1} s", hours * 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let said: Vec<String> = [7.0, 1234.0, 960_000.0, 6.24e16, 3.1e21].iter().map(|value| si(*value)).collect();
        assert_eq!(said, ["7 ", "1.23 k", "960 k", "62.4 P", "3100 E"]);
        assert_eq!(bytes(65e9), "65.0 GB");
        assert_eq!([duration(57.25), duration(0.5), duration(0.001)], ["57.2 h", "30.0 min", "3.6 s"]);
    }
}
