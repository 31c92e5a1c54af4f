//! How much each piece of the prompt contributes to a target's log-probability.

use anyhow::Result;

use crate::chart::figure::sql;
use crate::chart::{Figure, Name, Plot};
use crate::contract::figures::section::ATTRIBUTION;
use crate::contract::figures::words::token_label;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};

pub const FIGURES: Figures = Figures {
    section: &ATTRIBUTION,
    level: Level::Detail,
    reads: &[Reads { stage: "attribution", columns: &["example", "piece", "text", "target", "delta_logprob"] }],
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
                figures.push(figure(&dataset[0], &example, &target, &rows).folded(!figures.is_empty()));
            }
        }
    }
    Ok(figures.into())
}

fn figure(dataset: &str, example: &str, target: &str, rows: &Rows) -> Figure {
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
        "Change of the target's log-probability (nats) when a piece of the prompt is left out, in the prompt's order; \
         negative: the target becomes less likely without it. Example {example}.{some}"
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
