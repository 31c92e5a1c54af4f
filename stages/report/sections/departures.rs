//! Where another model's projections leave the target's, as the `departure` table has it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Headline;
use super::super::shelf::{Depth, Shelf};
use super::lead::Lead;
use super::{capital, listed};

/// Where a model's interval first lies apart from the target's, on one dataset; `None`: nowhere.
#[derive(Debug, Clone)]
pub struct Departure {
    pub dataset: String,
    pub model: String,
    /// The place, and whether the intervals stay apart from there on.
    pub first: Option<(Depth, bool)>,
}

impl Departure {
    /// Where the model has left for good.
    pub fn settled(&self) -> Option<Depth> {
        self.first.filter(|(_, stays)| *stays).map(|(depth, _)| depth)
    }
}

/// The direction along which models are compared.
#[derive(Clone, Copy)]
pub struct Along<'a> {
    pub lead: Lead<'a>,
    pub kind: &'a str,
    pub component: u32,
    pub position: &'a str,
}

/// The departures from the target of all models but the source, in the pipeline's order of datasets and models.
pub fn read(shelf: &Shelf, along: Along) -> Result<Vec<Departure>> {
    let mut found = Vec::new();
    for entry in shelf.of("departure") {
        let Lead { source, target, .. } = along.lead;
        let other = match (entry.name("model_a"), entry.name("model_b")) {
            (a, b) if a == target => b,
            (a, b) if b == target => a,
            _ => continue,
        };
        let here = [entry.name("source"), entry.name("target")] == [source, target]
            && along.lead.covers(entry.name("direction"), entry.name("dataset"));
        if !here || other == source {
            continue;
        }
        let rows = entry.rows()?;
        let (kinds, components) = (rows.text("kind")?, rows.counts("component")?);
        let (positions, sites) = (rows.text("position")?, rows.text("site")?);
        let (layers, stays) = (rows.numbers("layer")?, rows.flags("stays")?);
        for i in 0..rows.len() {
            if (kinds[i], components[i], positions[i]) == (along.kind, along.component, along.position) {
                let depth = layers[i].is_finite().then(|| (Depth::new(layers[i] as u32, sites[i]), stays[i]));
                let dataset = entry.name("dataset").to_string();
                found.push(Departure { dataset, model: other.to_string(), first: depth });
            }
        }
    }
    found.sort_by_key(|departure| (shelf.dataset_index(&departure.dataset), shelf.model_index(&departure.model)));
    Ok(found)
}

/// A sentence for each model.
pub fn finding(departures: &[Departure], target: &str) -> String {
    let sentences = models(departures).into_iter().map(|model| {
        let here = || departures.iter().filter(|departure| departure.model == model);
        let mut by_depth: BTreeMap<Depth, Vec<String>> = BTreeMap::new();
        for departure in here() {
            if let Some(depth) = departure.settled() {
                by_depth.entry(depth).or_default().push(departure.dataset.clone());
            }
        }
        let settled: usize = by_depth.values().map(Vec::len).sum();
        let places: Vec<String> =
            by_depth.iter().map(|(depth, datasets)| format!("{} ({})", depth.phrase(), datasets.join(", "))).collect();
        let passing = here().filter(|d| matches!(d.first, Some((_, false)))).count();
        let mut sentence = match places.is_empty() {
            true => format!("{model} leaves {target} for good on none of {} datasets", here().count()),
            false => {
                let of = format!("on {settled} of {} datasets", here().count());
                format!("{model} leaves {target} for good {of}: at {}", listed(&places))
            }
        };
        if passing > 0 {
            sentence += &format!("; on {passing} they part and meet again");
        }
        sentence + "."
    });
    sentences.collect::<Vec<_>>().join(" ")
}

