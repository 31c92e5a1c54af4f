//! `strata show`

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};
use strata_stages::PlanError;

use super::say::say;
use super::{Outcome, Place, Workspace, complete, parse_targets, usage};
use crate::graph::{Graph, NodeId};
use crate::key::Key;
use crate::latest;
use crate::progress::Verbosity;
use crate::provenance::lineage::{Lineage, Now, Read, Step};
use crate::store::Store;

/// Say where a result comes from: its tasks and all behind them, down to the files and their hashes
///
/// Of each task its parameters, its stage's version, how long it took, when, on what kind of machine and by which program, from the
/// records.
#[derive(Args)]
#[command(after_help = "Examples:
  strata show report                                   when and where the report was made, and from what
  strata show 'hidden_states[base,insecure]'
  strata show artifacts/tables/tokens/model=base/dataset=insecure/part-00000.parquet
  strata show 3f2a9c0d1e                               an object, by its hash or how that begins")]
pub struct Show {
    /// A stage or table, STAGE[NAME,NAME…], a file of the store, or an object's hash
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    what: String,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// The fewest digits by which an object may be named.
const SHORTEST: usize = 8;

impl Show {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open_to_estimate();
        if let Some(hash) = self.object(&Store::at(place.layout()?))? {
            return match &workspace {
                Ok(workspace) => {
                    let (graph, store) = (&workspace.graph, &workspace.store);
                    let lineage = Lineage::of_nodes(store, graph, &graph.all());
                    match lineage.makers_of(&hash) {
                        makers if makers.is_empty() => self.of_records(store, &hash),
                        makers => self.print(place, store, Some(graph), &lineage, makers),
                    }
                }
                Err(_) => self.of_records(&Store::at(place.layout()?), &hash),
            }
            .map(|()| Outcome::Done);
        }
        let Workspace { graph, store, .. } = &workspace?;
        let targets = std::slice::from_ref(&self.what);
        let wanted = graph.select(&parse_targets(targets)?).map_err(usage)?;
        let lineage = Lineage::of_nodes(store, graph, &wanted);
        let mut tasks = Vec::new();
        for target in parse_targets(targets)? {
            for id in graph.find(&target).map_err(usage)? {
                let keys = latest::read(store, &graph.node(id).label()).into_iter();
                tasks.extend(keys.filter(|key| lineage.record(*key).is_some()).map(|key| (Some(id), key)));
            }
        }
        if tasks.is_empty() {
            bail!("{} was not made yet, or its records are gone; `strata run {}` makes it", self.what, self.what);
        }
        self.print(place, store, Some(graph), &lineage, tasks)?;
        store.keep_fingerprints();
        Ok(Outcome::Done)
    }

