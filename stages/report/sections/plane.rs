//! Principal components: the examples in the plane of the first two, and of the first and third.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::shelf::{Shelf, spread};
use super::similarity::{Subject, Where, where_condition, where_phrase, wheres};
use crate::chart::figure::{Figure, Key, Panel, series_class, slug, sql};
use crate::chart::scatter::{PointGroup, Scatter};

const WHERES: usize = 3;

/// By dataset: each example's first three components.
type Points<'a> = BTreeMap<(usize, &'a str), Vec<[f64; 3]>>;

/// The points of one comparison, and the share of its variance along each component.
#[derive(Default)]
struct Plane<'a> {
    points: Points<'a>,
    shares: [f64; 3],
}

pub fn figures(shelf: &Shelf, subject: &Subject) -> Result<Vec<Figure>> {
    let mut found: BTreeMap<(usize, &str), BTreeMap<Where, Plane>> = BTreeMap::new();
    for entry in shelf.of("pca").filter(|entry| entry.name("of") == subject.of) {
        let (model, dataset) = (entry.name("model"), entry.name("dataset"));
        let rows = entry.rows()?;
        let (x, y, z) = (rows.numbers("pc1")?, rows.numbers("pc2")?, rows.numbers("pc3")?);
        let column = |i: usize| rows.numbers(&format!("explained_variance_{i}"));
        let shares = [column(1)?, column(2)?, column(3)?];
        let places = found.entry((shelf.model_index(model), model)).or_default();
        for (i, place) in wheres(&rows)?.into_iter().enumerate() {
            let key = (shelf.dataset_index(dataset), dataset);
            let plane = places.entry(place).or_default();
            plane.shares = [shares[0][i], shares[1][i], shares[2][i]];
            plane.points.entry(key).or_default().push([x[i], y[i], z[i]]);
        }
    }
    let mut figures = Vec::new();
    for ((_, model), places) in &found {
        let keys: Vec<&Where> = places.keys().collect();
        for place in spread(&keys, WHERES).into_iter().rev() {
            let folded = !figures.is_empty();
            figures.push(Figure { folded, ..figure(subject, model, place, &places[place]) });
        }
    }
    Ok(figures)
}

fn figure(subject: &Subject, model: &str, place: &Where, plane: &Plane) -> Figure {
    let Plane { points, shares } = plane;
    let label = |axis: usize| match shares[axis].is_finite() {
        true => format!("component {}, {:.0} % of the variance", axis + 1, 100.0 * shares[axis]),
        false => format!("component {}", axis + 1),
    };
    let panel = |title: &str, axes: (usize, usize)| -> Panel {
        let groups = points.iter().map(|((index, dataset), points)| PointGroup {
            name: dataset.to_string(),
            class: series_class(*index),
            points: points.iter().map(|point| (point[axes.0], point[axes.1])).collect(),
        });
        let scatter =
            Scatter { title: title.into(), x_label: label(axes.0), y_label: label(axes.1), groups: groups.collect() };
        scatter.panel()
    };
    let mut panels = vec![panel("First and second", (0, 1))];
    if points.values().flatten().any(|point| point[2].is_finite()) {
        panels.push(panel("First and third", (0, 2)));
    }
    let at = where_phrase(place);
    let sizes: Vec<String> = points.iter().map(|((_, name), points)| format!("{name} {}", points.len())).collect();
    Figure {
        name: slug(&format!("pca {} {model} {at}", subject.of)),
        question: match at.is_empty() {
            true => format!("Do the datasets' {} fall into groups under {model}?", subject.name),
            false => format!("Do the datasets' {} fall into groups under {model}, at {at}?", subject.name),
        },
        what: format!(
            "Principal components of the {} of all the datasets together, one point for each example.",
            subject.name
        ),
        n: format!("Examples: {}.", sizes.join(", ")),
        interval: "None: every example is drawn.".into(),
        null: "Groups that lie over each other; the blocks' means above are tested against shuffled groups.".into(),
        query: format!(
            "SELECT dataset, example, pc1, pc2, pc3, explained_variance_1, explained_variance_2, explained_variance_3 FROM pca \
             WHERE \"of\" = '{}' AND model = {}{}",
            subject.of,
            sql(model),
            where_condition(place)
        ),
        table: "pca",
        legend: points
            .keys()
            .map(|(index, name)| Key { name: name.to_string(), class: series_class(*index) })
            .collect(),
        panels,
        ..Figure::default()
    }
}
