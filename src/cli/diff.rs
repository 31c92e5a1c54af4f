//! `strata diff`

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use strata_stages::{PlanError, STAGES};

use super::say::say;
use super::{Outcome, Place, usage};
use crate::key::Key;
use crate::latest;
use crate::plan::Plan;
use crate::progress::Verbosity;
use crate::provenance::comparison::{Changed, Comparison, Side, SideNode, compare};
use crate::provenance::export;
use crate::provenance::numbers::{Interval, Moved};
use crate::store::Store;
use crate::store::layout::Layout;

/// Say in what two pipelines or runs differ: keys, the inputs and parameters behind them, and numbers beyond their intervals
///
/// A and B are pipeline files as they stand now, what was pinned (pin:NAME), stores, or exported folders. Nodes are paired by their
/// names. A number has moved when it lies outside of the interval of the other's.
#[derive(Args)]
#[command(after_help = "Examples:
  strata diff pin:paper-v1 pipeline.toml      what has changed since the paper
  strata diff pipeline.toml other/pipeline.toml
  strata diff exported-in-may exported-in-june --json")]
pub struct Diff {
    /// pipeline.toml, pin:NAME, a store or an exported folder
    a: String,
    /// What it is held against
    b: String,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let (a, b) = (side(&self.a, place)?, side(&self.b, place)?);
        let found = compare(&a, &b, STAGES)?;
        if self.json {
            say!("{}", to_json(&a, &b, &found));
        } else {
            print(&a, &b, &found, place.verbosity == Verbosity::Verbose)?;
        }
        Ok(Outcome::Done)
    }
}

fn side(name: &str, place: &Place) -> Result<Side> {
    if let Some(pin) = name.strip_prefix("pin:") {
        return pinned(name, pin, Store::at(place.layout()?));
    }
    let path = Path::new(name);
    if path.join(export::CONTENTS).is_file() {
        return exported(name, path);
    }
    if path.join("records").is_dir() {
        return shown(name, path, place);
    }
    if !path.is_file() {
        let error = PlanError::new("", format!("{name} is no pipeline file, store or exported folder"));
        return Err(usage(error.help("a pin is written pin:NAME; `strata pin` lists them")).into());
    }
    let other = Place { pipeline: path.to_path_buf(), store: place.store.clone(), verbosity: place.verbosity };
    let workspace = other.open()?;
    let mut plan = Plan::new(&workspace.graph, &workspace.store);
    plan.expand_all(&workspace.graph.all())?;
    let (mut nodes, mut planned, mut waiting) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
    for id in workspace.graph.ids() {
        if plan.state(id).is_waiting() {
            waiting.insert(workspace.graph.node(id).label());
            continue;
        }
        let stale: Vec<(usize, Key)> = plan.state(id).stale().collect();
        if !stale.is_empty() {
            let inputs = plan.inputs(id)?;
            for (index, key) in stale {
                planned.insert(key, plan.document(id, &plan.task_inputs(id.task(index), &inputs)));
            }
        }
        let node = workspace.graph.node(id);
        let (stage, keys) = (node.stage.name.to_string(), plan.state(id).keys());
        nodes.insert(node.label(), SideNode { stage, keys, folder: None });
    }
    workspace.store.keep_fingerprints();
    let store = Store::at(other.layout()?);
    Ok(Side { name: name.to_string(), store, nodes, planned, waiting })
}

fn pinned(name: &str, pin: &str, store: Store) -> Result<Side> {
    let pins = store.pins()?;
    let Some((_, found)) = pins.iter().find(|(known, _)| known == pin) else {
        let known = pins.iter().map(|(name, _)| name.as_str());
        return Err(usage(PlanError::unknown("", "pin", pin, known)).into());
    };
    if found.nodes.is_empty() {
        bail!("the pin \"{pin}\" was made before pins kept their nodes' names; pin its target again");
    }
    let node = |(label, node): (&String, &crate::store::roots::PinnedNode)| {
        let keys = node.keys.iter().filter_map(|key| key.parse().ok()).collect();
        (label.clone(), SideNode { stage: node.stage.clone(), keys, folder: None })
    };
    let nodes = found.nodes.iter().map(node).collect();
    Ok(Side { name: name.to_string(), store, nodes, planned: HashMap::new(), waiting: BTreeSet::new() })
}

fn exported(name: &str, path: &Path) -> Result<Side> {
    let contents = export::Contents::read(path)?;
    let node = |node: &export::Exported| {
        let keys = node.keys.iter().filter_map(|key| key.parse().ok()).collect();
        let folder = Some(path.join(node.folder.as_deref().unwrap_or("none")));
        (node.label.clone(), SideNode { stage: node.stage.clone(), keys, folder })
    };
    let nodes = contents.nodes.iter().map(node).collect();
    let store = Store::at(Layout::new(&std::path::absolute(path)?));
    Ok(Side { name: name.to_string(), store, nodes, planned: HashMap::new(), waiting: BTreeSet::new() })
}