    /// The hash of the object that is meant, where one is: by a path that leads to it, or by how its hash begins.
    fn object(&self, store: &Store) -> Result<Option<String>> {
        let is_hash = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = Path::new(&self.what);
        if path.is_file() {
            let path = std::fs::canonicalize(path)?;
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let own = std::fs::canonicalize(store.layout.objects()).ok();
            if stem.len() == 64 && is_hash(stem) && own.is_some_and(|own| path.starts_with(own)) {
                return Ok(Some(stem.to_string()));
            }
            let error = PlanError::new("", format!("{} is no file of the store", self.what));
            let help = format!("the store is {}; --store names another", store.layout.root().display());
            return Err(usage(error.help(help)).into());
        }
        if self.what.len() < SHORTEST || !is_hash(&self.what) {
            return Ok(None);
        }
        let wanted = self.what.to_lowercase();
        let name = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_string);
        let all: BTreeSet<String> = store.objects()?.iter().filter_map(|path| name(path)).collect();
        let found: Vec<&String> = all.range(wanted.clone()..).take_while(|hash| hash.starts_with(&wanted)).collect();
        match found.as_slice() {
            [one] => Ok(Some(one.to_string())),
            [] => {
                let error = PlanError::new("", format!("no object's hash begins with {wanted}"));
                Err(usage(error.help(format!("{} holds {} objects", store.layout.root().display(), all.len()))).into())
            }
            several => {
                let error = PlanError::new("", format!("{} objects' hashes begin with {wanted}", several.len()));
                Err(usage(error.help("write more of it")).into())
            }
        }
    }

    /// Of an object that no node of the pipeline shows: by what the store's records say.
    fn of_records(&self, store: &Store, hash: &str) -> Result<()> {
        let place = Place { pipeline: Default::default(), store: None, verbosity: Verbosity::Usual };
        let lineage = Lineage::of_keys(store, store.keys()?);
        let makers = lineage.makers_of(hash);
        if makers.is_empty() {
            bail!("no record of the store names the object {hash}");
        }
        self.print(&place, store, None, &lineage, makers)
    }

    fn print(
        &self,
        place: &Place,
        store: &Store,
        graph: Option<&Graph>,
        lineage: &Lineage,
        tasks: Vec<(Option<NodeId>, Key)>,
    ) -> Result<()> {
        let asked: BTreeSet<String> = tasks.iter().map(|(node, key)| name(graph, *node, *key, lineage)).collect();
        let steps = lineage.behind(tasks);
        let names: BTreeMap<String, String> =
            steps.iter().map(|step| (step.key.to_string(), name(graph, step.node, step.key, lineage))).collect();
        if self.json {
            let tasks: Vec<Value> = steps.iter().map(|step| task_json(step, store, &names)).collect();
            say!("{}", json!({ "what": self.what, "tasks": tasks }));
            return Ok(());
        }
        print_groups(&grouped(&steps, &names, &asked, place.verbosity == Verbosity::Verbose), &names)?;
        print_files(&steps)
    }
}

/// A node's label; of a task that no node shows its stage and how its key begins.
fn name(graph: Option<&Graph>, node: Option<NodeId>, key: Key, lineage: &Lineage) -> String {
    match (graph, node) {
        (Some(graph), Some(node)) => graph.node(node).label(),
        _ => {
            let stage = lineage.record(key).map_or("", |record| record.document.stage.as_str());
            format!("{stage} {}", &key.to_string()[..12])
        }
    }
}

/// Steps that are told of together: the tasks of a node, or where there are many nodes of a stage with the same parameters, of all.
fn grouped<'s, 'l>(
    steps: &'s [Step<'l>],
    names: &BTreeMap<String, String>,
    asked: &BTreeSet<String>,
    verbose: bool,
) -> Vec<(String, Vec<&'s Step<'l>>)> {
    const NODES: usize = 3;
    let mut of_node: Vec<(String, Vec<&Step>)> = Vec::new();
    let mut places: BTreeMap<&String, usize> = BTreeMap::new();
    for step in steps {
        let name = &names[&step.key.to_string()];
        let place = *places.entry(name).or_insert_with(|| {
            of_node.push((name.clone(), Vec::new()));
            of_node.len() - 1
        });
        of_node[place].1.push(step);
    }
    let alike = |steps: &[&Step]| {
        let document = &steps[0].record.document;
        format!("{} {} {}", document.stage, document.version, document.params)
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, steps) in &of_node {
        *counts.entry(alike(steps)).or_default() += 1;
    }
    let mut groups: Vec<(String, Vec<&Step>)> = Vec::new();
    let mut merged: BTreeMap<String, usize> = BTreeMap::new();
    for (name, steps) in of_node {
        let kind = alike(&steps);
        if verbose || asked.contains(&name) || counts[&kind] <= NODES {
            groups.push((name, steps));
            continue;
        }
        match merged.get(&kind) {
            Some(place) => groups[*place].1.extend(steps),
            None => {
                merged.insert(kind.clone(), groups.len());
                groups.push((
                    format!("{}, {} nodes (-v names them)", steps[0].record.document.stage, counts[&kind]),
                    steps,
                ));
            }
        }
    }
    groups
}

