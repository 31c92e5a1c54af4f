//! How far apart the models hold two datasets: by layer, and all pairs at the last layer.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::chart::{Axis, Colours, Figure, Heatmaps, Name, Plot, Style, number};
use crate::contract::figures::section::SEPARATION;
use crate::contract::figures::words::position_phrase;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};
use crate::contract::site::Stream;

pub const FIGURES: Figures = Figures {
    section: &SEPARATION,
    level: Level::Overview,
    reads: &[Reads {
        stage: "distance",
        columns: &["position", "layer", "site", "cosine_distance", "ci_low", "ci_high", "p_value", "p_max"],
    }],
    draw,
};

/// Panels of one figure; more pairs of datasets than these are in the heatmap.
const PANELS: usize = 12;

const COLUMNS: &str = "model, dataset_a, dataset_b, layer, site, cosine_distance, ci_low, ci_high, p_value, p_max";
const ORDER: &str = "dataset_a, dataset_b, model, layer, site DESC";
const NULL: &str = "0: the two expected states point the same way. Tested by permuting the examples' dataset labels.";

fn draw(tables: &Tables) -> Result<Drawn> {
    let mut figures = Vec::new();
    for (position, rows) in tables.rows("distance")?.groups(&["position"]) {
        let n = format!("Mean states over all examples: {}.", tables.sizes(&rows.names(&["dataset_a", "dataset_b"])));
        let position = position_phrase(&position[0]);
        figures.push(by_layer(&position, &rows).n(&n).folded(!figures.is_empty()));
        figures.extend(maps(&position, &rows).map(|figure| figure.n(n).folded(true)));
    }
    Ok(figures.into())
}

fn by_layer(position: &str, rows: &Rows) -> Figure {
    let mut pairs = rows.groups(&["dataset_a", "dataset_b"]);
    let all = pairs.len();
    if all > PANELS {
        // Those of one dataset, so that they can be compared.
        let first = pairs[0].0[0].clone();
        pairs.retain(|(names, _)| names.contains(&first));
        pairs.truncate(PANELS);
    }
    let mut plot = Plot::lines("layer", "cosine distance");
    for (rank, (names, rows)) in pairs.iter().enumerate() {
        let pair = Name::new(rank, names.join(" and ")).style(Style::Group);
        for row in rows.iter() {
            plot.add(&pair, row.name("model"), row.place(), row.estimate("cosine_distance"));
        }
    }
    let some = match pairs.len() < all {
        true => format!("; {} of {all} pairs, the others in the next figure", pairs.len()),
        false => String::new(),
    };
    rows.figure("distance by layer", "How far apart do the models hold two datasets?".into(), COLUMNS, ORDER)
        .what(format!(
            "Cosine distance between the expected hidden states of two datasets at {position}, by layer{some}. Estimated from \
             pairs of different examples, so that noise does not lengthen it; by chance it can lie below 0."
        ))
        .interval("95 % interval over the examples of both datasets (jackknife).")
        .null(NULL)
        .finding(finding(rows))
        .draw(&plot)
}

/// How many curves rise above chance, and the two ends of the last layer.
fn finding(rows: &Rows) -> String {
    let curves = rows.groups(&["model", "dataset_a", "dataset_b"]);
    let tested: Vec<f64> = curves
        .iter()
        .map(|(_, rows)| rows.iter().map(|row| row.number("p_max")).fold(f64::NAN, f64::min))
        .filter(|p| p.is_finite())
        .collect();
    if tested.is_empty() {
        return String::new();
    }
    let beyond = tested.iter().filter(|p| **p <= 0.05).count();
    let mut found = format!(
        "{beyond} of {} curves lie beyond permuted labels at some layer (p ≤ 0.05 for the largest of a curve's layers; not corrected \
         over the curves).",
        tested.len()
    );
    let last = rows.sites().last().map(|site| rows.keep("layer", site.layer).keep("site", site.name()));
    let last: Vec<Row> = last.iter().flat_map(|rows| rows.iter()).filter(|row| distance(row).is_finite()).collect();
    let by = |a: &&Row, b: &&Row| distance(a).total_cmp(&distance(b));
    if let (Some(least), Some(most)) = (last.iter().min_by(by), last.iter().max_by(by)) {
        let site = most.site().phrase();
        found += &format!(" At {site} the furthest apart: {}; the closest: {}.", told(most), told(least));
    }
    found
}

fn distance(row: &Row) -> f64 {
    row.number("cosine_distance")
}

/// `misaligned on a and b, 0.31 [0.28, 0.34], p = 0.0005`.
fn told(row: &Row) -> String {
    let (a, b) = (row.text("dataset_a"), row.text("dataset_b"));
    let distance = row.estimate("cosine_distance").text();
    format!("{} on {a} and {b}, {distance}, p = {} over its layers", row.text("model"), number(row.number("p_max")))
}

/// One heatmap of all pairs for each model, at the last layer of the residual stream.
fn maps(position: &str, rows: &Rows) -> Option<Figure> {
    let sites = rows.sites();
    let site = *sites.iter().rev().find(|site| site.stream == Stream::Residual).or(sites.last())?;
    let rows = rows.keep("layer", site.layer).keep("site", site.name());
    let datasets = rows.names(&["dataset_a", "dataset_b"]);
    let place: BTreeMap<&str, usize> = datasets.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut maps = Heatmaps::square(Axis::of(datasets.clone()), Colours::Amount, 340.0);
    for (model, rows) in rows.groups(&["model"]) {
        let panel = maps.panel(&model[0]);
        for row in rows.iter() {
            panel.set(place[row.text("dataset_a")], place[row.text("dataset_b")], row.number("cosine_distance") as f32);
        }
    }
    let question = format!("How far apart does each model hold all the datasets, at {}?", site.phrase());
    let figure = rows
        .figure("distance heatmap", question, COLUMNS, ORDER)
        .what(format!("Estimated cosine distance between the datasets' expected hidden states at {position}."))
        .interval("In the figure above, by layer; p_value and p_max in the table.")
        .null(NULL);
    Some(figure.draw(&maps))
}