/// Where the model of most interest leaves the target: the one that does on most datasets, then the earliest in the
/// network, then the first of the pipeline.
pub fn headline(departures: &[Departure], along: Along) -> Option<Headline> {
    let target = along.lead.target;
    let all: Vec<(&str, Vec<Depth>, usize)> = models(departures)
        .into_iter()
        .map(|model| {
            let here = departures.iter().filter(|departure| departure.model == model);
            let mut depths: Vec<Depth> = here.clone().filter_map(Departure::settled).collect();
            depths.sort();
            (model, depths, here.count())
        })
        .collect();
    let middle = |depths: &[Depth]| depths.get(depths.len().saturating_sub(1) / 2).copied();
    let (model, depths, datasets) = all.iter().min_by_key(|(_, depths, _)| (Reverse(depths.len()), middle(depths)))?;
    let direction = along.lead.phrase_found();
    let Some(layer) = middle(depths) else {
        let names: Vec<String> = all.iter().map(|(model, ..)| model.to_string()).collect();
        let verb = if names.len() == 1 { "leaves" } else { "leave" };
        let meaning = format!("is where {} {verb} {target} for good along {direction}", listed(&names));
        return Some(Headline { value: "Nowhere".into(), meaning });
    };
    let range = match (depths.first(), depths.last()) {
        (Some(first), Some(last)) if first != last => {
            format!(
                "the median of {} of {datasets} datasets, from {} to {}",
                depths.len(),
                first.phrase(),
                last.phrase()
            )
        }
        _ => format!("on {} of {datasets} datasets", depths.len()),
    };
    let others: Vec<String> = all
        .iter()
        .filter(|(other, ..)| other != model)
        .map(|(other, depths, datasets)| match depths.len() {
            0 => format!("{other} does on none"),
            found => format!("{other} does on {found} of {datasets}"),
        })
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", listed(&others)) };
    let meaning = format!("is where {model} leaves {target} for good along {direction}: {range}{others}");
    Some(Headline { value: capital(&layer.phrase()), meaning })
}

/// The models in the order of the pipeline, in which the departures of a dataset are.
fn models(departures: &[Departure]) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for departure in departures {
        if !models.contains(&departure.model.as_str()) {
            models.push(&departure.model);
        }
    }
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departure(dataset: &str, first: Option<(u32, bool)>) -> Departure {
        let first = first.map(|(layer, stays)| (Depth::new(layer, "residual"), stays));
        Departure { dataset: dataset.into(), model: "misaligned".into(), first }
    }

    #[test]
    fn only_departures_that_last_count() {
        let found = [
            departure("a", Some((2, true))),
            departure("b", Some((0, false))),
            departure("c", None),
            departure("d", Some((4, true))),
            departure("e", Some((3, true))),
        ];
        assert_eq!(
            finding(&found, "instruct"),
            "misaligned leaves instruct for good on 3 of 5 datasets: at layer 2 (a), layer 3 (e) and layer 4 (d); on 1 they \
             part and meet again."
        );
        let headline = headline(&found, along()).unwrap();
        assert_eq!(headline.value, "Layer 3");
        assert_eq!(
            headline.meaning,
            "is where misaligned leaves instruct for good along instruct − base: the median of 3 of 5 datasets, from layer \
             2 to layer 4"
        );
    }

    fn along() -> Along<'static> {
        let lead = Lead { dataset: None, source: "base", target: "instruct" };
        Along { lead, kind: "svd", component: 1, position: "last" }
    }

    #[test]
    fn the_headline_is_of_the_model_that_leaves_most_often() {
        let control = |dataset: &str, first: Option<(u32, bool)>| Departure {
            model: "control".into(),
            ..departure(dataset, first)
        };
        let mut found = vec![departure("a", Some((2, true))), control("a", None), control("b", Some((1, true)))];
        found.push(departure("b", Some((3, true))));
        let said = headline(&found, along()).unwrap();
        assert_eq!(said.value, "Layer 2");
        assert!(
            said.meaning.contains("is where misaligned leaves") && said.meaning.ends_with("; control does on 1 of 2")
        );
        // As often: the one that leaves earlier.
        found[1] = control("a", Some((0, true)));
        assert!(headline(&found, along()).unwrap().meaning.contains("is where control leaves"));
        let nowhere = headline(&[departure("a", None), control("a", Some((1, false)))], along()).unwrap();
        assert_eq!(nowhere.value, "Nowhere");
        assert!(nowhere.meaning.starts_with("is where misaligned and control leave instruct"), "{}", nowhere.meaning);
    }
}
