//! The cosine of every two groups' means, with its interval, and which are opposed.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style, fixed};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Labels, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::words::listed;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "mean_similarity",
    columns: &[
        "position",
        "layer",
        "site",
        "module",
        "model_a",
        "dataset_a",
        "model_b",
        "dataset_b",
        "n_a",
        "n_b",
        "mean_share_a",
        "mean_share_b",
        "plain",
        "cosine",
        "ci_low",
        "ci_high",
        "p_value",
        "p_holm",
    ],
}];

pub const FIGURES: &[Figures] = &[
    Figures { section: &LOSS_VECTORS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &LOSS) },
    Figures { section: &GRADIENTS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &GRADIENT) },
    Figures { section: &SEPARATION, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &HIDDEN_STATE) },
];

/// Layers or modules drawn of one comparison.
const PLACES: usize = 4;

/// Pairs that a sentence names.
const NAMED: usize = 3;

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "mean_similarity", subject) {
        let rows = compared.rows(tables, "mean_similarity")?;
        let labels = Labels::of(&rows);
        for (at, rows) in deepest(&rows, PLACES) {
            figures.push(figure(&compared, labels, &at, &rows).folded(!figures.is_empty()));
        }
    }
    Ok(figures.into())
}

fn figure(compared: &Compared, labels: Labels, at: &str, rows: &Rows) -> Figure {
    let mut plot = Plot::dots("cosine of the means").within(-1.0, 1.0);
    for (rank, (shared, _)) in compared.shared.iter().enumerate() {
        let panel = Name::new(rank, *shared);
        for (place, row) in rows.iter().filter(|row| row.text("shared") == *shared).enumerate() {
            let pair = Name::new(place, labels.pair(row));
            let within = |value: f64| value.clamp(-1.0, 1.0);
            let Point { value, low, high } = row.estimate("cosine");
            let point = Point::new(within(value), within(low), within(high));
            plot.add(&panel, Name::new(0, "means of the groups").style(Style::Ink), &pair, point);
            plot.add(&panel, Name::new(0, "no common direction").style(Style::Null), &pair, Point::bare(0.0));
        }
    }
    let name = compared.subject.name;
    let sizes = rows.count_range("n_a");
    rows.figure(
        "mean similarity",
        format!("Do the groups' mean {name} point the same way, {}{at}?", compared.phrase(&labels)),
        "shared, model_a, dataset_a, model_b, dataset_b, n_a, n_b, mean_share_a, mean_share_b, plain, cosine, ci_low, ci_high, \
         p_value, p_holm",
        "shared, dataset_a, dataset_b, model_a, model_b",
    )
    .what(format!(
        "Cosine of every two groups' mean vectors of {name}, from pairs of different examples, so that noise does not draw \
         it to 0. Nothing is subtracted: groups that agree lie at 1 and opposed ones at -1, whatever their centred cosines are."
    ))
    .n(format!("{sizes} examples in each group."))
    .interval("95 % over examples (Fieller's, from the jackknife); it spans the axis where a mean cannot be told from 0. In thousands of dimensions with few examples it is wider than need be.")
    .null("0, two means without a common direction; two-sided test with Holm's correction over the pairs.")
    .finding(finding(compared, rows, labels))
    .draw(&plot)
}

fn finding(compared: &Compared, rows: &Rows, labels: Labels) -> String {
    let tested: Vec<Row> = rows.iter().filter(|row| row.number("p_holm").is_finite()).collect();
    let say = |what: &str, keep: &dyn Fn(f64) -> bool| {
        let mut found: Vec<Row> =
            tested.iter().copied().filter(|row| row.number("p_holm") < 0.05 && keep(row.number("cosine"))).collect();
        found.sort_by(|a, b| b.number("cosine").abs().total_cmp(&a.number("cosine").abs()));
        let named: Vec<String> = found
            .iter()
            .take(NAMED)
            .map(|row| {
                format!(
                    "{} ({} [{}, {}])",
                    compared.pair(labels, *row),
                    fixed(row.number("cosine"), 2),
                    fixed(row.number("ci_low"), 2),
                    fixed(row.number("ci_high"), 2)
                )
            })
            .collect();
        match found.len() {
            0 => format!("No pair is {what}. "),
            count if count <= NAMED => format!("{count} {what}: {}. ", listed(&named)),
            count => format!("{count} {what}, first {}. ", listed(&named)),
        }
    };
    if tested.is_empty() {
        return String::new();
    }
    format!(
        "Of {} pairs, tested for no common direction at p < 0.05 with Holm's correction over the pairs {}: {}{}",
        tested.len(),
        compared.phrase(&labels),
        say("opposed", &|cosine| cosine < 0.0),
        say("aligned", &|cosine| cosine > 0.0)
    )
    .trim_end()
    .to_string()
}
