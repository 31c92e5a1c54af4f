//! Shared dimensions (Fig. 6, Sec. 4.4): whether datasets move a model along the same directions.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::{Headline, Section};
use super::super::shelf::{Depth, Entry, Shelf, depth_axis, spread};
use super::over_pairs::{Chance, Likeness};
use super::{capital, direction_strength, kind_phrase, median, over_pairs, position_phrase, subspaces};
use crate::chart::colour::ColourScale;
use crate::chart::figure::{Figure, slug, sql};
use crate::chart::heatmap::{Axis, Group, Heatmap};
use crate::chart::lines::Lines;
use crate::chart::scale::{fixed, number};

/// Heatmaps of single layers shown side by side; a deep model's are spread evenly.
const LAYERS_SHOWN: usize = 9;

#[derive(Debug, Clone, Copy)]
struct Cosine {
    depth: Depth,
    /// Dataset and component (from 1).
    a: (usize, u32),
    b: (usize, u32),
    value: f64,
    shuffled: Chance,
    random: Chance,
}

/// All cosines between datasets' directions of one kind at one position.
struct Comparison<'a> {
    source: &'a str,
    target: &'a str,
    kind: String,
    position: String,
    datasets: Vec<String>,
    cosines: Vec<Cosine>,
}

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "shared-dimensions",
        title: "Shared dimensions",
        source: "Fig. 6, Sec. 4.4",
        intro: "If fine-tuning moves every dataset's states along the same directions, the directions found on different \
                datasets point the same way. A cosine means something only beside what chance gives.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("direction_similarity", &["source", "target"]) {
        let [source, target] = names[..] else { continue };
        for comparison in comparisons(shelf, source, target, &entries)? {
            let folded = !section.figures.is_empty();
            if !folded {
                section.headlines.extend(comparison.headline());
            }
            section.figures.extend(comparison.figures(shelf, folded)?);
        }
    }
    section.figures.extend(subspaces::figures(shelf)?);
    section.figures.extend(direction_strength::figures(shelf)?);
    Ok(section)
}

fn comparisons<'a>(shelf: &Shelf, source: &'a str, target: &'a str, entries: &[&Entry]) -> Result<Vec<Comparison<'a>>> {
    let datasets =
        shelf.datasets_among(entries.iter().flat_map(|entry| [entry.name("dataset_a"), entry.name("dataset_b")]));
    let index = |name: &str| datasets.iter().position(|dataset| dataset == name).unwrap_or(0);
    let mut found: BTreeMap<(bool, String, String), Vec<Cosine>> = BTreeMap::new();
    for entry in entries {
        let (a, b) = (index(entry.name("dataset_a")), index(entry.name("dataset_b")));
        let rows = entry.rows()?;
        let (kinds, positions, sites) = (rows.text("kind")?, rows.text("position")?, rows.text("site")?);
        let (layers, first, second) = (rows.counts("layer")?, rows.counts("component_a")?, rows.counts("component_b")?);
        let values = rows.numbers("cosine")?;
        let chance = |mean: &str, high: &str| -> Result<Vec<Chance>> {
            let (means, highs) = (rows.numbers(mean)?, rows.numbers(high)?);
            Ok(means.into_iter().zip(highs).map(|(mean, high)| Chance { mean: mean.abs(), high }).collect())
        };
        let shuffled = chance("null_cosine", "null_high")?;
        let random = chance("random_cosine", "random_high")?;
        for i in 0..rows.len() {
            // SVD first: it is what the paper compares.
            let key = (kinds[i] != "svd", kinds[i].to_string(), positions[i].to_string());
            let depth = Depth::new(layers[i], sites[i]);
            let cosine = Cosine {
                depth,
                a: (a, first[i]),
                b: (b, second[i]),
                value: values[i],
                shuffled: shuffled[i],
                random: random[i],
            };
            found.entry(key).or_default().push(cosine);
        }
    }
    let comparisons = found.into_iter().map(|((_, kind, position), cosines)| Comparison {
        source,
        target,
        kind,
        position,
        datasets: datasets.clone(),
        cosines,
    });
    Ok(comparisons.collect())
}