fn print_groups(groups: &[(String, Vec<&Step>)], names: &BTreeMap<String, String>) -> Result<()> {
    for (name, steps) in groups {
        let made = steps.iter().map(|step| &step.record.made);
        let seconds: f64 = made.clone().map(|made| made.seconds).sum();
        let at: BTreeSet<&str> = made.clone().map(|made| made.at.as_str()).collect();
        let at = match (at.first(), at.last()) {
            (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
            (first, _) => first.map_or_else(String::new, ToString::to_string),
        };
        let hosts: BTreeSet<&str> = made.clone().map(|made| made.host.as_str()).collect();
        let programs: BTreeSet<&str> = made.map(|made| made.program.as_str()).collect();
        let all = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join("; ");
        let tasks = if steps.len() == 1 { "1 task".to_string() } else { format!("{} tasks", steps.len()) };
        say!("{name}: {tasks} in {seconds:.2} s, {at}, on {}, by {}", all(hosts), all(programs));
        let document = &steps[0].record.document;
        say!("    version {}{}", document.version, params(&document.params));
        let mut read: Vec<String> = Vec::new();
        let mut known = BTreeSet::new();
        for read_by in steps.iter().flat_map(|step| &step.reads) {
            let from = match read_by {
                Read::Task { key, .. } => names.get(&key.to_string()).cloned().unwrap_or_default(),
                Read::File { path: Some(path), .. } => path.display().to_string(),
                Read::File { name, content, .. } => format!("{name} {}", &content[..12.min(content.len())]),
                Read::Setting { text, .. } => text.clone(),
                Read::Lost { role } => format!("{role} (its record is not there)"),
            };
            if known.insert(from.clone()) {
                read.push(from);
            }
        }
        if !read.is_empty() {
            const SHOWN: usize = 6;
            let more = if read.len() > SHOWN { format!(" and {} more", read.len() - SHOWN) } else { String::new() };
            say!("    from {}{more}", read[..read.len().min(SHOWN)].join(", "));
        }
    }
    Ok(())
}

/// `, positions = ["last"], layers = "all"`; a long value is cut.
fn params(params: &Value) -> String {
    const LONGEST: usize = 80;
    let Some(params) = params.as_object() else { return String::new() };
    let one = |(key, value): (&String, &Value)| {
        let text = value.to_string();
        let cut: String = text.chars().take(LONGEST).collect();
        format!(", {key} = {cut}{}", if cut.len() < text.len() { "…" } else { "" })
    };
    params.iter().map(one).collect()
}

fn print_files(steps: &[Step]) -> Result<()> {
    let mut files: BTreeMap<(String, &str), Now> = BTreeMap::new();
    for read in steps.iter().flat_map(|step| &step.reads) {
        if let Read::File { name, content, path, now, .. } = read {
            let shown = path.as_ref().map_or_else(|| name.clone(), |path| path.display().to_string());
            files.insert((shown, content), *now);
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    say!("files, with the blake3 of their bytes:");
    for ((name, content), now) in files {
        let since = match now {
            Now::Same | Now::Unknown => "",
            Now::Changed => "  (has changed since)",
            Now::Gone => "  (is not there any more)",
        };
        say!("    {content}  {name}{since}");
    }
    Ok(())
}

fn task_json(step: &Step, store: &Store, names: &BTreeMap<String, String>) -> Value {
    let document = &step.record.document;
    let mut inputs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for read in &step.reads {
        let (role, value) = match read {
            Read::Task { role, key } => {
                let key = key.to_string();
                (role, json!({ "task": key, "label": names.get(&key) }))
            }
            Read::File { role, name, content, path, now } => {
                let now = match now {
                    Now::Same => json!("same"),
                    Now::Changed => json!("changed"),
                    Now::Gone => json!("gone"),
                    Now::Unknown => Value::Null,
                };
                (role, json!({ "file": name, "blake3": content, "path": path, "now": now }))
            }
            Read::Setting { role, text } => (role, json!({ "setting": text })),
            Read::Lost { role } => (role, Value::Null),
        };
        inputs.entry(role).or_default().push(value);
    }
    let outputs = step.record.outputs.iter().map(|output| {
        json!({ "object": output.object.to_hex(), "path": store.layout.object(output), "name": output.file_name(),
            "rows": output.rows, "bytes": output.bytes })
    });
    json!({
        "key": step.key.to_string(),
        "label": names.get(&step.key.to_string()),
        "stage": document.stage,
        "version": document.version,
        "params": document.params,
        "made": step.record.made,
        "inputs": inputs,
        "outputs": outputs.collect::<Vec<_>>(),
    })
}