/// The pipeline of a store, as its last run left it.
fn shown(name: &str, path: &Path, place: &Place) -> Result<Side> {
    let root = std::path::absolute(path)?;
    let roots = Store::at(Layout::new(&root)).roots()?;
    let pipeline = match roots.as_slice() {
        [(_, one)] => one.pipeline.clone(),
        [] => bail!("no pipeline was run on the store {name}"),
        several => {
            let files: Vec<String> = several.iter().map(|(_, root)| root.pipeline.display().to_string()).collect();
            let error = PlanError::new("", format!("{} pipelines use the store {name}", several.len()));
            return Err(usage(error.help(format!("name one of their files with --store: {}", files.join(", ")))).into());
        }
    };
    let other = Place { pipeline, store: Some(root), verbosity: place.verbosity };
    let workspace = other.open_to_estimate()?;
    let mut nodes = BTreeMap::new();
    for (_, node) in workspace.graph.nodes() {
        let keys = latest::read(&workspace.store, &node.label());
        if !keys.is_empty() {
            nodes.insert(node.label(), SideNode { stage: node.stage.name.to_string(), keys, folder: None });
        }
    }
    let store = Store::at(other.layout()?);
    Ok(Side { name: name.to_string(), store, nodes, planned: HashMap::new(), waiting: BTreeSet::new() })
}

fn print(a: &Side, b: &Side, found: &Comparison, verbose: bool) -> Result<()> {
    let some = |labels: &[String]| {
        const SHOWN: usize = 5;
        let shown = if verbose { labels.len() } else { labels.len().min(SHOWN) };
        let more = labels.len() - shown;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", labels[..shown].join(", "))
    };
    for (side, only) in [(a, &found.only_a), (b, &found.only_b)] {
        if !only.is_empty() {
            say!("{} nodes only in {}: {}", only.len(), side.name, some(only));
        }
        if !side.waiting.is_empty() {
            let waiting = side.waiting.len();
            say!("{waiting} nodes of {} are not known yet: they read what was not made", side.name);
        }
    }
    say!("{} of {} nodes in both have other keys", found.changed.len(), found.common);
    for changed in found.changed.iter().filter(|changed| !changed.own.is_empty()) {
        say!("{}{}", changed.label, parts(changed));
        for difference in &changed.own {
            say!("    {difference}");
        }
    }
    let through: Vec<String> = found
        .changed
        .iter()
        .filter(|changed| changed.own.is_empty() && changed.through)
        .map(|c| c.label.clone())
        .collect();
    if !through.is_empty() {
        say!("through what they read: {}", some(&through));
    }
    let same: Vec<String> = found.changed.iter().filter(|c| c.same_results).map(|c| c.label.clone()).collect();
    if !same.is_empty() {
        say!("with the same results all the same: {}", some(&same));
    }
    let compared: usize = found.changed.iter().filter_map(|changed| Some(changed.numbers.as_ref()?.compared)).sum();
    let moved: usize = found.changed.iter().filter_map(|changed| Some(changed.numbers.as_ref()?.moved.len())).sum();
    if compared > 0 {
        say!("{moved} of {compared} numbers with an interval lie outside of the other's");
    }
    for changed in &found.changed {
        let Some(numbers) = changed.numbers.as_ref().filter(|numbers| !numbers.moved.is_empty()) else { continue };
        say!("{}: {} of {}", changed.label, numbers.moved.len(), numbers.compared);
        const SHOWN: usize = 5;
        let shown = if verbose { usize::MAX } else { SHOWN };
        for moved in numbers.moved.iter().take(shown) {
            say!("    {}", describe(moved));
        }
        if numbers.moved.len() > shown {
            say!("    and {} more (-v prints all)", numbers.moved.len() - shown);
        }
    }
    Ok(())
}

fn parts(changed: &Changed) -> String {
    match changed.tasks {
        (_, 1) => String::new(),
        (fresh, all) => format!(": {fresh} of {all} parts"),
    }
}

fn describe(moved: &Moved) -> String {
    let row: Vec<String> = moved.row.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let interval = |of: &Interval| format!("{:.4} [{:.4}, {:.4}]", of.value, of.low, of.high);
    format!("{}: {} {} -> {}", row.join(", "), moved.column, interval(&moved.before), interval(&moved.now))
}

fn to_json(a: &Side, b: &Side, found: &Comparison) -> Value {
    let interval = |of: &Interval| json!({ "value": of.value, "low": of.low, "high": of.high });
    let moved = |moved: &Moved| {
        let row: serde_json::Map<String, Value> =
            moved.row.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({ "row": row, "column": moved.column, "a": interval(&moved.before), "b": interval(&moved.now) })
    };
    let changed = |changed: &Changed| {
        let own = changed.own.iter().map(|one| json!({ "at": one.at, "a": one.before, "b": one.now }));
        let numbers = changed.numbers.as_ref().map(|numbers| {
            json!({ "compared": numbers.compared, "moved": numbers.moved.iter().map(moved).collect::<Vec<_>>(),
                "rows_only_in_a": numbers.only_before, "rows_only_in_b": numbers.only_now })
        });
        json!({ "label": changed.label, "tasks_changed": changed.tasks.0, "tasks": changed.tasks.1,
            "differences": own.collect::<Vec<_>>(), "through_what_it_reads": changed.through,
            "same_results": changed.same_results, "numbers": numbers })
    };
    json!({ "a": a.name, "b": b.name, "only_in_a": found.only_a, "only_in_b": found.only_b, "in_both": found.common,
        "unknown_in_a": a.waiting, "unknown_in_b": b.waiting,
        "changed": found.changed.iter().map(changed).collect::<Vec<_>>() })
}
