//! What figures say of a comparison: what is compared, which groups share what, and where in the network.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::contract::figures::tables::NodeTable;
use crate::contract::figures::words::{position_phrase, spread};
use crate::contract::figures::{Row, Rows, Tables};

/// What is compared.
pub struct Subject {
    /// As in the folder `of`.
    pub of: &'static str,
    /// In the middle of a sentence.
    pub name: &'static str,
}

pub static LOSS: Subject = Subject { of: "loss", name: "loss vectors" };
pub static GRADIENT: Subject = Subject { of: "gradient", name: "gradients" };
pub static HIDDEN_STATE: Subject = Subject { of: "hidden_state", name: "hidden states" };

/// The nodes of one stage that hold one comparison: under each model, or on each dataset.
pub struct Compared<'a> {
    pub subject: &'static Subject,
    pub comparison: &'a str,
    /// For each model or dataset that the groups share, its nodes.
    pub shared: Vec<(&'a str, Vec<&'a NodeTable>)>,
}

impl<'a> Compared<'a> {
    /// The comparisons of a stage, in the order of the pipeline.
    pub fn all(tables: &'a Tables, stage: &'static str, subject: &'static Subject) -> Vec<Compared<'a>> {
        let mut found: Vec<Compared> = Vec::new();
        for node in tables.nodes(stage).filter(|node| node.name("of") == subject.of) {
            let (comparison, shared) = (node.name("comparison"), node.name("shared"));
            let at = found.iter().position(|known| known.comparison == comparison).unwrap_or_else(|| {
                found.push(Compared { subject, comparison, shared: Vec::new() });
                found.len() - 1
            });
            match found[at].shared.iter_mut().find(|(known, _)| *known == shared) {
                Some((_, nodes)) => nodes.push(node),
                None => found[at].shared.push((shared, vec![node])),
            }
        }
        found.iter_mut().for_each(|compared| compared.shared.sort_by_key(|(shared, _)| tables.rank(shared)));
        found
    }

    /// All rows of the comparison.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn rows(&self, tables: &Tables, stage: &'static str) -> Result<Rows> {
        let nodes = self.shared.iter().flat_map(|(_, nodes)| nodes.iter().copied());
        self.picked(tables.rows_of(stage, nodes)?)
    }

    /// The rows of some of its nodes.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn rows_of(&self, tables: &Tables, stage: &'static str, nodes: &[&'a NodeTable]) -> Result<Rows> {
        self.picked(tables.rows_of(stage, nodes.iter().copied())?)
    }

    fn picked(&self, rows: Rows) -> Result<Rows> {
        Ok(rows.keep("of", self.subject.of).keep("comparison", self.comparison))
    }

    /// `under each model`, or `in code`, the comparison's name.
    pub fn phrase(&self, labels: &Labels) -> String {
        match (labels, self.shared.as_slice()) {
            (Labels::Datasets, [(model, _)]) => format!("under {model}"),
            (Labels::Datasets, _) => "under each model".into(),
            (Labels::Models, [(dataset, _)]) => format!("on {dataset}"),
            (Labels::Models, _) => "on each dataset".into(),
            (Labels::Both, _) => "across models and datasets".into(),
        }
    }

    /// A pair of groups as a sentence names it, with what its groups share where comparisons differ in it.
    pub fn pair(&self, labels: Labels, row: Row) -> String {
        let pair = labels.pair(row);
        if self.shared.len() > 1 { labels.with_shared(pair, row.text("shared")) } else { pair }
    }
}

/// What tells the groups of a comparison apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    Datasets,
    Models,
    Both,
}

