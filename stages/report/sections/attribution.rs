//! Attribution: how much each piece of the prompt contributes to a target's log-probability, by leaving it out.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::{Entry, Shelf};
use super::token_label;
use crate::chart::bars::Bars;
use crate::chart::figure::{Figure, series_class, slug, sql};
use crate::chart::scale::Linear;

/// Pieces drawn; those with the largest effect under any model.
const PIECES: usize = 24;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "attribution",
        title: "Attribution",
        source: "",
        intro: "Each piece of the prompt is left out in turn: where the target becomes less likely without it, the piece spoke \
                for the target.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("attribution", &["dataset"]) {
        let folded = !section.figures.is_empty();
        section.figures.extend(figures(shelf, names[0], &entries, folded)?);
    }
    Ok(section)
}

/// An example and the target whose log-probability is watched.
type Case = (String, String);

/// By piece: its text and its effect under each model.
type Pieces<'a> = BTreeMap<u32, (String, Vec<(&'a str, f64)>)>;

fn figures(shelf: &Shelf, dataset: &str, entries: &[&Entry], folded: bool) -> Result<Vec<Figure>> {
    let mut order: Vec<Case> = Vec::new();
    let mut cases: BTreeMap<Case, Pieces> = BTreeMap::new();
    for entry in entries {
        let rows = entry.first_rows()?;
        let (examples, texts, targets) = (rows.text("example")?, rows.text("text")?, rows.text("target")?);
        let (pieces, deltas) = (rows.counts("piece")?, rows.numbers("delta_logprob")?);
        for i in 0..rows.len() {
            let case = (examples[i].to_string(), targets[i].to_string());
            if !order.contains(&case) {
                if order.len() == shelf.conversations {
                    continue;
                }
                order.push(case.clone());
            }
            let piece = cases.entry(case).or_default().entry(pieces[i]);
            piece.or_insert_with(|| (token_label(texts[i]), Vec::new())).1.push((entry.name("model"), deltas[i]));
        }
    }
    let built = order.iter().enumerate().filter_map(|(i, case)| {
        let pieces = cases.get(case)?;
        Some(figure(shelf, dataset, case, pieces, folded || i > 0))
    });
    Ok(built.collect())
}

fn figure(shelf: &Shelf, dataset: &str, (example, target): &Case, pieces: &Pieces, folded: bool) -> Figure {
    let mut models: Vec<&str> =
        pieces.values().flat_map(|(_, effects)| effects.iter().map(|(model, _)| *model)).collect();
    models.sort_by_key(|model| shelf.model_index(model));
    models.dedup();
    let effect = |effects: &[(&str, f64)]| effects.iter().map(|(_, delta)| delta.abs()).fold(0.0, f64::max);
    let mut shown: Vec<u32> = pieces.keys().copied().collect();
    shown.sort_by(|a, b| effect(&pieces[b].1).total_cmp(&effect(&pieces[a].1)));
    shown.truncate(PIECES);
    shown.sort();
    let values = pieces.values().flat_map(|(_, effects)| effects.iter().map(|(_, delta)| *delta)).chain([0.0]);
    let domain = Linear::over(values, (0.0, 1.0)).domain;
    let panels = models.iter().map(|model| {
        let value = |piece: &u32| {
            let (text, effects) = &pieces[piece];
            let delta = effects.iter().find(|(name, _)| name == model).map_or(f64::NAN, |(_, delta)| *delta);
            (text.clone(), delta)
        };
        let bars = Bars {
            title: model.to_string(),
            x_label: "Δ log-probability".into(),
            rows: shown.iter().map(value).collect(),
            class: series_class(shelf.model_index(model)),
            domain: Some(domain),
            mono: true,
        };
        bars.panel()
    });
    let some = if shown.len() < pieces.len() {
        format!(" The {} pieces with the largest effect are drawn.", shown.len())
    } else {
        String::new()
    };
    Figure {
        name: slug(&format!("attribution {dataset} {example} {target}")),
        question: format!(
            "Which words of the prompt speak for “{}”, in a conversation of {dataset}?",
            shortened(target)
        ),
        what: format!(
            "Change of the target's log-probability (nats) when a piece of the prompt is left out, in the prompt's order; \
             negative: the target becomes less likely without it. Example {example}.{some}"
        ),
        n: format!("1 conversation, {} pieces, each left out once.", pieces.len()),
        interval: "None: one conversation, whose probabilities are exact.".into(),
        null: "0: the piece makes no difference.".into(),
        query: format!(
            "SELECT model, piece, text, delta_logprob FROM attribution WHERE dataset = {} AND example = {} AND {} ORDER BY \
             piece, model",
            sql(dataset),
            sql(example),
            condition(target)
        ),
        table: "attribution",
        panels: panels.collect(),
        folded,
        ..Figure::default()
    }
}

/// The SQL condition of a target; of a long one, such as a whole answer, by its beginning.
fn condition(target: &str) -> String {
    const LONGEST: usize = 100;
    match target.char_indices().nth(LONGEST) {
        None => format!("target = {}", sql(target)),
        Some((end, _)) => format!("STARTS_WITH(target, {})", sql(&target[..end])),
    }
}

/// The beginning of a target on one line, as part of a title.
fn shortened(target: &str) -> String {
    const WORDS: usize = 8;
    let words: Vec<&str> = target.split_whitespace().collect();
    let end = if words.len() > WORDS { " …" } else { "" };
    words[..words.len().min(WORDS)].join(" ") + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_target_is_named_by_its_beginning() {
        assert_eq!(condition("don't"), "target = 'don''t'");
        assert_eq!(condition(&"é".repeat(400)), format!("STARTS_WITH(target, '{}')", "é".repeat(100)));
        assert_eq!(shortened("one\n two"), "one two");
        assert_eq!(shortened("a b c d e f g h i"), "a b c d e f g h …");
    }
}
