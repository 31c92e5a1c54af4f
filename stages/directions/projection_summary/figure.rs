//! Where the models lie along a direction, by layer: their means, and the spread behind them.

use anyhow::Result;

use crate::chart::{Figure, Plot};
use crate::contract::figures::section::PROJECTIONS;
use crate::contract::figures::words::spread;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};
use crate::directions::named_direction::NamedDirection;
use crate::directions::verdict::{fit, fitted};

pub const FIGURES: Figures = Figures {
    section: &PROJECTIONS,
    level: Level::Overview,
    reads: &[
        Reads {
            stage: "projection_summary",
            columns: &[
                "kind",
                "component",
                "position",
                "layer",
                "site",
                "folds",
                "fitted",
                "n",
                "mean",
                "ci_low",
                "ci_high",
                "min",
                "whisker_low",
                "q1",
                "median",
                "q3",
                "whisker_high",
                "max",
            ],
        },
        Reads { stage: "departure", columns: &["kind", "component", "position", "layer", "site", "stays"] },
    ],
    draw,
};

/// Layers of which boxes are drawn; of more they would be too narrow.
const BOX_LAYERS: usize = 9;

fn draw(tables: &Tables) -> Result<Drawn> {
    let (all, departures) = (tables.rows("projection_summary")?, tables.rows("departure")?);
    let mut figures = Vec::new();
    for direction in NamedDirection::all(&all) {
        let rows = direction.rows(&all);
        let first = figures.is_empty();
        figures.push(means(&direction, &rows, &direction.rows(&departures)).folded(!first));
        if first && direction.kind == "mean_difference" {
            figures.push(boxes(&direction, &rows).folded(true));
        }
    }
    Ok(figures.into())
}

fn means(direction: &NamedDirection, rows: &Rows, departures: &Rows) -> Figure {
    let mut plot = Plot::lines("layer", "projection");
    for row in rows.iter() {
        plot.add(row.name("dataset"), row.name("model"), row.place(), row.estimate("mean"));
    }
    for row in departures.iter().filter(|row| row.flag("stays")) {
        let models = ["model_a", "model_b"].map(|role| row.text(role));
        if let [one, other] = models
            && models.contains(&direction.target.as_str())
            && !models.contains(&direction.source.as_str())
        {
            let leaves = if one == direction.target { other } else { one };
            plot.mark(row.name("dataset"), row.place(), format!("{leaves} leaves"));
        }
    }
    let (phrase, kind, target) = (direction.phrase(), direction.kind_phrase(), &direction.target);
    let question = format!("How far does each model lie along {phrase} ({})?", direction.way());
    rows.figure(
        "projection",
        question,
        "model, dataset, layer, site, n, mean, ci_low, ci_high",
        "dataset, model, layer, site DESC",
    )
    .what(format!(
        "Mean scalar projection of the hidden state at {} onto the {kind} of {phrase}, by layer; {}, all on one scale.",
        direction.position_phrase(),
        direction.panels_phrase()
    ))
    .n(format!("{} examples behind each point.", rows.count_range("n")))
    .interval("95 % bootstrap interval of the mean over examples (seeded), the directions as they are.")
    .null(format!(
        "No difference. A dotted line marks the layer from which on a model differs from {target} by a band over all layers at \
         once (table departure). {}{}",
        fit(rows),
        if fitted(rows) { direction.built_in() } else { String::new() }
    ))
    .draw(&plot)
}

fn boxes(direction: &NamedDirection, rows: &Rows) -> Figure {
    let sites = spread(&rows.sites(), BOX_LAYERS);
    let mut plot = Plot::boxes("layer", "projection");
    for row in rows.iter().filter(|row| sites.contains(&row.site())) {
        plot.add(row.name("dataset"), row.name("model"), row.place(), row.box_plot());
    }
    rows.figure(
        "projection boxes",
        format!("How far do single examples spread along {} ({})?", direction.phrase(), direction.way()),
        "model, dataset, layer, site, n, min, whisker_low, q1, median, q3, whisker_high, max",
        "dataset, model, layer, site DESC",
    )
    .what(format!(
        "Projections of all examples at {} onto the {}: box plots by layer (middle half; whiskers to the furthest value \
         within 1.5 times its height; dots for the least and the greatest beyond); {}.",
        direction.position_phrase(),
        direction.kind_phrase(),
        direction.panels_phrase()
    ))
    .n(format!("{} examples in a box.", rows.count_range("n")))
    .interval("The boxes show how examples spread; the intervals of their means are in the figure above.")
    .null(format!("No difference: two models' boxes at one height. {}", fit(rows)))
    .draw(&plot)
}
