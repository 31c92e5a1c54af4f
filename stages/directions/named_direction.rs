//! A direction as figures name it: from one model to another, or within one model from one dataset to another.

use std::fmt::Display;

use crate::contract::figures::Rows;
use crate::contract::figures::words::position_phrase;

/// The first direction of a kind at a position. The tables of projections on it have the columns direction, source,
/// target, dataset, kind, component and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDirection {
    /// The dataset or contrast that it was found on; `None` is, for each dataset, the one found on that dataset.
    pub found_on: Option<String>,
    pub source: String,
    pub target: String,
    pub kind: String,
    pub position: String,
}

/// What stands between the two datasets in a contrast's name.
const MINUS: &str = "-minus-";

impl NamedDirection {
    /// The directions that rows are about: of each pair of models first the one with each dataset on its own.
    pub fn all(rows: &Rows) -> Vec<NamedDirection> {
        let mut found = Vec::new();
        for (models, rows) in rows.keep("component", 1).groups(&["source", "target"]) {
            let [source, target] = [0, 1].map(|i| models[i].clone());
            let kinds = rows.groups(&["kind", "position"]);
            let mut add = |found_on: Option<&str>| {
                for (names, _) in &kinds {
                    let [kind, position] = [0, 1].map(|i| names[i].clone());
                    let (source, target, found_on) = (source.clone(), target.clone(), found_on.map(String::from));
                    found.push(NamedDirection { found_on, source, target, kind, position });
                }
            };
            let pairs = rows.groups(&["direction", "dataset"]);
            if source != target && pairs.iter().any(|(pair, _)| pair[0] == pair[1]) {
                add(None);
            }
            let mut foreign: Vec<&str> =
                pairs.iter().filter(|(pair, _)| pair[0] != pair[1]).map(|(pair, _)| pair[0].as_str()).collect();
            foreign.dedup();
            foreign.into_iter().for_each(|direction| add(Some(direction)));
        }
        found
    }

    /// The rows about this direction.
    pub fn rows(&self, rows: &Rows) -> Rows {
        let here = match &self.found_on {
            None => rows.keep_if("direction = dataset", |row| row.text("direction") == row.text("dataset")),
            Some(name) => rows.keep("direction", name),
        };
        let here = here.keep("source", &self.source).keep("target", &self.target).keep("kind", &self.kind);
        here.keep("component", 1).keep("position", &self.position)
    }

    /// `instruct − base`, or `toxic_answered − toxic_refused within instruct`.
    pub fn phrase(&self) -> String {
        match &self.found_on {
            Some(name) if self.source == self.target => contrast_phrase(name, &self.target),
            Some(name) => format!("{} − {}, found on {name}", self.target, self.source),
            None => format!("{} − {}", self.target, self.source),
        }
    }

    /// `; one panel for each dataset, …`
    pub fn panels_phrase(&self) -> &'static str {
        match self.found_on {
            None => "one panel for each dataset, on the direction found on that dataset",
            Some(_) => "one panel for each dataset",
        }
    }

    pub fn kind_phrase(&self) -> String {
        kind_phrase(&self.kind, 1)
    }

    /// `mean difference at the last token`: in what two figures of one direction differ.
    pub fn way(&self) -> String {
        format!("{} at {}", self.kind_phrase(), self.position_phrase())
    }

    pub fn position_phrase(&self) -> String {
        position_phrase(&self.position)
    }

    /// What holds of projections on a direction because it was found from the same examples.
    pub fn built_in(&self) -> String {
        let NamedDirection { source, target, .. } = self;
        match &self.found_on {
            None => format!(
                " {target} lies beyond {source} by construction: the direction is their difference on these examples."
            ),
            Some(name) if source == target => match name.split_once(MINUS) {
                Some((beyond, other)) => format!(" Under {target}, {beyond} lies beyond {other} by construction."),
                None => String::new(),
            },
            Some(_) => String::new(),
        }
    }
}

/// A kind of direction and its rank (from 1), as part of a sentence.
pub fn kind_phrase(kind: &str, component: impl Display) -> String {
    match (kind, component.to_string().as_str()) {
        ("mean_difference", _) => "mean difference".into(),
        ("svd", "1") => "first SVD direction".into(),
        ("svd", component) => format!("SVD direction {component}"),
        (other, component) => format!("{other} {component}"),
    }
}

/// `toxic_answered − toxic_refused within instruct` of a contrast's name, with a true minus sign.
pub fn contrast_phrase(name: &str, model: &str) -> String {
    format!("{} within {model}", name.replacen(MINUS, " − ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrasts_are_named_for_their_datasets() {
        let direction = |found_on: Option<&str>, source: &str| NamedDirection {
            found_on: found_on.map(String::from),
            source: source.into(),
            target: "instruct".into(),
            kind: "svd".into(),
            position: "last".into(),
        };
        let contrast = direction(Some("answered-minus-refused"), "instruct");
        assert_eq!(contrast.phrase(), "answered − refused within instruct");
        assert_eq!(contrast.built_in(), " Under instruct, answered lies beyond refused by construction.");
        assert_eq!(direction(None, "base").phrase(), "instruct − base");
        assert_eq!(direction(Some("code"), "base").phrase(), "instruct − base, found on code");
    }
}
