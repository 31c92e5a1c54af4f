//! Principal angles between the subspaces that hold two datasets' strongest directions.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::shelf::{Depth, Shelf, depth_axis};
use super::over_pairs::{Chance, Likeness, finding, series};
use super::position_phrase;
use crate::chart::figure::{Figure, Panel, slug, sql};
use crate::chart::lines::Lines;

/// Angles drawn, the smallest first.
const ANGLES: u32 = 6;

/// By position and dimension of the subspaces: likenesses by the angle's number.
type Angles = BTreeMap<(String, u32), BTreeMap<u32, Vec<Likeness>>>;

pub fn figures(shelf: &Shelf) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (names, entries) in shelf.grouped("subspace_similarity", &["source", "target"]) {
        let [source, target] = names[..] else { continue };
        let mut found = Angles::new();
        let mut datasets = Vec::new();
        for entry in entries {
            let (a, b) = (entry.name("dataset_a"), entry.name("dataset_b"));
            datasets.extend([a, b]);
            let pair = (shelf.dataset_index(a), shelf.dataset_index(b));
            let rows = entry.rows()?;
            let (positions, sites, layers) = (rows.text("position")?, rows.text("site")?, rows.counts("layer")?);
            let (k, angles, values) = (rows.counts("k")?, rows.counts("angle_index")?, rows.numbers("cosine")?);
            let (means, highs) = (rows.numbers("null_cosine")?, rows.numbers("null_high")?);
            for i in (0..rows.len()).filter(|&i| angles[i] <= ANGLES && pair.0 != pair.1) {
                let likeness = Likeness {
                    depth: Depth::new(layers[i], sites[i]),
                    pair,
                    value: values[i],
                    shuffled: Chance { mean: means[i], high: highs[i] },
                    random: Chance { mean: f64::NAN, high: f64::NAN },
                };
                let angles_of = found.entry((positions[i].to_string(), k[i])).or_default();
                angles_of.entry(angles[i]).or_default().push(likeness);
            }
        }
        let sizes = shelf.sizes(&shelf.datasets_among(datasets));
        for ((position, k), angles) in &found {
            figures.push(Figure {
                n: format!("Subspaces from all examples of each dataset: {sizes}."),
                ..figure([source, target, position], *k, angles)
            });
        }
    }
    Ok(figures)
}

fn figure([source, target, position]: [&str; 3], k: u32, angles: &BTreeMap<u32, Vec<Likeness>>) -> Figure {
    let (axis, places) = depth_axis(angles.values().flatten().map(|likeness| likeness.depth));
    let panel = |(angle, found): (&u32, &Vec<Likeness>)| -> Panel {
        let lines = Lines {
            title: format!("Principal angle {angle}"),
            x_label: "layer".into(),
            y_label: "cosine of the angle".into(),
            x: axis.iter().map(|depth| depth.label()).collect(),
            series: series(found, &places),
            y_domain: Some((0.0, 1.0)),
            ..Lines::default()
        };
        lines.panel()
    };
    let all: Vec<Likeness> = angles.values().flatten().copied().collect();
    Figure {
        name: slug(&format!("subspaces {source} {target} {k} {position}")),
        question: format!("How much of their {k} strongest directions of {target} − {source} do datasets share?"),
        what: format!(
            "Cosines of the principal angles between two datasets' subspaces of {k} SVD directions at {}, by layer, the \
             smallest angle first: 1 is a direction that both hold, 0 one that the other lacks.",
            position_phrase(position)
        ),
        interval: "The band holds the middle half of the pairs of datasets; it is not a confidence interval.".into(),
        null: "Pairs shuffled before the SVD: its mean, and up to its 95 % quantile (medians over pairs of datasets)."
            .into(),
        finding: finding(&all, "the cosine of a principal angle"),
        query: format!(
            "SELECT dataset_a, dataset_b, layer, site, angle_index, cosine, null_cosine, null_high FROM \
             subspace_similarity WHERE source = {} AND target = {} AND position = {} AND k = {k} AND \
             angle_index <= {ANGLES} AND dataset_a <> dataset_b ORDER BY dataset_a, \
             dataset_b, layer, site DESC, angle_index",
            sql(source),
            sql(target),
            sql(position)
        ),
        table: "subspace_similarity",
        panels: angles.iter().map(panel).collect(),
        folded: true,
        ..Figure::default()
    }
}
