//! How much of the examples' distances lies between the groups, by model or dataset, with the test of all groups.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style, fixed};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::words::listed;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "permanova",
    columns: &[
        "position",
        "layer",
        "site",
        "module",
        "centred",
        "n_groups",
        "n",
        "f",
        "r_squared",
        "null_r_squared",
        "p_value",
        "p_max",
    ],
}];

pub const FIGURES: &[Figures] = &[
    Figures { section: &LOSS_VECTORS, level: Level::Detail, reads: READS, draw: |tables| draw(tables, &LOSS) },
    Figures { section: &GRADIENTS, level: Level::Detail, reads: READS, draw: |tables| draw(tables, &GRADIENT) },
    Figures { section: &SEPARATION, level: Level::Detail, reads: READS, draw: |tables| draw(tables, &HIDDEN_STATE) },
];

/// Layers or modules drawn of one comparison.
const PLACES: usize = 4;

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "permanova", subject) {
        for (at, rows) in deepest(&compared.rows(tables, "permanova")?, PLACES) {
            figures.push(figure(&compared, &at, &rows).folded(!figures.is_empty()));
        }
    }
    Ok(figures.into())
}

fn figure(compared: &Compared, at: &str, rows: &Rows) -> Figure {
    let mut plot = Plot::dots("share between groups").from_zero();
    for (rank, (shared, _)) in compared.shared.iter().enumerate() {
        let place = Name::new(rank, *shared);
        for row in rows.iter().filter(|row| row.text("shared") == *shared) {
            let panel = if row.flag("centred") { Name::new(1, "Centred") } else { Name::new(0, "Raw") };
            let share = |column: &str| Point::bare(row.number(column));
            plot.add(&panel, Name::new(0, "groups").style(Style::Ink), &place, share("r_squared"));
            plot.add(&panel, Name::new(0, "shuffled groups").style(Style::Null), &place, share("null_r_squared"));
        }
    }
    let name = compared.subject.name;
    rows.figure(
        "group variance",
        format!("Do the groups of comparison “{}” differ in their {name} at all{at}?", compared.comparison),
        "shared, centred, n_groups, n, f, r_squared, null_r_squared, p_value, p_max",
        "centred, shared",
    )
    .what(format!(
        "Share of the squared distances (2 − 2 cosine) of the examples' {name} that lies between the groups of the comparison \
         (PERMANOVA); groups that differ in their spread alone are found too."
    ))
    .n(format!("{} examples in {} groups.", rows.count_range("n"), rows.count_range("n_groups")))
    .interval("None: the share is of these examples.")
    .null("The share with the labels of all groups shuffled (the grey marks); one test for all groups, uncorrected over models.")
    .finding(finding(rows))
    .draw(&plot)
}

fn finding(rows: &Rows) -> String {
    let raw: Vec<Row> = rows.iter().filter(|row| !row.flag("centred") && row.number("p_value").is_finite()).collect();
    let sentence = |row: &Row| {
        format!(
            "{}: {} against {} with shuffled labels (pseudo-F {}, p = {})",
            row.text("shared"),
            fixed(row.number("r_squared"), 2),
            fixed(row.number("null_r_squared"), 2),
            fixed(row.number("f"), 1),
            fixed(row.number("p_value"), 4)
        )
    };
    let all: Vec<String> = raw.iter().map(sentence).collect();
    if all.is_empty() { String::new() } else { format!("Raw cosines, {}.", listed(&all)) }
}
