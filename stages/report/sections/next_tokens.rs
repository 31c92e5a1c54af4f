//! Next-token distribution (Fig. 2): the likeliest continuations at one place, model by model.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::{Entry, Shelf};
use super::token_label;
use crate::chart::bars::Bars;
use crate::chart::figure::{Figure, series_class, slug, sql};
use crate::chart::scale::number;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "next-tokens",
        title: "Next-token distribution",
        source: "Fig. 2",
        intro: "What each model would say next at one place of a conversation.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("next_tokens", &["dataset"]) {
        let folded = !section.figures.is_empty();
        section.figures.extend(figures(shelf, names[0], &entries, folded)?);
    }
    Ok(section)
}

/// A probed place: example, the place's name and its token index.
type Place = (String, String, u32);

/// The likeliest tokens of one model at one place, by rank, and the whole distribution's entropy.
struct Distribution<'a> {
    model: &'a str,
    tokens: Vec<(u32, String, f64)>,
    entropy: f64,
}

fn figures(shelf: &Shelf, dataset: &str, entries: &[&Entry], folded: bool) -> Result<Vec<Figure>> {
    let mut order: Vec<Place> = Vec::new();
    let mut distributions: BTreeMap<Place, Vec<Distribution>> = BTreeMap::new();
    for entry in entries {
        let rows = entry.first_rows()?;
        let (examples, names, texts) = (rows.text("example")?, rows.text("place")?, rows.text("text")?);
        let (indices, ranks) = (rows.counts("token")?, rows.counts("rank")?);
        let (probabilities, entropies) = (rows.numbers("probability")?, rows.numbers("entropy")?);
        let mut found: BTreeMap<Place, Distribution> = BTreeMap::new();
        for i in 0..rows.len() {
            let place = (examples[i].to_string(), names[i].to_string(), indices[i]);
            if !order.contains(&place) {
                // Of each kind of place the first examples.
                if order.iter().filter(|(_, name, _)| *name == place.1).count() == shelf.conversations {
                    continue;
                }
                order.push(place.clone());
            }
            let empty = Distribution { model: entry.name("model"), tokens: Vec::new(), entropy: entropies[i] };
            let distribution = found.entry(place).or_insert(empty);
            distribution.tokens.push((ranks[i], token_label(texts[i]), probabilities[i]));
        }
        for (place, mut distribution) in found {
            distribution.tokens.sort_by_key(|(rank, ..)| *rank);
            distributions.entry(place).or_default().push(distribution);
        }
    }
    let mut figures = Vec::new();
    for place in &order {
        let Some(distributions) = distributions.get_mut(place) else { continue };
        distributions.sort_by_key(|distribution| shelf.model_index(distribution.model));
        figures.push(figure(shelf, dataset, place, distributions, folded || !figures.is_empty()));
    }
    Ok(figures)
}

fn figure(shelf: &Shelf, dataset: &str, place: &Place, distributions: &[Distribution], folded: bool) -> Figure {
    let (example, name, index) = place;
    let at = match name.split_once(':') {
        None if name == "response" => "as the first word of its answer".to_string(),
        Some(("token", _)) => format!("at token {index}"),
        Some(("before", word)) => format!("where “{word}” stands"),
        _ => format!("at {name}"),
    };
    let panels = distributions.iter().map(|distribution| {
        let bars = Bars {
            title: format!("{}, entropy {} nats", distribution.model, number(distribution.entropy)),
            x_label: "probability".into(),
            rows: distribution.tokens.iter().map(|(_, text, probability)| (text.clone(), *probability)).collect(),
            class: series_class(shelf.model_index(distribution.model)),
            domain: Some((0.0, 1.0)),
            mono: true,
        };
        bars.panel()
    });
    let k = distributions.iter().map(|distribution| distribution.tokens.len()).max().unwrap_or(0);
    Figure {
        name: slug(&format!("next tokens {dataset} {name} {example}")),
        question: format!("What would each model say {at}, in a conversation of {dataset}?"),
        what: format!(
            "The {k} likeliest tokens at token {index} of example {example}, and the distribution's entropy."
        ),
        n: "1 place in 1 conversation; the distributions are exact.".into(),
        interval: "None: one place, whose probabilities are exact.".into(),
        null: "No difference between the models: the same bars.".into(),
        query: format!(
            "SELECT model, rank, text, probability, entropy FROM next_tokens WHERE dataset = {} AND example = {} AND place = {} \
             ORDER BY model, rank",
            sql(dataset),
            sql(example),
            sql(name)
        ),
        table: "next_tokens",
        panels: panels.collect(),
        folded,
        ..Figure::default()
    }
}
