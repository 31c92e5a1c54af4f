//! How large the directions are: the length of the mean difference and the variance that each SVD direction holds.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::shelf::{Depth, Shelf, depth_axis};
use super::lead::contrast_phrase;
use super::{count_range, listed, position_phrase};
use crate::chart::figure::{Figure, Key, series_class, slug, sql};
use crate::chart::lines::{Lines, Point, Series, y_domain};

/// SVD directions drawn; more would not be told apart.
const COMPONENTS: u32 = 4;

/// One value of a direction of a dataset.
struct Strength<'a> {
    dataset: &'a str,
    depth: Depth,
    component: u32,
    value: f64,
    n: u32,
}

/// What is drawn of the `directions` table: a column, of one kind of direction.
struct Measure {
    kind: &'static str,
    column: &'static str,
    name: &'static str,
}

const LENGTH: Measure = Measure { kind: "mean_difference", column: "norm", name: "length" };
const SHARE: Measure = Measure { kind: "svd", column: "explained_variance", name: "share of variance" };

pub fn figures(shelf: &Shelf) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (names, _) in shelf.grouped("directions", &["source", "target"]) {
        let [source, target] = names[..] else { continue };
        for (position, strengths) in strengths(shelf, source, target, &LENGTH)? {
            let folded = !figures.is_empty();
            figures.push(Figure { folded, ..length_figure(shelf, [source, target, &position], &strengths) });
        }
        for (position, strengths) in strengths(shelf, source, target, &SHARE)? {
            figures.push(variance_figure(shelf, [source, target, &position], &strengths));
        }
    }
    Ok(figures)
}

fn strengths<'a>(
    shelf: &'a Shelf,
    source: &str,
    target: &str,
    measure: &Measure,
) -> Result<BTreeMap<String, Vec<Strength<'a>>>> {
    let mut found: BTreeMap<String, Vec<Strength>> = BTreeMap::new();
    for entry in shelf.of("directions") {
        if entry.name("source") != source || entry.name("target") != target {
            continue;
        }
        let rows = entry.rows()?;
        let (kinds, positions, sites) = (rows.text("kind")?, rows.text("position")?, rows.text("site")?);
        let (components, layers, n) = (rows.counts("component")?, rows.counts("layer")?, rows.counts("n")?);
        let values = rows.numbers(measure.column)?;
        for i in (0..rows.len()).filter(|&i| kinds[i] == measure.kind && components[i] <= COMPONENTS) {
            let depth = Depth::new(layers[i], sites[i]);
            let dataset = entry.name("dataset");
            let strength = Strength { dataset, depth, component: components[i], value: values[i], n: n[i] };
            found.entry(positions[i].to_string()).or_default().push(strength);
        }
    }
    Ok(found)
}

fn points(strengths: &[&Strength], places: &BTreeMap<Depth, usize>) -> Vec<Point> {
    let mut points = vec![Point::NONE; places.len()];
    for strength in strengths {
        points[places[&strength.depth]] = Point::bare(strength.value);
    }
    points
}

fn figure(names: [&str; 3], measure: &Measure, strengths: &[Strength]) -> Figure {
    let [source, target, position] = names;
    Figure {
        name: slug(&format!("direction {} {source} {target} {position}", measure.name)),
        n: format!("{} examples behind each direction.", count_range(strengths.iter().map(|strength| strength.n))),
        query: format!(
            "SELECT dataset, layer, site, component, {}, n FROM directions WHERE source = {} AND target = {} AND kind = \
             {} AND position = {} AND component <= {COMPONENTS} ORDER BY dataset, component, layer, site DESC",
            measure.column,
            sql(source),
            sql(target),
            sql(measure.kind),
            sql(position)
        ),
        table: "directions",
        interval: "None: one value for all examples together.".into(),
        ..Figure::default()
    }
}

