//! Each dataset's responses in one dot a model: joint log-probability, log-probability of a token, entropy.

use anyhow::Result;

use crate::chart::{Name, Plot};
use crate::contract::figures::section::PROBABILITY;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Tables};

pub const FIGURES: Figures = Figures {
    section: &PROBABILITY,
    level: Level::Overview,
    reads: &[Reads { stage: "loss_summary", columns: &["measure", "n", "mean", "ci_low", "ci_high"] }],
    draw,
};

/// The measures and what they are called.
const MEASURES: [(&str, &str); 7] = [
    ("joint_logprob", "Joint log-probability of a response"),
    ("joint_logprob_with_end", "Joint log-probability, end marker included"),
    ("logprob", "Log-probability of a token"),
    ("entropy", "Entropy of the prediction"),
    ("joint_logprob_all", "Joint log-probability of the whole conversation"),
    ("logprob_all", "Log-probability of a token, whole conversation"),
    ("entropy_all", "Entropy of the prediction, whole conversation"),
];

fn draw(tables: &Tables) -> Result<Drawn> {
    let rows = tables.rows("loss_summary")?;
    if rows.is_empty() {
        return Ok(Drawn::default());
    }
    let mut plot = Plot::dots("nats").own_scales();
    for (rank, (measure, title)) in MEASURES.into_iter().enumerate() {
        for row in rows.iter().filter(|row| row.text("measure") == measure) {
            plot.add(Name::new(rank, title), row.name("model"), row.name("dataset"), row.estimate("mean"));
        }
    }
    let figure = rows
        .figure(
            "response losses",
            "How likely are the datasets' responses to each model, and how sure is it of them?".into(),
            "measure, dataset, model, n, mean, ci_low, ci_high",
            "measure, dataset, model",
        )
        .what(
            "Mean over a dataset's examples of the response's joint log-probability, of its tokens' mean log-probability, and \
             of the mean entropy of the distributions that predicted them.",
        )
        .n(format!("{} examples behind each dot.", rows.count_range("n")))
        .interval("95 % bootstrap interval of the mean over examples (seeded), widened for few examples.")
        .null("None here: two models read the same examples, so their difference is tested example by example (loss_difference).");
    Ok(vec![figure.draw(&plot)].into())
}
