//! The sections in the paper's order, each in its own file. A section that has no table is left out.

mod attribution;
mod block_means;
mod departures;
mod direction_strength;
mod gradients;
mod lead;
mod loss_vectors;
mod next_tokens;
mod over_pairs;
mod patching;
mod plane;
mod probability;
mod projection_boxes;
mod projections;
mod response_losses;
mod separation;
mod shared_dimensions;
mod similarity;
mod subspaces;

use anyhow::{Result, bail};

use super::page::Section;
use super::shelf::Shelf;
use crate::contract::stage::Task;
use crate::statistics::moments::quantile;

type Build = fn(&Shelf) -> Result<Section>;

const SECTIONS: &[Build] = &[
    probability::section,
    next_tokens::section,
    loss_vectors::section,
    gradients::section,
    projections::section,
    shared_dimensions::section,
    separation::section,
    patching::section,
    attribution::section,
];

pub fn all(shelf: &Shelf, task: &Task) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for (i, build) in SECTIONS.iter().enumerate() {
        if (task.cancelled)() {
            bail!("stopped");
        }
        let section = build(shelf)?;
        if !section.figures.is_empty() {
            sections.push(section);
        }
        (task.progress)(i as u64 + 1, SECTIONS.len() as u64);
    }
    name_apart(&mut sections);
    Ok(sections)
}

/// Two names can have one slug; their figures still need files of their own.
fn name_apart(sections: &mut [Section]) {
    let mut taken = std::collections::BTreeSet::new();
    for figure in sections.iter_mut().flat_map(|section| &mut section.figures) {
        let name = figure.name.clone();
        let mut copy = 2;
        while !taken.insert(figure.name.clone()) {
            figure.name = format!("{name}-{copy}");
            copy += 1;
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A position in the sequence, as part of a sentence.
fn position_phrase(position: &str) -> String {
    match position {
        "last" => "the last token".into(),
        "response_mean" => "the mean over the response".into(),
        "response_first_k" => "the mean over the response's first tokens".into(),
        "token" => "a chosen token".into(),
        other => other.to_string(),
    }
}

/// A kind of direction and its rank (from 1), as part of a sentence.
fn kind_phrase(kind: &str, component: u32) -> String {
    match kind {
        "mean_difference" => "mean difference".into(),
        "svd" if component == 1 => "first SVD direction".into(),
        "svd" => format!("SVD direction {component}"),
        other => format!("{other} {component}"),
    }
}

/// A token's text with its spaces and line breaks made visible.
fn token_label(text: &str) -> String {
    text.replace(' ', "␣").replace('\n', "⏎").replace('\t', "⇥")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// The least and the greatest of some counts: `40`, or `38 to 40`.
fn count_range(counts: impl IntoIterator<Item = u32>) -> String {
    let counts: Vec<u32> = counts.into_iter().collect();
    match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "–".into(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::figure::Figure;

    #[test]
    fn two_figures_of_one_name_get_two_files() {
        let figure = || Figure { name: "same".into(), ..Figure::default() };
        let mut sections = [Section { figures: vec![figure(), figure(), figure()], ..Section::default() }];
        name_apart(&mut sections);
        let names: Vec<&str> = sections[0].figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["same", "same-2", "same-3"]);
    }

    #[test]
    fn counts_and_lists_read_well() {
        assert_eq!(count_range([40, 40]), "40");
        assert_eq!(count_range([40, 38]), "38 to 40");
        assert_eq!(listed(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(median(vec![3.0, f64::NAN, 1.0, 2.0, 10.0]), 2.5);
    }
}