fn length_figure(shelf: &Shelf, names: [&str; 3], strengths: &[Strength]) -> Figure {
    let [source, target, position] = names;
    let (axis, places) = depth_axis(strengths.iter().map(|strength| strength.depth));
    let datasets = shelf.datasets_among(strengths.iter().map(|strength| strength.dataset));
    let contrast = source == target;
    let series: Vec<Series> = datasets
        .iter()
        .enumerate()
        .map(|(i, dataset)| {
            let here: Vec<&Strength> = strengths.iter().filter(|strength| strength.dataset == *dataset).collect();
            // A contrast is no dataset, and has no colour of its own.
            let class = series_class(if contrast { i } else { shelf.dataset_index(dataset) });
            let name = if contrast { contrast_phrase(dataset, target) } else { dataset.clone() };
            Series { name, class, points: points(&here, &places), labelled: !contrast }
        })
        .collect();
    let legend = series.iter().map(|series| Key { name: series.name.clone(), class: series.class.clone() }).collect();
    let lines = Lines {
        x_label: "layer".into(),
        y_label: "length".into(),
        x: axis.iter().map(|depth| depth.label()).collect(),
        y_domain: Some((0.0, y_domain(&series).1)),
        series,
        ..Lines::default()
    };
    Figure {
        question: match contrast {
            true => format!("How far apart do datasets' mean states lie within {target}?"),
            false => format!("How far does going from {source} to {target} move the mean state?"),
        },
        what: format!(
            "Length of the mean difference{} of the hidden states at {}, by layer, before it is scaled to a direction.",
            if contrast { " between two datasets".to_string() } else { format!(" {target} − {source}") },
            position_phrase(position)
        ),
        null: "0: the mean states are the same.".into(),
        // The names of contrasts are too long for the lines' ends.
        legend: if contrast { legend } else { Vec::new() },
        panels: vec![lines.panel()],
        ..figure(names, &LENGTH, strengths)
    }
}

fn variance_figure(shelf: &Shelf, names: [&str; 3], strengths: &[Strength]) -> Figure {
    let [source, target, position] = names;
    let (axis, places) = depth_axis(strengths.iter().map(|strength| strength.depth));
    let panels = shelf.datasets_among(strengths.iter().map(|strength| strength.dataset)).into_iter().map(|dataset| {
        let of = |component: u32| -> Vec<&Strength> {
            strengths.iter().filter(|s| s.dataset == dataset && s.component == component).collect()
        };
        let series = (1..=COMPONENTS).map(|component| Series {
            name: format!("direction {component}"),
            class: series_class(component as usize - 1),
            points: points(&of(component), &places),
            labelled: true,
        });
        let lines = Lines {
            title: dataset.clone(),
            x_label: "layer".into(),
            y_label: "share of variance".into(),
            x: axis.iter().map(|depth| depth.label()).collect(),
            series: series.filter(|series| series.points.iter().any(|point| point.value.is_finite())).collect(),
            y_domain: Some((0.0, 1.0)),
            ..Lines::default()
        };
        lines.panel()
    });
    let panels = panels.collect();
    let last = axis.last().copied();
    let first: Vec<String> = strengths
        .iter()
        .filter(|strength| strength.component == 1 && Some(strength.depth) == last)
        .map(|strength| format!("{:.0} % ({})", 100.0 * strength.value, strength.dataset))
        .collect();
    Figure {
        question: format!("How much of the change from {source} to {target} lies along few directions?"),
        what: format!(
            "Share of the variance of the paired differences (target − source at {}, centred) along each SVD direction, by \
             layer; one panel for each dataset.",
            position_phrase(position)
        ),
        finding: match last {
            Some(depth) => format!("At {} the first direction holds {}.", depth.phrase(), listed(&first)),
            None => String::new(),
        },
        null: "Differences without a preferred direction would share their variance out evenly: 1 / width along each."
            .into(),
        panels,
        folded: true,
        ..figure(names, &SHARE, strengths)
    }
}
