//! How much each piece of the prompt contributes to a target's log-probability.

use anyhow::Result;

use crate::chart::figure::sql;
use crate::chart::{Axis, Colours, Figure, Heatmaps, Name, Plot};
use crate::contract::figures::section::ATTRIBUTION;
use crate::contract::figures::words::token_label;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};

pub const FIGURES: Figures = Figures {
    section: &ATTRIBUTION,
    level: Level::Detail,
    reads: &[Reads {
        stage: "attribution",
        columns: &["example", "piece", "text", "target", "delta_logprob", "target_token", "token", "sign"],
    }],
    draw,
};

/// Pieces drawn; those with the largest effect under any model.
const PIECES: usize = 24;

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.first_rows("attribution")?;
    let mut figures = Vec::new();
    for (dataset, rows) in all.groups(&["dataset"]) {
        for example in rows.first("example", tables.conversations) {
            let rows = rows.keep("example", &example);
            if let Some(target) = rows.first("target", 1).pop() {
                let rows = rows.keep_if(&condition(&target), |row| row.text("target") == target);
                let tokens = rows.keep_if("target_token IS NOT NULL", |row| row.number("target_token").is_finite());
                let figure = match tokens.is_empty() {
                    true => bars(&dataset[0], &example, &target, &rows),
                    false => matrix(&dataset[0], &example, &target, &tokens),
                };
                figures.push(figure.folded(!figures.is_empty()));
            }
        }
    }
    Ok(figures.into())
}

/// In which direction a piece speaks for the target.
fn meaning(rows: &Rows) -> &'static str {
    match rows.iter().next().is_some_and(|row| row.text("sign") == "contribution") {
        true => "positive: the target becomes less likely without it",
        false => "negative: the target becomes less likely without it",
    }
}

/// Pieces down, the target's tokens across, a panel a model.
fn matrix(dataset: &str, example: &str, target: &str, rows: &Rows) -> Figure {
    let pieces = rows.groups(&["piece", "text"]);
    let tokens = rows.groups(&["target_token", "token"]);
    let label = |names: &[String]| token_label(&names[1]);
    let axis = |groups: &[(Vec<String>, Rows)]| Axis::of(groups.iter().map(|(names, _)| label(names)).collect());
    let mut maps = Heatmaps::new(axis(&pieces), axis(&tokens), Colours::Difference, 360.0);
    for (model, rows) in rows.groups(&["model"]) {
        let panel = maps.panel(&model[0]);
        for row in rows.iter() {
            let at = |groups: &[(Vec<String>, Rows)], column: &str| {
                groups.iter().position(|(names, _)| names[0] == row.number(column).to_string())
            };
            if let (Some(piece), Some(token)) = (at(&pieces, "piece"), at(&tokens, "target_token")) {
                panel.set(piece, token, row.number("delta_logprob") as f32);
            }
        }
    }
    rows.figure(
        "attribution by token",
        format!("Which words of the prompt speak for which token of “{}”, in a conversation of {dataset}?", shortened(target)),
        "model, piece, text, target_token, token, delta_logprob",
        "piece, target_token, model",
    )
    .what(format!(
        "Change of a token's log-probability (nats) when a piece of the prompt is left out; pieces down, the target's tokens \
         across; {}. Example {example}.",
        meaning(rows)
    ))
    .n(format!("1 conversation, {} pieces, each left out once.", pieces.len()))
    .interval("None: one conversation, whose probabilities are exact.")
    .null("0: the piece makes no difference.")
    .draw(&maps)
}

fn bars(dataset: &str, example: &str, target: &str, rows: &Rows) -> Figure {
    let effect = |rows: &Rows| rows.iter().map(|row| row.number("delta_logprob").abs()).fold(0.0, f64::max);
    let mut pieces = rows.groups(&["piece"]);
    let count = pieces.len();
    pieces.sort_by(|(_, a), (_, b)| effect(b).total_cmp(&effect(a)));
    pieces.truncate(PIECES);
    let mut plot = Plot::bars("Δ log-probability");
    for row in pieces.iter().flat_map(|(_, rows)| rows.iter()) {
        let piece = Name::new(row.number("piece") as usize, token_label(row.text("text")));
        plot.bar(row.name("model"), piece, row.number("delta_logprob"));
    }
    let some = match pieces.len() < count {
        true => format!(" The {PIECES} pieces with the largest effect are drawn."),
        false => String::new(),
    };
    rows.figure(
        "attribution",
        format!("Which words of the prompt speak for “{}”, in a conversation of {dataset}?", shortened(target)),
        "model, piece, text, delta_logprob",
        "piece, model",
    )
    .what(format!(
        "Change of the target's log-probability (nats) when a piece of the prompt is left out, in the prompt's order; {}. \
         Example {example}.{some}",
        meaning(rows)
    ))
    .n(format!("1 conversation, {count} pieces, each left out once."))
    .interval("None: one conversation, whose probabilities are exact.")
    .null("0: the piece makes no difference.")
    .draw(&plot)
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
