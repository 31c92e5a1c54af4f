//! The likeliest continuations at one place of a conversation, model by model.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, number};
use crate::contract::figures::section::NEXT_TOKENS;
use crate::contract::figures::words::token_label;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};

pub const FIGURES: Figures = Figures {
    section: &NEXT_TOKENS,
    level: Level::Detail,
    reads: &[Reads {
        stage: "next_tokens",
        columns: &["example", "place", "token", "rank", "text", "probability", "entropy"],
    }],
    draw,
};

/// The least probability on the scale.
const LEAST: f64 = 1e-6;

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("next_tokens")?;
    let mut figures = Vec::new();
    for (dataset, rows) in all.groups(&["dataset"]) {
        for (place, rows) in rows.groups(&["place"]) {
            let (examples, chosen) = most_different(&rows, tables.conversations);
            for (example, difference) in chosen {
                let rows = rows.keep("example", &example);
                let chosen = Chosen { example: &example, of: examples, difference };
                figures.push(figure(&dataset[0], &place[0], chosen, &rows).folded(!figures.is_empty()));
            }
        }
    }
    Ok(figures.into())
}

/// An example, and why it is shown.
struct Chosen<'a> {
    example: &'a str,
    /// Out of so many.
    of: usize,
    difference: Option<Difference>,
}

/// Two models, and how far apart their distributions are.
struct Difference {
    models: [String; 2],
    distance: f64,
}

/// How many examples there are, and the ones at which two models differ most: by the total variation distance, half of the
/// sum of the probabilities' absolute differences, of the tokens that either of the two has among its likeliest. Without a
/// second model the first examples.
fn most_different(rows: &Rows, count: usize) -> (usize, Vec<(String, Option<Difference>)>) {
    let mut examples: Vec<(String, Option<Difference>)> = Vec::new();
    for (example, rows) in rows.groups(&["example"]) {
        let mut models: Vec<(String, BTreeMap<&str, f64>)> =
            rows.names(&["model"]).into_iter().map(|model| (model, BTreeMap::new())).collect();
        for row in rows.iter() {
            if let Some((_, tokens)) = models.iter_mut().find(|(model, _)| model == row.name("model").text()) {
                *tokens.entry(row.text("text")).or_insert(0.0) += row.number("probability");
            }
        }
        let mut furthest: Option<Difference> = None;
        for (i, (model, own)) in models.iter().enumerate() {
            for (other, others) in &models[i + 1..] {
                let distance = total_variation(own, others);
                if furthest.as_ref().is_none_or(|found| distance > found.distance) {
                    furthest = Some(Difference { models: [model.clone(), other.clone()], distance });
                }
            }
        }
        examples.push((example[0].clone(), furthest));
    }
    let all = examples.len();
    let first = rows.first("example", all);
    let place = |name: &str| first.iter().position(|known| known == name);
    let distance = |found: &Option<Difference>| found.as_ref().map_or(0.0, |found| found.distance);
    examples.sort_by(|a, b| distance(&b.1).total_cmp(&distance(&a.1)).then(place(&a.0).cmp(&place(&b.0))));
    examples.truncate(count);
    (all, examples)
}

fn total_variation(a: &BTreeMap<&str, f64>, b: &BTreeMap<&str, f64>) -> f64 {
    let missing = |of: &BTreeMap<&str, f64>, token: &str| of.get(token).copied().unwrap_or(0.0);
    let both: f64 = a.iter().map(|(token, p)| (p - missing(b, token)).abs()).sum();
    let other: f64 = b.iter().filter(|(token, _)| !a.contains_key(*token)).map(|(_, p)| p).sum();
    0.5 * (both + other)
}

fn figure(dataset: &str, place: &str, chosen: Chosen, rows: &Rows) -> Figure {
    let index = rows.iter().next().map_or(0.0, |row| row.number("token"));
    let at = match place.split_once(':') {
        None if place == "response" => "as the first word of its answer".to_string(),
        Some(("token", _)) => format!("at token {index}"),
        Some(("before", word)) => format!("where “{word}” stands"),
        _ => format!("at {place}"),
    };
    let least = rows.iter().map(|row| row.number("probability")).fold(0.1, f64::min).max(LEAST);
    let mut plot = Plot::logarithmic_bars("probability (logarithmic)", 10f64.powf(least.log10().floor()), 1.0);
    for row in rows.iter() {
        let model = row.name("model").with(|name| format!("{name}, entropy {} nats", number(row.number("entropy"))));
        let token = Name::new(row.number("rank") as usize, token_label(row.text("text")));
        plot.bar(model, token, row.number("probability"));
    }
    let likeliest = rows.iter().map(|row| row.number("rank")).fold(0.0, f64::max);
    let Chosen { example, of, difference } = chosen;
    let why = match &difference {
        Some(found) if of > 1 => format!(
            " Chosen as one at which two models differ most, out of {of}: others differ less. Total variation distance of the \
             listed tokens: {} between {} and {}.",
            number(found.distance),
            found.models[0],
            found.models[1]
        ),
        _ => String::new(),
    };
    rows.figure(
        "next tokens",
        format!("What would each model say {at}, in a conversation of {dataset}?"),
        "model, rank, text, probability, entropy",
        "model, rank",
    )
    .what(format!(
        "The {likeliest} likeliest tokens at token {index} of example {example}, and the distribution's entropy.{why}"
    ))
    .n("1 place in 1 conversation; the distributions are exact.")
    .interval("None: one place, whose probabilities are exact.")
    .null("No difference between the models: the same bars.")
    .draw(&plot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_differences_of_all_listed_tokens() {
        let a = BTreeMap::from([("x", 0.5), ("y", 0.3)]);
        let b = BTreeMap::from([("y", 0.4), ("z", 0.2)]);
        assert!((total_variation(&a, &b) - 0.4).abs() < 1e-12);
        assert!((total_variation(&b, &a) - 0.4).abs() < 1e-12);
        assert_eq!(total_variation(&a, &a), 0.0);
    }
}
