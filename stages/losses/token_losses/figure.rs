//! The same conversation under every model, token by token.

use anyhow::Result;

use crate::chart::{Axis, Colours, Figure, Heatmaps, number};
use crate::contract::figures::section::PROBABILITY;
use crate::contract::figures::words::token_label;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};

pub const FIGURES: Figures = Figures {
    section: &PROBABILITY,
    level: Level::Detail,
    reads: &[Reads {
        stage: "token_losses",
        columns: &["example", "token", "text", "in_response", "logprob", "entropy", "joint_logprob"],
    }],
    draw,
};

/// Tokens drawn of one response; the table has all.
const TOKENS: usize = 40;

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.first_rows("token_losses")?.keep_if("in_response", |row| row.flag("in_response"));
    let mut figures = Vec::new();
    for (dataset, rows) in all.groups(&["dataset"]) {
        for (place, example) in rows.first("example", tables.conversations).into_iter().enumerate() {
            let folded = place > 0 || !figures.is_empty();
            figures.push(figure(&dataset[0], &example, &rows.keep("example", &example)).folded(folded));
        }
    }
    Ok(figures.into())
}

fn figure(dataset: &str, example: &str, rows: &Rows) -> Figure {
    let models = rows.groups(&["model"]);
    let tokens: Vec<Row> = models.first().map_or(Vec::new(), |(_, rows)| rows.iter().collect());
    let shown = &tokens[..tokens.len().min(TOKENS)];
    let same = |a: &Row, b: &Row| a.number("token") == b.number("token") && a.text("text") == b.text("text");
    let quantities =
        [("Log-probability", "logprob"), ("Joint log-probability so far", "joint_logprob"), ("Entropy", "entropy")];
    let heatmaps = quantities.map(|(title, column)| {
        let down = Axis::of(shown.iter().map(|token| token_label(token.text("text"))).collect());
        let across = Axis::of(models.iter().map(|(model, _)| model[0].clone()).collect());
        let mut maps = Heatmaps::new(down, across, Colours::Amount, 360.0);
        let panel = maps.panel(title);
        for (place, (_, rows)) in models.iter().enumerate() {
            for row in rows.iter() {
                if let Some(token) = shown.iter().position(|token| same(token, &row)) {
                    panel.set(token, place, row.number(column) as f32);
                }
            }
        }
        maps
    });
    let some = match shown.len() < tokens.len() {
        true => format!(", its first {TOKENS} of {} tokens", tokens.len()),
        false => String::new(),
    };
    let figure = rows
        .figure(
            "tokens",
            format!("How likely is a response of {dataset} to each model, token by token?"),
            "model, token, text, logprob, joint_logprob, entropy",
            "token, model",
        )
        .what(format!(
            "Conditional log-probability of each token of the response, their sum so far (the joint log-probability) and the \
             entropy of the distribution that predicted the token, in nats; tokens down, models across. Example {example}{some}. Blank: that model's tokenizer cuts the text elsewhere."
        ))
        .n(format!("1 conversation, {} tokens.", tokens.len()))
        .interval("None: one conversation, whose probabilities are exact.")
        .null("No difference between the models: rows of one colour.")
        .finding(least_likely(&models));
    heatmaps.iter().fold(figure, |figure, heatmaps| figure.draw(heatmaps))
}

/// The token that each model found least likely.
fn least_likely(models: &[(Vec<String>, Rows)]) -> String {
    let least = models.iter().filter_map(|(model, rows)| {
        let row = rows.iter().min_by(|a, b| a.number("logprob").total_cmp(&b.number("logprob")))?;
        let (text, logprob) = (token_label(row.text("text")), number(row.number("logprob")));
        Some(format!("{} “{text}” ({logprob})", model[0]))
    });
    format!("Least likely to each model: {}.", least.collect::<Vec<_>>().join(", "))
}