impl Labels {
    /// Of pairs of groups, each a model and a dataset.
    fn of_pairs<'b>(pairs: impl Iterator<Item = [(&'b str, &'b str); 2]> + Clone) -> Labels {
        match (pairs.clone().all(|[a, b]| a.0 == b.0), pairs.clone().all(|[a, b]| a.1 == b.1)) {
            (true, _) => Labels::Datasets,
            (false, true) => Labels::Models,
            (false, false) => Labels::Both,
        }
    }

    /// Of rows with `model_a`, `dataset_a`, `model_b` and `dataset_b`.
    pub fn of(rows: &Rows) -> Labels {
        let pair = |row: Row| [("a", row), ("b", row)].map(|(end, row)| group_of(row, end));
        let pairs: Vec<[(String, String); 2]> = rows.iter().map(pair).collect();
        Labels::of_pairs(pairs.iter().map(|pair| [0, 1].map(|i| (pair[i].0.as_str(), pair[i].1.as_str()))))
    }

    /// Of rows with `shared`, and one group each: `model` and `dataset`.
    pub fn of_rows(rows: &Rows) -> Labels {
        let mut known: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        let pairs: Vec<[(&str, &str); 2]> = rows
            .iter()
            .map(|row| {
                let group = (row.text("model"), row.text("dataset"));
                [*known.entry(row.text("shared")).or_insert(group), group]
            })
            .collect();
        Labels::of_pairs(pairs.iter().copied())
    }

    /// Of nodes with these bindings.
    pub fn of_nodes(nodes: &[&NodeTable]) -> Labels {
        Labels::of_pairs(nodes.iter().map(|node| {
            [(node.name("model_a"), node.name("dataset_a")), (node.name("model_b"), node.name("dataset_b"))]
        }))
    }

    pub fn label(self, model: &str, dataset: &str) -> String {
        match self {
            Labels::Datasets => dataset.to_string(),
            Labels::Models => model.to_string(),
            Labels::Both => format!("{model} on {dataset}"),
        }
    }

    /// A pair with what its groups share: `a · b under base`, or `a · b on code`.
    fn with_shared(self, pair: String, shared: &str) -> String {
        match self {
            Labels::Datasets => format!("{pair} under {shared}"),
            Labels::Models => format!("{pair} on {shared}"),
            Labels::Both => pair,
        }
    }

    /// `a · b`, or `within a` of a group with itself.
    pub fn pair(self, row: Row) -> String {
        let [a, b] = ["a", "b"].map(|end| {
            let (model, dataset) = group_of(row, end);
            self.label(&model, &dataset)
        });
        if a == b { format!("within {a}") } else { format!("{a} · {b}") }
    }
}

fn group_of(row: Row, end: &str) -> (String, String) {
    (row.text(&format!("model_{end}")).to_string(), row.text(&format!("dataset_{end}")).to_string())
}

/// Whether a row is of a group with itself.
pub fn is_within(row: Row) -> bool {
    group_of(row, "a") == group_of(row, "b")
}

/// The rows at each place in the network that something was compared at, in order, with the place's phrase: a module, a
/// layer and position, or nothing for loss vectors.
pub fn places(rows: &Rows) -> Vec<(String, Rows)> {
    let place = |(names, here): (Vec<String>, Rows)| match [&names[0], &names[3]] {
        [position, module] if position.is_empty() && module.is_empty() => (String::new(), rows.clone()),
        [_, module] if !module.is_empty() => (format!(", at {module}"), rows.keep("module", module)),
        [position, _] => {
            let site = here.sites().first().map_or(String::new(), |site| site.phrase());
            let rows = rows.keep("position", position).keep("layer", &names[1]).keep("site", &names[2]);
            (format!(", at {site}, {}", position_phrase(position)), rows)
        }
    };
    rows.groups(&["position", "layer", "site", "module"]).into_iter().map(place).collect()
}

/// So many of the places, the deepest first: it is the one to look at.
pub fn deepest(rows: &Rows, count: usize) -> Vec<(String, Rows)> {
    let mut shown = spread(&places(rows), count);
    shown.reverse();
    shown
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn a_pair_is_named_with_what_its_groups_share() {
        let named =
            [Labels::Datasets, Labels::Models, Labels::Both].map(|labels| labels.with_shared("a · b".into(), "x"));
        assert_eq!(named, ["a · b under x", "a · b on x", "a · b"]);
    }
}
