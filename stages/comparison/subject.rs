//! What figures say of a comparison: what is compared, which groups share what, and where in the network.

use anyhow::Result;

use crate::contract::figures::tables::NodeTable;
use crate::contract::figures::words::{position_phrase, spread};
use crate::contract::figures::{Rows, Tables};

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

/// Groups that are compared with each other: all datasets under one model, or all models on one dataset.
pub struct Compared<'a> {
    pub subject: &'static Subject,
    /// `model` or `dataset`: what all groups share, and its name.
    shared: (&'static str, &'a str),
    pub nodes: Vec<&'a NodeTable>,
}

impl<'a> Compared<'a> {
    /// The comparisons of a stage, those under one model first.
    pub fn all(tables: &'a Tables, stage: &'static str, subject: &'static Subject) -> Vec<Compared<'a>> {
        let mut found: Vec<Compared> = Vec::new();
        for role in ["model", "dataset"] {
            for node in tables.nodes(stage).filter(|node| node.name("of") == subject.of) {
                let names = |role: &str| (node.name(&format!("{role}_a")), node.name(&format!("{role}_b")));
                let ((model, other), (name, other_name)) = (names("model"), names(role));
                if name != other_name || role == "dataset" && model == other {
                    continue;
                }
                match found.iter_mut().find(|known| known.shared == (role, name)) {
                    Some(known) => known.nodes.push(node),
                    None => found.push(Compared { subject, shared: (role, name), nodes: vec![node] }),
                }
            }
        }
        found
    }

    /// The roles that name the two groups of a node.
    pub fn roles(&self) -> [&'static str; 2] {
        if self.shared.0 == "model" { ["dataset_a", "dataset_b"] } else { ["model_a", "model_b"] }
    }

    /// The groups' names, in the order of the pipeline.
    pub fn groups(&self, tables: &'a Tables) -> Vec<&'a str> {
        let datasets = tables.datasets.iter().map(|dataset| dataset.name.as_str());
        let all: Vec<&str> = tables.models.iter().map(String::as_str).chain(datasets).collect();
        let named =
            |name: &&str| self.nodes.iter().any(|node| self.roles().iter().any(|role| node.name(role) == *name));
        all.into_iter().filter(named).collect()
    }

    /// The rows of some of its nodes.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn rows(&self, tables: &Tables, stage: &'static str, nodes: &[&'a NodeTable]) -> Result<Rows> {
        let rows = tables.rows_of(stage, nodes.iter().copied())?.keep("of", self.subject.of);
        let (role, name) = self.shared;
        Ok(rows.keep(&format!("{role}_a"), name).keep(&format!("{role}_b"), name))
    }

    /// `under instruct`, or `on insecure`.
    pub fn phrase(&self) -> String {
        let (role, name) = self.shared;
        format!("{} {name}", if role == "model" { "under" } else { "on" })
    }
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
