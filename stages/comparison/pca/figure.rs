//! The examples in the plane of the first two principal components, and of the first and third.

use anyhow::Result;

use crate::chart::{Figure, Scatter};
use crate::comparison::subject::{GRADIENT, HIDDEN_STATE, LOSS, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "pca",
    columns: &[
        "position",
        "layer",
        "site",
        "module",
        "pc1",
        "pc2",
        "pc3",
        "explained_variance_1",
        "explained_variance_2",
        "explained_variance_3",
    ],
}];

pub const FIGURES: &[Figures] = &[
    Figures { section: &LOSS_VECTORS, level: Level::Detail, reads: READS, draw: |tables| draw(tables, &LOSS) },
    Figures { section: &GRADIENTS, level: Level::Detail, reads: READS, draw: |tables| draw(tables, &GRADIENT) },
    Figures { section: &SEPARATION, level: Level::Detail, reads: READS, draw: |tables| draw(tables, &HIDDEN_STATE) },
];

/// Layers or modules drawn of one model.
const PLACES: usize = 3;

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for (model, rows) in tables.rows("pca")?.keep("of", subject.of).groups(&["model"]) {
        for (at, rows) in deepest(&rows, PLACES) {
            figures.push(figure(subject, &model[0], &at, &rows).folded(!figures.is_empty()));
        }
    }
    Ok(figures.into())
}

fn figure(subject: &Subject, model: &str, at: &str, rows: &Rows) -> Figure {
    let label = |component: u32| {
        let share = rows.iter().next().map_or(f64::NAN, |row| row.number(&format!("explained_variance_{component}")));
        match share.is_finite() {
            true => format!("component {component}, {:.0} % of the variance", 100.0 * share),
            false => format!("component {component}"),
        }
    };
    let datasets = rows.groups(&["dataset"]);
    let plane = |title: &str, across: u32, up: u32| {
        let mut scatter = Scatter::new(title, label(across), label(up));
        let at = |component: u32| format!("pc{component}");
        for (_, rows) in &datasets {
            if let Some(name) = rows.iter().next().map(|row| row.name("dataset")) {
                scatter.group(name, rows.iter().map(|row| (row.number(&at(across)), row.number(&at(up)))));
            }
        }
        scatter
    };
    let sizes: Vec<String> = datasets.iter().map(|(name, rows)| format!("{} {}", name[0], rows.len())).collect();
    let figure = rows
        .figure(
            "pca",
            format!("Do the datasets' {} fall into groups under {model}{at}?", subject.name),
            "dataset, example, pc1, pc2, pc3, explained_variance_1, explained_variance_2, explained_variance_3",
            "dataset, example",
        )
        .what(format!(
            "Principal components of the {} of all the datasets together, one point for each example.",
            subject.name
        ))
        .n(format!("Examples: {}.", sizes.join(", ")))
        .interval("None: every example is drawn.")
        .null("Groups that lie over each other; the table similarity_summary tests the groups against shuffled ones.")
        .draw(&plane("First and second", 1, 2));
    match rows.iter().any(|row| row.number("pc3").is_finite()) {
        true => figure.draw(&plane("First and third", 1, 3)),
        false => figure,
    }
}
