//! Sequence probability and entropy (Fig. 1, Sec. 4.1): what several models make of the same conversation.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::{Entry, Shelf};
use super::{response_losses, token_label};
use crate::chart::colour::ColourScale;
use crate::chart::figure::{Figure, Panel, slug, sql};
use crate::chart::heatmap::{Axis, Heatmap};
use crate::chart::scale::number;

/// Tokens drawn of one response; the table has all.
const TOKENS: usize = 40;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "probability",
        title: "Sequence probability and entropy",
        source: "Fig. 1, Sec. 4.1",
        intro: "The same conversation under every model: how likely each token of the response was, and how sure the model \
                was before it.",
        ..Section::default()
    };
    section.figures.extend(response_losses::figure(shelf)?);
    let mut folded = false;
    for (names, entries) in shelf.grouped("token_losses", &["dataset"]) {
        section.figures.extend(conversations(shelf, names[0], &entries, folded)?);
        folded = true;
    }
    Ok(section)
}

/// A predicted token of the response.
struct Token {
    index: u32,
    text: String,
    logprob: f64,
    entropy: f64,
}

/// The tokens of one example under one model.
struct Reading<'a> {
    model: &'a str,
    tokens: Vec<Token>,
}

/// One token heatmap for each of the dataset's first examples.
fn conversations(shelf: &Shelf, dataset: &str, entries: &[&Entry], folded: bool) -> Result<Vec<Figure>> {
    // Of every model the first part: the dataset's first examples are there, in the order of the file.
    let mut order: Vec<String> = Vec::new();
    let mut readings: BTreeMap<String, Vec<Reading>> = BTreeMap::new();
    for entry in entries {
        let rows = entry.first_rows()?;
        let (examples, texts) = (rows.text("example")?, rows.text("text")?);
        let (indices, in_response) = (rows.counts("token")?, rows.flags("in_response")?);
        let (logprobs, entropies) = (rows.numbers("logprob")?, rows.numbers("entropy")?);
        let mut found: BTreeMap<&str, Vec<Token>> = BTreeMap::new();
        for i in (0..rows.len()).filter(|&i| in_response[i]) {
            if !order.iter().any(|example| example == examples[i]) {
                if order.len() == shelf.conversations {
                    continue;
                }
                order.push(examples[i].to_string());
            }
            let token =
                Token { index: indices[i], text: token_label(texts[i]), logprob: logprobs[i], entropy: entropies[i] };
            found.entry(examples[i]).or_default().push(token);
        }
        for (example, tokens) in found {
            let reading = Reading { model: entry.name("model"), tokens };
            readings.entry(example.to_string()).or_default().push(reading);
        }
    }
    let mut figures = Vec::new();
    for example in &order {
        let Some(readings) = readings.get_mut(example) else { continue };
        readings.sort_by_key(|reading| shelf.model_index(reading.model));
        figures.push(token_heatmap(dataset, example, readings, folded || !figures.is_empty())?);
    }
    Ok(figures)
}

fn token_heatmap(dataset: &str, example: &str, readings: &[Reading], folded: bool) -> Result<Figure> {
    let tokens = &readings[0].tokens;
    let shown = tokens.len().min(TOKENS);
    let panel = |title: &str, value: fn(&Token) -> f64| -> Result<Panel> {
        let cell = |row: &Token, reading: &Reading| {
            let same = reading.tokens.iter().find(|token| token.index == row.index && token.text == row.text);
            same.map_or(f32::NAN, |token| value(token) as f32)
        };
        let values: Vec<f32> =
            tokens[..shown].iter().flat_map(|row| readings.iter().map(move |reading| cell(row, reading))).collect();
        let (lo, hi) = values
            .iter()
            .filter(|v| v.is_finite())
            .fold((0f64, 0f64), |(lo, hi), &v| (lo.min(v as f64), hi.max(v as f64)));
        let scale = ColourScale::Sequential { lo, hi: if hi > lo { hi } else { lo + 1.0 } };
        let rows = Axis::of(tokens[..shown].iter().map(|token| token.text.clone()).collect());
        let columns = Axis::of(readings.iter().map(|reading| reading.model.to_string()).collect());
        Heatmap { title: title.into(), rows, columns, values, scale, width: 360.0 }.panel()
    };
    let totals = readings.iter().map(|reading| {
        let sum: f64 = reading.tokens.iter().map(|token| token.logprob).sum();
        format!("{} {} ({} a token)", reading.model, number(sum), number(sum / reading.tokens.len() as f64))
    });
    let totals: Vec<String> = totals.collect();
    Ok(Figure {
        name: slug(&format!("tokens {dataset} {example}")),
        question: format!("How likely is a response of {dataset} to each model, token by token?"),
        what: format!(
            "Conditional log-probability of each token of the response and entropy of the distribution that predicted it, \
             in nats; tokens down, models across. Example {example}{}. Blank: that model's tokenizer cuts the text elsewhere.",
            if shown < tokens.len() {
                format!(", its first {shown} of {} tokens", tokens.len())
            } else {
                String::new()
            }
        ),
        n: format!("1 conversation, {} tokens.", tokens.len()),
        interval: "None: one conversation, whose probabilities are exact.".into(),
        null: "No difference between the models: rows of one colour.".into(),
        finding: format!("Joint log-probability of the response: {}.", totals.join("; ")),
        query: format!(
            "SELECT model, token, text, logprob, entropy, rank FROM token_losses WHERE dataset = {} AND example = {} AND \
             in_response ORDER BY token, model",
            sql(dataset),
            sql(example)
        ),
        table: "token_losses",
        panels: vec![panel("Log-probability", |token| token.logprob)?, panel("Entropy", |token| token.entropy)?],
        folded,
        ..Figure::default()
    })
}
