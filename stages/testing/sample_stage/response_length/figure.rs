//! The length of each dataset's responses, a dot for each model.

use anyhow::Result;

use crate::chart::Plot;
use crate::contract::figures::section::PROBABILITY;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Tables};

pub const FIGURES: Figures = Figures {
    section: &PROBABILITY,
    level: Level::Overview,
    reads: &[Reads { stage: "response_length", columns: &["n", "mean", "ci_low", "ci_high"] }],
    draw,
};

fn draw(tables: &Tables) -> Result<Drawn> {
    let rows = tables.rows("response_length")?;
    let mut plot = Plot::dots("tokens");
    for row in rows.iter() {
        plot.add("", row.name("model"), row.name("dataset"), row.estimate("mean"));
    }
    if plot.is_empty() {
        return Ok(Drawn::default());
    }
    let question = "How long are the datasets' responses?".to_string();
    let figure = rows
        .figure("response length", question, "model, dataset, n, mean, ci_low, ci_high", "dataset, model")
        .what("Mean number of tokens of a response.")
        .n(format!("{} examples behind each dot.", rows.count_range("n")))
        .interval("95 % bootstrap interval of the mean over examples (seeded).")
        .null("No difference: two datasets' intervals overlap.");
    Ok(vec![figure.draw(&plot)].into())
}