impl Comparison<'_> {
    fn figures(&self, shelf: &Shelf, folded: bool) -> Result<Vec<Figure>> {
        let mut figures = vec![Figure { folded, ..self.by_layer(shelf) }, Figure { folded, ..self.maps(shelf)? }];
        if self.cosines.iter().any(|cosine| cosine.a.1 > 1) {
            figures.push(Figure { folded: true, ..self.all_components(shelf)? });
        }
        Ok(figures)
    }

    /// Cosines of the first directions of two different datasets.
    fn first_pairs(&self) -> impl Iterator<Item = &Cosine> {
        self.cosines.iter().filter(|cosine| cosine.a.1 == 1 && cosine.b.1 == 1 && cosine.a.0 != cosine.b.0)
    }

    fn likenesses(&self) -> Vec<Likeness> {
        let of = |cosine: &Cosine| Likeness {
            depth: cosine.depth,
            pair: (cosine.a.0, cosine.b.0),
            value: cosine.value.abs(),
            shuffled: cosine.shuffled,
            random: cosine.random,
        };
        self.first_pairs().map(of).collect()
    }

    fn headline(&self) -> Option<Headline> {
        let best = self.first_pairs().max_by(|a, b| a.value.abs().total_cmp(&b.value.abs()))?;
        let found = self.likenesses();
        let middle = median(found.iter().map(|likeness| likeness.value).collect());
        let null = median(found.iter().map(|likeness| likeness.shuffled.mean).collect());
        let above = match over_pairs::above(&found, |likeness| likeness.shuffled) {
            (_, 0) => String::new(),
            (count, tested) => format!("; above the null's 95 % quantile in {count} of {tested} comparisons"),
        };
        Some(Headline {
            value: format!("{} against {}", fixed(middle, 2), fixed(null, 2)),
            meaning: format!(
                "is the median |cosine| between datasets' first {} directions of {} − {} against that of shuffled pairs{above}. \
                 Largest: {} ({} and {}, {}; null {})",
                if self.kind == "svd" { "SVD" } else { "mean-difference" },
                self.target,
                self.source,
                number(best.value.abs()),
                self.datasets[best.a.0],
                self.datasets[best.b.0],
                best.depth.phrase(),
                number(best.shuffled.mean),
            ),
        })
    }

    /// What its figures share; `only` is the end of the condition that picks the rows drawn.
    fn figure(&self, shelf: &Shelf, what: &str, only: &str) -> Figure {
        let Comparison { source, target, kind, position, .. } = self;
        let sizes = shelf.sizes(&self.datasets);
        Figure {
            name: slug(&format!("directions {what} {source} {target} {kind} {position}")),
            n: match sizes.is_empty() {
                true => format!("{} datasets, one direction each.", self.datasets.len()),
                false => format!("{} datasets, each direction from all of its examples: {sizes}.", self.datasets.len()),
            },
            query: format!(
                "SELECT dataset_a, dataset_b, layer, site, component_a, component_b, cosine, null_cosine, null_high, \
                 random_cosine, random_high FROM direction_similarity WHERE source = {} AND target = {} AND kind = {} AND \
                 position = {}{only} ORDER BY layer, site DESC, dataset_a, dataset_b, component_a, component_b",
                sql(source),
                sql(target),
                sql(kind),
                sql(position)
            ),
            table: "direction_similarity",
            ..Figure::default()
        }
    }

    fn by_layer(&self, shelf: &Shelf) -> Figure {
        let (axis, places) = depth_axis(self.cosines.iter().map(|cosine| cosine.depth));
        let found = self.likenesses();
        let series = over_pairs::series(&found, &places);
        let lines = Lines {
            title: format!("{} − {}, {}", self.target, self.source, kind_phrase(&self.kind, 1)),
            x_label: "layer".into(),
            y_label: "|cosine|".into(),
            x: axis.iter().map(|depth| depth.label()).collect(),
            series,
            marks: Vec::new(),
            y_domain: Some((0.0, 1.0)),
        };
        Figure {
            question: format!(
                "Do different datasets share their direction {} − {} ({})?",
                self.target,
                self.source,
                kind_phrase(&self.kind, 1)
            ),
            what: format!(
                "|Cosine| between two datasets' {} of {} − {} at {}, by layer; one thin line for each pair of datasets.",
                kind_phrase(&self.kind, 1),
                self.target,
                self.source,
                position_phrase(&self.position),
            ),
            interval: "The band holds the middle half of the pairs of datasets; it is not a confidence interval.".into(),
            null: "Shuffled: the same states with source and target exchanged or mixed between pairs before the direction is \
                   taken. Random: directions with the covariance of the differences. Each with its mean, and up to its 95 % \
                   quantile (medians over pairs of datasets)."
                .into(),
            finding: over_pairs::finding(&found, "|cosine|"),
            panels: vec![lines.panel()],
            ..self.figure(shelf, "by layer", " AND component_a = 1 AND component_b = 1 AND dataset_a <> dataset_b")
        }
    }

    fn maps(&self, shelf: &Shelf) -> Result<Figure> {
        let (axis, _) = depth_axis(self.cosines.iter().map(|cosine| cosine.depth));
        let side = self.datasets.len();
        let mut panels = Vec::new();
        for depth in spread(&axis, LAYERS_SHOWN) {
            let mut values = vec![f32::NAN; side * side];
            (0..side).for_each(|i| values[i * side + i] = 1.0);
            for cosine in self.cosines.iter().filter(|cosine| cosine.depth == depth) {
                if cosine.a.1 == 1 && cosine.b.1 == 1 {
                    values[cosine.a.0 * side + cosine.b.0] = cosine.value as f32;
                    values[cosine.b.0 * side + cosine.a.0] = cosine.value as f32;
                }
            }
            let axis = Axis::of(self.datasets.clone());
            let heatmap = Heatmap {
                title: capital(&depth.phrase()),
                rows: axis.clone(),
                columns: axis,
                values,
                scale: ColourScale::Diverging { limit: 1.0 },
                width: 340.0,
            };
            panels.push(heatmap.panel()?);
        }
        let shown = if axis.len() > panels.len() {
            format!(" ({} of {} layers)", panels.len(), axis.len())
        } else {
            String::new()
        };
        Ok(Figure {
            question: format!(
                "Which datasets share their {} of {} − {}?",
                kind_phrase(&self.kind, 1),
                self.target,
                self.source
            ),
            what: format!(
                "Cosine between the datasets' directions at {}, one panel for each layer{shown}. The diagonal is 1 by \
                 definition.",
                position_phrase(&self.position)
            ),
            interval: "None: a cosine of two directions, each from all examples.".into(),
            null: "The figure above; for each pair, null_cosine and null_high in the table.".into(),
            panels,
            ..self.figure(shelf, "heatmap", " AND component_a = 1 AND component_b = 1")
        })
    }

    /// All components of all datasets against each other, at the depth where the first ones are most alike.
    fn all_components(&self, shelf: &Shelf) -> Result<Figure> {
        let (axis, _) = depth_axis(self.cosines.iter().map(|cosine| cosine.depth));
        let likeness = |depth: Depth| {
            let here = self.first_pairs().filter(|cosine| cosine.depth == depth);
            median(here.map(|cosine| cosine.value.abs()).collect())
        };
        let depth = axis.iter().copied().max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap_or(axis[0]);
        let components = self.cosines.iter().map(|cosine| cosine.a.1.max(cosine.b.1)).max().unwrap_or(1);
        let side = self.datasets.len() * components as usize;
        let mut values = vec![f32::NAN; side * side];
        let place = |(dataset, component): (usize, u32)| dataset * components as usize + component as usize - 1;
        (0..side).for_each(|i| values[i * side + i] = 1.0);
        for cosine in self.cosines.iter().filter(|cosine| cosine.depth == depth) {
            let (a, b) = (place(cosine.a), place(cosine.b));
            values[a * side + b] = cosine.value as f32;
            values[b * side + a] = cosine.value as f32;
        }
        let axis = Axis {
            labels: self
                .datasets
                .iter()
                .flat_map(|name| (1..=components).map(move |i| format!("{name}, component {i}")))
                .collect(),
            groups: self.datasets.iter().map(|name| Group { name: name.clone(), len: components as usize }).collect(),
        };
        let heatmap = Heatmap {
            title: capital(&depth.phrase()),
            rows: axis.clone(),
            columns: axis,
            values,
            scale: ColourScale::Diverging { limit: 1.0 },
            width: 460.0,
        };
        Ok(Figure {
            question: format!(
                "Which of the {components} strongest directions of {} − {} do datasets share?",
                self.target, self.source
            ),
            what: format!(
                "Cosine between every two directions at {} and {}, where the first ones are most alike; within a block, \
                 components in order of singular value. Blank: not in the table.",
                depth.phrase(),
                position_phrase(&self.position)
            ),
            interval: "None: a cosine of two directions, each from all examples.".into(),
            null: "null_cosine and null_high in the table.".into(),
            panels: vec![heatmap.panel()?],
            ..self.figure(shelf, "components", &depth.condition())
        })
    }
}
