//! The mean similarity of every two groups, its interval, and what shuffled groups give.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "similarity_summary",
    columns: &[
        "position",
        "layer",
        "site",
        "module",
        "centred",
        "n_pairs",
        "mean",
        "ci_low",
        "ci_high",
        "null_mean",
        "p_value",
    ],
}];

pub const FIGURES: &[Figures] = &[
    Figures { section: &LOSS_VECTORS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &LOSS) },
    Figures { section: &GRADIENTS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &GRADIENT) },
    Figures { section: &SEPARATION, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &HIDDEN_STATE) },
];

/// Layers or modules drawn of one comparison.
const PLACES: usize = 4;

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "similarity_summary", subject) {
        let rows = compared.rows(tables, "similarity_summary", &compared.nodes)?;
        for (at, rows) in deepest(&rows, PLACES) {
            figures.push(figure(&compared, &at, &rows).folded(!figures.is_empty()));
        }
    }
    Ok(figures.into())
}

fn figure(compared: &Compared, at: &str, rows: &Rows) -> Figure {
    let [role_a, role_b] = compared.roles();
    let mut pairs = rows.groups(&[role_a, role_b]);
    // Groups with themselves first.
    pairs.sort_by_key(|(names, _)| names[0] != names[1]);
    let mut plot = Plot::dots("mean cosine").own_scales();
    for (rank, (names, rows)) in pairs.iter().enumerate() {
        let pair = match names[0] == names[1] {
            true => Name::new(rank, format!("within {}", names[0])),
            false => Name::new(rank, names.join(" · ")),
        };
        for row in rows.iter() {
            let panel = if row.flag("centred") { Name::new(1, "Centred") } else { Name::new(0, "Raw") };
            let shuffled = Name::new(0, "shuffled groups").style(Style::Null);
            plot.add(&panel, Name::new(0, "groups"), &pair, row.estimate("mean"));
            plot.add(&panel, shuffled, &pair, Point::bare(row.number("null_mean")));
        }
    }
    let tested = || rows.iter().map(|row| row.number("p_value")).filter(|p| p.is_finite());
    let different = tested().filter(|p| *p < 0.05).count();
    let name = compared.subject.name;
    rows.figure(
        "group similarity",
        format!("Which groups have {name} more alike than chance, {}{at}?", compared.phrase()),
        "dataset_a, dataset_b, model_a, model_b, centred, n_pairs, mean, ci_low, ci_high, null_mean, p_value",
        "centred, dataset_a, dataset_b, model_a, model_b",
    )
    .what(format!("Mean cosine over the pairs of examples of two groups, of their {name}, raw and centred."))
    .n(format!("{} pairs of examples behind each mean.", rows.count_range("n_pairs")))
    .interval("95 % bootstrap interval over examples (seeded).")
    .null("The mean with the examples' group labels shuffled (the grey marks); p-values in the table.")
    .finding(format!("{different} of {} means differ from those of shuffled groups at p < 0.05.", tested().count()))
    .draw(&plot)
}
