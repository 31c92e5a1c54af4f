//! The examples in the plane of the first two principal components, and of the first and third.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::chart::{Figure, Scatter, Style};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Labels, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "pca",
    columns: &[
        "position",
        "layer",
        "site",
        "module",
        "model",
        "dataset",
        "example",
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

/// Layers or modules drawn of one comparison.
const PLACES: usize = 3;

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "pca", subject) {
        for (at, rows) in deepest(&compared.rows(tables, "pca")?, PLACES) {
            figures.push(figure(&compared, &at, &rows).folded(!figures.is_empty()));
        }
    }
    Ok(figures.into())
}

fn figure(compared: &Compared, at: &str, rows: &Rows) -> Figure {
    let labels = Labels::of_rows(rows);
    let name = compared.subject.name;
    let sizes: Vec<String> = rows
        .groups(&["shared", "model", "dataset"])
        .iter()
        .map(|(names, rows)| format!("{} {}", labels.label(&names[1], &names[2]), rows.len()))
        .collect::<BTreeSet<String>>()
        .into_iter()
        .collect();
    let figure = rows
        .figure(
            "pca",
            format!("Do the groups' {name} lie apart {}{at}?", compared.phrase(&labels)),
            "shared, model, dataset, example, pc1, pc2, pc3, explained_variance_1, explained_variance_2, explained_variance_3",
            "shared, model, dataset, example",
        )
        .what(format!(
            "Principal components of the {name} of all groups of a comparison together, one point for each example; point at \
             one for its identity. Components of two panels are not the same."
        ))
        .n(format!("Examples: {}.", sizes.join(", ")))
        .interval("None: every example is drawn.")
        .null("Groups that lie over each other; the table permanova tests all groups, similarity_summary every two.");
    let blocks = rows.groups(&["shared"]);
    let several = blocks.len() > 1;
    let title = |shared: &str, plane: &str| if several { shared.to_string() } else { plane.to_string() };
    blocks.iter().fold(figure, |figure, (shared, rows)| {
        let figure = figure.draw(&plane(rows, labels, &title(&shared[0], "First and second"), 2));
        match !several && rows.iter().any(|row| row.number("pc3").is_finite()) {
            true => figure.draw(&plane(rows, labels, "First and third", 3)),
            false => figure,
        }
    })
}

/// The first component across and another up.
fn plane(rows: &Rows, labels: Labels, title: &str, up: u32) -> Scatter {
    let axis = |component: u32| {
        let share = rows.iter().next().map_or(f64::NAN, |row| row.number(&format!("explained_variance_{component}")));
        match share.is_finite() {
            true => format!("component {component}, {:.0} % of the variance", 100.0 * share),
            false => format!("component {component}"),
        }
    };
    let mut scatter = Scatter::new(title, axis(1), axis(up));
    for (names, rows) in rows.groups(&["model", "dataset"]) {
        let label = labels.label(&names[0], &names[1]);
        let rank = |row: Row| row.name(if labels == Labels::Models { "model" } else { "dataset" });
        let style = if labels == Labels::Models { Style::Solid } else { Style::Group };
        let name = rows.iter().next().map(|row| rank(row).with(|_| label.clone()).style(style));
        let Some(name) = name else { continue };
        let point = |row: Row| {
            ((row.number("pc1"), row.number(&format!("pc{up}"))), format!("{label}\n{}", row.text("example")))
        };
        scatter.named_group(name, rows.iter().map(point));
    }
    scatter
}
