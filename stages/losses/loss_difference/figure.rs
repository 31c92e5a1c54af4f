//! What one model makes of the responses beside what another makes of the same ones.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Style};
use crate::contract::figures::section::PROBABILITY;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};

pub const FIGURES: Figures = Figures {
    section: &PROBABILITY,
    level: Level::Overview,
    reads: &[Reads {
        stage: "loss_difference",
        columns: &["measure", "n", "difference", "ci_low", "ci_high", "p_value", "p_holm"],
    }],
    draw,
};

/// The measures, the most comparable between datasets first, what they are called, and what is asked of them.
const MEASURES: [(&str, &str, &str); 3] = [
    ("logprob", "log-probability of a token", "Which model finds the responses likelier than another, token by token?"),
    (
        "joint_logprob",
        "joint log-probability of a response",
        "Which model finds whole responses likelier than another?",
    ),
    ("entropy", "entropy of the prediction", "Which model is less sure of its predictions than another?"),
];

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("loss_difference")?;
    let mut figures = Vec::new();
    for (measure, name, question) in MEASURES {
        let rows = all.keep("measure", measure);
        if !rows.is_empty() {
            figures.push(differences(name, question, &rows).folded(!figures.is_empty()));
        }
    }
    Ok(figures.into())
}

/// A panel for each pair of models, so that no colour of a model stands for two.
fn differences(name: &str, question: &str, rows: &Rows) -> Figure {
    let mut plot = Plot::dots("difference in nats");
    for (rank, (models, rows)) in rows.groups(&["model_a", "model_b"]).into_iter().enumerate() {
        let pair = Name::new(rank, format!("{} less {}", models[1], models[0]));
        for row in rows.iter() {
            plot.add(&pair, Name::new(0, "").style(Style::Ink), row.name("dataset"), row.estimate("difference"));
        }
    }
    rows.figure(
        "loss differences",
        question.into(),
        "dataset, model_a, model_b, n, difference, ci_low, ci_high, p_value, p_holm",
        "model_a, model_b, dataset",
    )
    .what(format!(
        "Mean over a dataset's examples of the {name} under one model less that under the other, on the same response."
    ))
    .n(format!("{} examples behind each dot.", rows.count_range("n")))
    .interval("95 % bootstrap interval of the mean difference over examples (seeded), widened for few examples.")
    .null("0: exchanging the two models' labels within an example (2-sided sign-flip test).")
    .finding(finding(rows))
    .draw(&plot)
}

fn finding(rows: &Rows) -> String {
    let tested = rows.iter().filter(|row| row.number("p_holm").is_finite());
    let (count, beyond) = (tested.clone().count(), tested.filter(|row| row.number("p_holm") <= 0.05));
    let size = |row: &Row| row.number("difference").abs();
    let largest = beyond.clone().max_by(|a, b| size(a).total_cmp(&size(b)));
    let found = format!(
        "{} of {count} differences are beyond chance (sign flips, p ≤ 0.05 after Holm's correction over the pairs of models of a \
         dataset, none over the datasets)",
        beyond.count()
    );
    match largest {
        None => format!("{found}."),
        Some(row) => format!(
            "{found}. The largest: {} less {} on {}, {}.",
            row.text("model_b"),
            row.text("model_a"),
            row.text("dataset"),
            row.estimate("difference").text()
        ),
    }
}
