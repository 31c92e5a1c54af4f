//! Where a direction leads, as figures name it: from one model to another, or within one model from one dataset
//! to another.

use crate::chart::figure::sql;

/// The direction of one dataset, or (`dataset` is `None`) of whichever dataset is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead<'a> {
    pub dataset: Option<&'a str>,
    pub source: &'a str,
    pub target: &'a str,
}

impl Lead<'_> {
    /// Within a model; the direction is then named for its two datasets.
    pub fn is_contrast(self) -> bool {
        self.source == self.target
    }

    /// `instruct − base`, or `toxic_answered − toxic_refused within instruct`.
    pub fn phrase(self) -> String {
        match self.dataset {
            Some(name) if self.is_contrast() => contrast_phrase(name, self.target),
            _ => format!("{} − {}", self.target, self.source),
        }
    }

    /// The phrase, and the dataset whose direction it is where that says more.
    pub fn phrase_found(self) -> String {
        match self.dataset {
            Some(name) if !self.is_contrast() => format!("{}, found on {name}", self.phrase()),
            _ => self.phrase(),
        }
    }

    /// What holds of projections on a direction because of how it was found; empty where nothing does.
    pub fn built_in(self) -> String {
        let Lead { source, target, .. } = self;
        match self.dataset {
            None => format!(
                " {target} lies beyond {source} by construction: the direction is their difference on these examples."
            ),
            Some(name) if self.is_contrast() => match name.split_once(MINUS) {
                Some((beyond, other)) => format!(" Under {target}, {beyond} lies beyond {other} by construction."),
                None => String::new(),
            },
            Some(_) => String::new(),
        }
    }

    /// As part of a file name.
    pub fn name(self) -> String {
        let Lead { dataset, source, target } = self;
        format!("{} {source} {target}", dataset.unwrap_or_default())
    }

    /// The SQL condition of the tables that have the columns direction, source and target.
    pub fn condition(self) -> String {
        let direction = self.dataset.map_or("dataset".to_string(), sql);
        format!("direction = {direction} AND source = {} AND target = {}", sql(self.source), sql(self.target))
    }

    /// Whether rows of this direction and dataset belong here.
    pub fn covers(self, direction: &str, dataset: &str) -> bool {
        direction == self.dataset.unwrap_or(dataset)
    }
}

/// The leads among some (direction, dataset) of one source and target, in order: each dataset on its own direction
/// together, and apart each direction that other datasets are projected on.
pub fn leads<'a>(pairs: &[(&'a str, &'a str)], source: &'a str, target: &'a str) -> Vec<Lead<'a>> {
    let mut found = Vec::new();
    if source != target && pairs.iter().any(|(direction, dataset)| direction == dataset) {
        found.push(Lead { dataset: None, source, target });
    }
    for (direction, _) in pairs.iter().filter(|(direction, dataset)| direction != dataset) {
        let lead = Lead { dataset: Some(direction), source, target };
        if !found.contains(&lead) {
            found.push(lead);
        }
    }
    found
}

/// `toxic_answered-minus-toxic_refused` within instruct, with a true minus sign.
pub fn contrast_phrase(name: &str, model: &str) -> String {
    format!("{} within {model}", name.replacen(MINUS, " − ", 1))
}

/// What stands between the two datasets in a contrast's name.
const MINUS: &str = "-minus-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrasts_are_named_for_their_datasets() {
        let contrast = Lead { dataset: Some("answered-minus-refused"), source: "instruct", target: "instruct" };
        assert_eq!(contrast.phrase_found(), "answered − refused within instruct");
        assert_eq!(contrast.built_in(), " Under instruct, answered lies beyond refused by construction.");
        let own = Lead { dataset: None, source: "base", target: "instruct" };
        assert_eq!(own.phrase_found(), "instruct − base");
        assert_eq!(own.condition(), "direction = dataset AND source = 'base' AND target = 'instruct'");
        let one = Lead { dataset: Some("code"), ..own };
        assert_eq!(one.phrase_found(), "instruct − base, found on code");
        assert!(own.covers("code", "code") && !own.covers("code", "toxic") && one.covers("code", "toxic"));
    }

    #[test]
    fn own_directions_come_together_and_first() {
        let pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "c")];
        let found: Vec<Option<&str>> = leads(&pairs, "base", "instruct").iter().map(|lead| lead.dataset).collect();
        assert_eq!(found, [None, Some("a")]);
        let within = leads(&[("a-minus-b", "a"), ("a-minus-b", "b")], "base", "base");
        assert_eq!(within, [Lead { dataset: Some("a-minus-b"), source: "base", target: "base" }]);
    }
}
