//! The likeliest continuations at one place of a conversation, model by model.

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

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.first_rows("next_tokens")?;
    let mut figures = Vec::new();
    for (dataset, rows) in all.groups(&["dataset"]) {
        // Of each kind of place the first examples.
        for (place, rows) in rows.groups(&["place"]) {
            for example in rows.first("example", tables.conversations) {
                let rows = rows.keep("example", &example);
                figures.push(figure(&dataset[0], &place[0], &example, &rows).folded(!figures.is_empty()));
            }
        }
    }
    Ok(figures.into())
}

fn figure(dataset: &str, place: &str, example: &str, rows: &Rows) -> Figure {
    let index = rows.iter().next().map_or(0.0, |row| row.number("token"));
    let at = match place.split_once(':') {
        None if place == "response" => "as the first word of its answer".to_string(),
        Some(("token", _)) => format!("at token {index}"),
        Some(("before", word)) => format!("where “{word}” stands"),
        _ => format!("at {place}"),
    };
    let mut plot = Plot::bars("probability").within(0.0, 1.0);
    for row in rows.iter() {
        let model = row.name("model").with(|name| format!("{name}, entropy {} nats", number(row.number("entropy"))));
        let token = Name::new(row.number("rank") as usize, token_label(row.text("text")));
        plot.bar(model, token, row.number("probability"));
    }
    let likeliest = rows.iter().map(|row| row.number("rank")).fold(0.0, f64::max);
    rows.figure(
        "next tokens",
        format!("What would each model say {at}, in a conversation of {dataset}?"),
        "model, rank, text, probability, entropy",
        "model, rank",
    )
    .what(format!(
        "The {likeliest} likeliest tokens at token {index} of example {example}, and the distribution's entropy."
    ))
    .n("1 place in 1 conversation; the distributions are exact.")
    .interval("None: one place, whose probabilities are exact.")
    .null("No difference between the models: the same bars.")
    .draw(&plot)
}
