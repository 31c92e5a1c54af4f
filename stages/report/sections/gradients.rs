//! Gradients (Fig. 4): which examples would change the model in the same direction.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::{Shelf, spread};
use super::count_range;
use super::similarity::{Subject, figures};
use crate::chart::boxes::{Boxes, Summary};
use crate::chart::figure::{Figure, Key, series_class, slug};

/// Weight matrices whose norms are drawn.
const MODULES: usize = 6;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "gradients",
        title: "Gradients",
        source: "Fig. 4",
        intro: "Each example's gradient of its loss for one weight matrix: examples whose gradients point the same way would \
                change the model in the same direction. Whatever the weights' dtype, they are widened without loss and \
                every product is computed in float32: the noise floor of the cosines is a few 1e-6, for a bfloat16 model too.",
        figures: figures(shelf, &Subject { of: "gradient", name: "gradients" })?,
        ..Section::default()
    };
    let folded = !section.figures.is_empty();
    section.figures.extend(norms(shelf)?.map(|figure| Figure { folded, ..figure }));
    Ok(section)
}

fn norms(shelf: &Shelf) -> Result<Option<Figure>> {
    let mut found: BTreeMap<String, BTreeMap<(usize, &str), BTreeMap<usize, Vec<f64>>>> = BTreeMap::new();
    for entry in shelf.of("gradients") {
        let rows = entry.rows()?;
        let (modules, norms) = (rows.text("module")?, rows.numbers("norm")?);
        let (model, dataset) = (entry.name("model"), entry.name("dataset"));
        for (module, norm) in modules.iter().zip(norms) {
            let models = found.entry(module.to_string()).or_default();
            let datasets = models.entry((shelf.model_index(model), model)).or_default();
            datasets.entry(shelf.dataset_index(dataset)).or_default().push(norm);
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let names: Vec<&String> = found.keys().collect();
    let mut legend: Vec<Key> = Vec::new();
    let mut counts: Vec<u32> = Vec::new();
    let mut panels = Vec::new();
    for module in spread(&names, MODULES) {
        let models = &found[module];
        let mut datasets: Vec<usize> = models.values().flat_map(|datasets| datasets.keys().copied()).collect();
        datasets.sort();
        datasets.dedup();
        let name = |index: usize| shelf.datasets.get(index).map_or(String::new(), |dataset| dataset.name.clone());
        let series = models.iter().map(|((index, model), of)| {
            let boxes = datasets.iter().map(|dataset| Summary::of(of.get(dataset)?)).collect();
            (model.to_string(), series_class(*index), boxes)
        });
        let boxes = Boxes {
            title: module.clone(),
            y_label: "gradient norm".into(),
            x: datasets.iter().map(|dataset| name(*dataset)).collect(),
            series: series.collect(),
            ..Boxes::default()
        };
        for (model, class, boxes) in &boxes.series {
            let key = Key { name: model.clone(), class: class.clone() };
            if !legend.contains(&key) {
                legend.push(key);
            }
            counts.extend(boxes.iter().flatten().map(|summary| summary.n as u32));
        }
        panels.push(boxes.panel());
    }
    let shown = match (panels.len(), found.len()) {
        (1, 1) => "one weight matrix".into(),
        (shown, all) if shown == all => format!("{all} weight matrices"),
        (shown, all) => format!("{shown} of {all} weight matrices"),
    };
    Ok(Some(Figure {
        name: slug("gradient norms"),
        question: "How strongly would the examples of each dataset change the model?".into(),
        what: format!(
            "Norm of each example's gradient for {shown}: box plots (middle half, whiskers to 1.5 times its height). Weights \
             with gradients: {}.",
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
        ),
        n: format!("{} examples in a box.", count_range(counts)),
        interval: "The boxes show how examples spread.".into(),
        null: "No difference: boxes at one height.".into(),
        query: "SELECT model, dataset, module, COUNT(*) AS n, QUANTILE_CONT(norm, 0.25) AS q1, MEDIAN(norm) AS median, \
                QUANTILE_CONT(norm, 0.75) AS q3 FROM gradients GROUP BY model, dataset, module ORDER BY module, dataset, model"
            .into(),
        table: "gradients",
        legend,
        panels,
        ..Figure::default()
    }))
}
