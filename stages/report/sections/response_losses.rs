//! Each dataset's responses in one line a model: joint log-probability, log-probability of a token, entropy.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::shelf::Shelf;
use super::count_range;
use crate::chart::bars::Dots;
use crate::chart::figure::{Figure, Key, Panel, series_class};
use crate::chart::lines::Point;

const MEASURES: [(&str, &str, &str); 3] = [
    ("joint_logprob", "Joint log-probability of a response", "nats"),
    ("logprob", "Log-probability of a token", "nats"),
    ("entropy", "Entropy of the prediction", "nats"),
];

pub fn figure(shelf: &Shelf) -> Result<Option<Figure>> {
    // By (measure, model, dataset).
    let mut found: BTreeMap<(String, usize, usize), Point> = BTreeMap::new();
    let mut counts = Vec::new();
    for entry in shelf.of("loss_summary") {
        let rows = entry.rows()?;
        let (measures, n) = (rows.text("measure")?, rows.counts("n")?);
        let (means, lows, highs) = (rows.numbers("mean")?, rows.numbers("ci_low")?, rows.numbers("ci_high")?);
        let (model, dataset) = (shelf.model_index(entry.name("model")), shelf.dataset_index(entry.name("dataset")));
        for i in 0..rows.len() {
            let point = Point { value: means[i], low: lows[i], high: highs[i] };
            found.insert((measures[i].to_string(), model, dataset), point);
        }
        counts.extend(n);
    }
    if found.is_empty() {
        return Ok(None);
    }
    let mut models: Vec<usize> = found.keys().map(|(_, model, _)| *model).collect();
    let mut datasets: Vec<usize> = found.keys().map(|(_, _, dataset)| *dataset).collect();
    for names in [&mut models, &mut datasets] {
        names.sort();
        names.dedup();
    }
    let model_name = |index: usize| shelf.models.get(index).cloned().unwrap_or_default();
    let dataset_name = |index: usize| shelf.datasets.get(index).map_or(String::new(), |dataset| dataset.name.clone());
    let panel = |(measure, title, unit): &(&str, &str, &str)| -> Panel {
        let series = models.iter().map(|&model| {
            let point = |&dataset: &usize| *found.get(&(measure.to_string(), model, dataset)).unwrap_or(&Point::NONE);
            (model_name(model), series_class(model), datasets.iter().map(point).collect())
        });
        let dots = Dots {
            title: title.to_string(),
            x_label: unit.to_string(),
            rows: datasets.iter().map(|&dataset| dataset_name(dataset)).collect(),
            series: series.collect(),
            domain: None,
        };
        dots.panel()
    };
    Ok(Some(Figure {
        name: "response-losses".into(),
        question: "How likely are the datasets' responses to each model, and how sure is it of them?".into(),
        what: "Mean over a dataset's examples of the response's joint log-probability, of its tokens' mean \
               log-probability, and of the mean entropy of the distributions that predicted them."
            .into(),
        n: format!("{} examples behind each dot.", count_range(counts)),
        interval: "95 % bootstrap interval of the mean over examples (seeded).".into(),
        null: "No difference: two models' intervals overlap.".into(),
        query: "SELECT measure, dataset, model, n, mean, ci_low, ci_high FROM loss_summary WHERE measure IN \
                ('joint_logprob', 'logprob', 'entropy') ORDER BY measure, dataset, model"
            .into(),
        table: "loss_summary",
        legend: models.iter().map(|&model| Key { name: model_name(model), class: series_class(model) }).collect(),
        panels: MEASURES.iter().map(panel).collect(),
        ..Figure::default()
    }))
}
