//! The spread of projections behind their means: box plots by layer.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::shelf::{Depth, Shelf, depth_axis, spread};
use super::lead::Lead;
use super::{count_range, position_phrase};
use crate::chart::boxes::{Boxes, Summary};
use crate::chart::figure::{Figure, Key, series_class, slug, sql};
use crate::chart::scale::Linear;

/// Layers drawn; boxes of more would be too narrow.
const LAYERS: usize = 9;

/// Projections by model and depth.
type Values<'a> = BTreeMap<(usize, &'a str), BTreeMap<Depth, Vec<f64>>>;

/// For each position one figure, of the mean difference: the tables that the report was given are of one source and
/// target.
pub fn figures(shelf: &Shelf) -> Result<Vec<Figure>> {
    let Some(first) = shelf.of("projections").next() else { return Ok(Vec::new()) };
    let (source, target) = (first.name("source"), first.name("target"));
    let own = shelf.of("projections").all(|entry| entry.name("direction") == entry.name("dataset"));
    let dataset = if own { None } else { Some(first.name("direction")) };
    let lead = Lead { dataset, source, target };
    let mut found: BTreeMap<String, BTreeMap<(usize, &str), Values>> = BTreeMap::new();
    for entry in shelf.of("projections") {
        let (dataset, model) = (entry.name("dataset"), entry.name("model"));
        let rows = entry.rows()?;
        let (kinds, positions, sites) = (rows.text("kind")?, rows.text("position")?, rows.text("site")?);
        let (layers, values) = (rows.counts("layer")?, rows.numbers("projection")?);
        for i in (0..rows.len()).filter(|&i| kinds[i] == "mean_difference") {
            let datasets = found.entry(positions[i].to_string()).or_default();
            let models = datasets.entry((shelf.dataset_index(dataset), dataset)).or_default();
            let depths = models.entry((shelf.model_index(model), model)).or_default();
            depths.entry(Depth::new(layers[i], sites[i])).or_default().push(values[i]);
        }
    }
    let figures = found.iter().map(|(position, datasets)| {
        let all = datasets.values().flat_map(|models| models.values()).flat_map(|depths| depths.keys().copied());
        let axis = spread(&depth_axis(all).0, LAYERS);
        let plots: Vec<Boxes> = datasets
            .iter()
            .map(|((_, dataset), models)| Boxes {
                title: dataset.to_string(),
                x_label: "layer".into(),
                y_label: "projection".into(),
                x: axis.iter().map(|depth| depth.label()).collect(),
                series: models
                    .iter()
                    .map(|((index, model), depths)| {
                        let boxes = axis.iter().map(|depth| Summary::of(depths.get(depth)?)).collect();
                        (model.to_string(), series_class(*index), boxes)
                    })
                    .collect(),
                y_domain: None,
            })
            .collect();
        let domain = Linear::over(plots.iter().flat_map(Boxes::values), (0.0, 1.0)).domain;
        let mut models: Vec<(usize, &str)> = datasets.values().flat_map(|models| models.keys().copied()).collect();
        models.sort();
        models.dedup();
        let boxes = plots.iter().flat_map(|plot| &plot.series).flat_map(|(.., boxes)| boxes).flatten();
        let n = count_range(boxes.map(|summary| summary.n as u32));
        Figure {
            name: slug(&format!("projection boxes {} {position}", lead.name())),
            question: format!("How far do single examples spread along {}?", lead.phrase_found()),
            what: format!(
                "Projections of all examples at {} onto the mean difference{}: box plots by layer (middle half; whiskers to the \
                 furthest value within 1.5 times its height; dots beyond).",
                position_phrase(position),
                if own { " found on the same dataset" } else { "" }
            ),
            n: format!("{n} examples in a box."),
            interval: "The boxes show how examples spread; the intervals of their means are in the figure above.".into(),
            null: "No difference: two models' boxes at one height.".into(),
            query: format!(
                "SELECT model, dataset, layer, site, example, projection FROM projections WHERE {} AND kind = \
                 'mean_difference' AND position = {} ORDER BY dataset, model, layer, site DESC",
                lead.condition(),
                sql(position)
            ),
            table: "projections",
            legend: models
                .iter()
                .map(|(index, model)| Key { name: model.to_string(), class: series_class(*index) })
                .collect(),
            panels: plots.into_iter().map(|plot| Boxes { y_domain: Some(domain), ..plot }.panel()).collect(),
            folded: true,
            ..Figure::default()
        }
    });
    Ok(figures.collect())
}
