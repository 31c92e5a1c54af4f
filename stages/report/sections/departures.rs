//! Where another model's projections leave the target's, as the `departure` table has it.

use anyhow::Result;

use super::super::page::Headline;
use super::super::shelf::{Depth, Shelf};
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
    pub direction: &'a str,
    pub source: &'a str,
    pub target: &'a str,
    pub kind: &'a str,
    pub component: u32,
    pub position: &'a str,
}

/// The departures from the target of all models but the source, in the pipeline's order of datasets and models.
pub fn read(shelf: &Shelf, along: Along) -> Result<Vec<Departure>> {
    let mut found = Vec::new();
    for entry in shelf.of("departure") {
        let names = [entry.name("direction"), entry.name("source"), entry.name("target")];
        let other = match (entry.name("model_a"), entry.name("model_b")) {
            (a, b) if a == along.target => b,
            (a, b) if b == along.target => a,
            _ => continue,
        };
        if names != [along.direction, along.source, along.target] || other == along.source {
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
        let places: Vec<String> =
            here().filter_map(|d| Some(format!("{} ({})", d.settled()?.phrase(), d.dataset))).collect();
        let passing = here().filter(|d| matches!(d.first, Some((_, false)))).count();
        let mut sentence = match places.is_empty() {
            true => format!("{model} leaves {target} for good on none of {} datasets", here().count()),
            false => {
                let of = format!("on {} of {} datasets", places.len(), here().count());
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

/// The layer at which the last model of the pipeline leaves the target, in the middle of the datasets.
pub fn headline(departures: &[Departure], along: Along) -> Option<Headline> {
    let model = models(departures).pop()?;
    let here: Vec<&Departure> = departures.iter().filter(|departure| departure.model == model).collect();
    let mut depths: Vec<Depth> = here.iter().filter_map(|departure| departure.settled()).collect();
    depths.sort();
    let Along { direction, source, target, .. } = along;
    let what = format!("{model} leaves {target} along {target} − {source} ({direction} direction)");
    Some(match depths[..] {
        [] => Headline { value: "Nowhere".into(), meaning: format!("is where {what}, on {} datasets", here.len()) },
        [only] => {
            let meaning = format!("is where {what}, on 1 of {} datasets", here.len());
            Headline { value: capital(&only.phrase()), meaning }
        }
        [first, .., last] => Headline {
            value: capital(&depths[(depths.len() - 1) / 2].phrase()),
            meaning: format!(
                "is where {what}: the median over {} of {} datasets, from {} to {}",
                depths.len(),
                here.len(),
                first.phrase(),
                last.phrase()
            ),
        },
    })
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
            "misaligned leaves instruct for good on 3 of 5 datasets: at layer 2 (a), layer 4 (d) and layer 3 (e); on 1 they \
             part and meet again."
        );
        let along =
            Along { direction: "a", source: "base", target: "instruct", kind: "svd", component: 1, position: "last" };
        let headline = headline(&found, along).unwrap();
        assert_eq!(headline.value, "Layer 3");
        assert!(headline.meaning.ends_with("the median over 3 of 5 datasets, from layer 2 to layer 4"));
    }
}
