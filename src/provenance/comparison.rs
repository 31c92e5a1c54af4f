//! Two pipelines or runs, node by node: which tasks have other keys, and through what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use strata_stages::{Part, Stage, table};

use super::numbers::{self, Numbers};
use crate::key::{Key, KeyDocument};
use crate::staleness::{Difference, Earlier, What, differences};
use crate::store::{OutputRecord, Record, Store, views};

/// One of the two.
pub struct Side {
    /// As the user named it.
    pub name: String,
    pub store: Store,
    /// The keys of each node's tasks, by its label.
    pub nodes: BTreeMap<String, SideNode>,
    /// Documents of tasks that have no record.
    pub planned: HashMap<Key, KeyDocument>,
    /// Nodes whose tasks are not known, since what they read was not made yet.
    pub waiting: BTreeSet<String>,
}

#[derive(Default)]
pub struct SideNode {
    pub stage: String,
    pub keys: Vec<Key>,
    /// Where its outputs lie, if not among the store's objects.
    pub folder: Option<PathBuf>,
}

/// A node that both have, with other keys.
pub struct Changed {
    pub label: String,
    /// How many of its tasks the second alone has, of how many.
    pub tasks: (usize, usize),
    /// What one of them and the one of the first that is most like it differ in, of its own: parameters, versions, files.
    pub own: Vec<Difference>,
    /// Whether what it reads of other tasks differs too.
    pub through: bool,
    /// None where it has no table with intervals, or one side has not its files.
    pub numbers: Option<Numbers>,
    /// Whether its results are the same although its keys are not.
    pub same_results: bool,
}

#[derive(Default)]
pub struct Comparison {
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    /// How many nodes both have.
    pub common: usize,
    pub changed: Vec<Changed>,
}

impl Side {
    fn records(&self, keys: impl Iterator<Item = Key>) -> HashMap<Key, Record> {
        keys.filter_map(|key| Some((key, self.store.record(key)?))).collect()
    }

    fn document<'a>(&'a self, records: &'a HashMap<Key, Record>, key: Key) -> Option<&'a KeyDocument> {
        records.get(&key).map(|record| &record.document).or_else(|| self.planned.get(&key))
    }
}

/// # Errors
/// When a table that both have cannot be read.
pub fn compare(a: &Side, b: &Side, stages: &[&'static Stage]) -> Result<Comparison> {
    let only = |these: &Side, others: &Side| -> Vec<String> {
        let all = these.nodes.keys().chain(&these.waiting);
        all.filter(|label| !others.nodes.contains_key(*label) && !others.waiting.contains(*label)).cloned().collect()
    };
    let mut comparison = Comparison { only_a: only(a, b), only_b: only(b, a), ..Comparison::default() };
    let both: Vec<(&String, &SideNode, &SideNode)> =
        a.nodes.iter().filter_map(|(label, node)| Some((label, node, b.nodes.get(label)?))).collect();
    comparison.common = both.len();
    let changed: Vec<_> = both.into_iter().filter(|(_, a, b)| a.keys != b.keys).collect();
    let records_a = a.records(changed.iter().flat_map(|(_, node, _)| node.keys.iter().copied()));
    let records_b = b.records(changed.iter().flat_map(|(_, _, node)| node.keys.iter().copied()));
    // Files that tasks made are not of the user's.
    let made: HashSet<String> = [&records_a, &records_b]
        .into_iter()
        .flat_map(HashMap::values)
        .flat_map(|record| &record.outputs)
        .map(|output| output.object.to_hex())
        .collect();
    for (label, old, new) in changed {
        let stage = stages.iter().copied().find(|stage| stage.name == new.stage);
        let known: HashSet<Key> = old.keys.iter().copied().collect();
        let fresh: Vec<(usize, Key)> =
            new.keys.iter().copied().enumerate().filter(|(_, key)| !known.contains(key)).collect();
        let documents = old.keys.iter().filter_map(|key| a.document(&records_a, *key).cloned()).collect();
        let (mut own, mut through) = (Vec::new(), false);
        if let Some((index, now)) = fresh.iter().find_map(|(index, key)| Some((*index, b.document(&records_b, *key)?)))
        {
            let split = split_of(now);
            let earlier = Earlier::new(documents, split);
            let nearest = earlier.like(now, split, index).map(|before| differences(before, now)).min_by_key(Vec::len);
            let is_own = |difference: &Difference| match &difference.what {
                What::Parameter => true,
                What::File { now, before } => !made.contains(now) && !made.contains(before),
                What::Column { .. } | What::Parts => false,
            };
            let (of_own, of_others): (Vec<_>, Vec<_>) = nearest.unwrap_or_default().into_iter().partition(is_own);
            (own, through) = (of_own, !of_others.is_empty());
        }
        let (results_a, results_b) = (outputs(&records_a, &old.keys), outputs(&records_b, &new.keys));
        let same_results = match (&results_a, &results_b) {
            (Some(a), Some(b)) => a.iter().map(|a| a.object).eq(b.iter().map(|b| b.object)),
            _ => false,
        };
        let numbers = match (stage.and_then(Stage::table), results_a, results_b) {
            (Some(of), Some(x), Some(y))
                if !same_results && !x.is_empty() && !y.is_empty() && !numbers::estimates(&of).is_empty() =>
            {
                match (parts(a, old, &x), parts(b, new, &y)) {
                    (Some(x), Some(y)) => Some(numbers::compare(&of, &table::read(&x, &[])?, &table::read(&y, &[])?)?),
                    _ => None,
                }
            }
            _ => None,
        };
        let (label, tasks) = (label.clone(), (fresh.len(), new.keys.len()));
        comparison.changed.push(Changed { label, tasks, own, through, numbers, same_results });
    }
    Ok(comparison)
}

/// The role that has one part in this task: by it tasks of a node are told apart. Which one split the node is not in a document.
fn split_of(document: &KeyDocument) -> Option<&str> {
    let table =
        |parts: &Vec<crate::key::InputContent>| matches!(parts.as_slice(), [crate::key::InputContent::Columns { .. }]);
    document.inputs.iter().find(|(_, parts)| table(parts)).map(|(role, _)| role.as_str())
}

/// The parts of a node's tasks; none where a record is missing.
fn outputs<'a>(records: &'a HashMap<Key, Record>, keys: &[Key]) -> Option<Vec<&'a OutputRecord>> {
    let all: Option<Vec<&Record>> = keys.iter().map(|key| records.get(key)).collect();
    Some(all?.into_iter().flat_map(|record| &record.outputs).collect())
}

/// The files of a node's outputs; none where one is not there, as in an export of another target.
fn parts(side: &Side, node: &SideNode, outputs: &[&OutputRecord]) -> Option<Vec<Part>> {
    let paths: Vec<PathBuf> = match &node.folder {
        Some(folder) => {
            let outputs: Vec<OutputRecord> = outputs.iter().map(|output| (*output).clone()).collect();
            views::names(&outputs).map(|name| folder.join(name)).collect()
        }
        None => outputs.iter().map(|output| side.store.layout.object(output)).collect(),
    };
    paths.into_iter().map(|path| path.is_file().then(|| Part { path, name: String::new() })).collect()
}
