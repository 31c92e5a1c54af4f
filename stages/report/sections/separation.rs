//! Signal strength and distance: how far two models' projections, and two datasets' mean states, lie apart.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::{Headline, Section};
use super::super::shelf::{Depth, Entry, Shelf, depth_axis};
use super::lead::{Lead, leads};
use super::similarity::{self, Subject};
use super::{kind_phrase, listed, position_phrase};
use crate::chart::colour::ColourScale;
use crate::chart::figure::{Figure, Key, series_class, slug, sql};
use crate::chart::heatmap::{Axis, Heatmap};
use crate::chart::lines::{Lines, Point, Series, y_domain};
use crate::chart::scale::number;

/// Panels of one figure; more pairs of datasets than these are in the heatmap.
const PANELS: usize = 12;

/// A value with its interval for each depth.
type Profile = BTreeMap<Depth, Point>;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "separation",
        title: "Separation and distance",
        source: "Sec. 4.3",
        intro: "Two models are told apart along a direction when their projections differ by more than each of them \
                spreads; two datasets, when their mean hidden states point different ways.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("separation", &["source", "target"]) {
        let [source, target] = names[..] else { continue };
        let found = separations(&entries)?;
        let pairs: Vec<(&str, &str)> =
            entries.iter().map(|entry| (entry.name("direction"), entry.name("dataset"))).collect();
        for lead in leads(&pairs, source, target) {
            for ((kind, component, position), all) in found.iter().filter(|((_, component, _), _)| *component == 1) {
                let here: Vec<&Pair> = all.iter().filter(|pair| lead.covers(pair.direction, pair.dataset)).collect();
                if here.is_empty() {
                    continue;
                }
                let folded = !section.figures.is_empty();
                if !folded {
                    section.headlines.extend(strongest(&here, lead));
                }
                let phrase = kind_phrase(kind, *component);
                section.figures.push(separation_figure(shelf, lead, [kind, &phrase, position], &here, folded));
            }
        }
    }
    section.figures.extend(distance_figures(shelf)?);
    let subject = Subject { of: "hidden_state", name: "hidden states" };
    section.figures.extend(similarity::figures(shelf, &subject)?);
    Ok(section)
}

/// One dataset's two models: score by depth, and at how many depths they differ beyond chance.
struct Pair<'a> {
    direction: &'a str,
    dataset: &'a str,
    models: (&'a str, &'a str),
    profile: Profile,
    significant: usize,
}

type Separations<'a> = Vec<Pair<'a>>;

fn separations<'a>(entries: &[&'a Entry]) -> Result<BTreeMap<(String, u32, String), Separations<'a>>> {
    let mut found: BTreeMap<(String, u32, String), Separations> = BTreeMap::new();
    for entry in entries {
        let rows = entry.rows()?;
        let (kinds, positions, sites) = (rows.text("kind")?, rows.text("position")?, rows.text("site")?);
        let (components, layers) = (rows.counts("component")?, rows.counts("layer")?);
        let (scores, lows, highs) = (rows.numbers("score")?, rows.numbers("ci_low")?, rows.numbers("ci_high")?);
        let p_values = rows.numbers("p_holm")?;
        let mut profiles: BTreeMap<(String, u32, String), (Profile, usize)> = BTreeMap::new();
        // Where examples have no spread there is no score, and a difference, even if it is one, is rounding.
        for i in (0..rows.len()).filter(|&i| scores[i].is_finite()) {
            let choice = (kinds[i].to_string(), components[i], positions[i].to_string());
            let point = Point { value: scores[i], low: lows[i], high: highs[i] };
            let (profile, significant) = profiles.entry(choice).or_default();
            profile.insert(Depth::new(layers[i], sites[i]), point);
            *significant += (p_values[i] < 0.05) as usize;
        }
        for (choice, (profile, significant)) in profiles {
            let models = (entry.name("model_a"), entry.name("model_b"));
            let (direction, dataset) = (entry.name("direction"), entry.name("dataset"));
            found.entry(choice).or_default().push(Pair { direction, dataset, models, profile, significant });
        }
    }
    Ok(found)
}

/// The score whose interval stays furthest from 0: of a score without an interval nothing is known. Of the target and
/// a third model, if there is one: source and target lie apart along their own direction by construction.
fn strongest(separations: &[&Pair], lead: Lead) -> Option<Headline> {
    let third = |pair: &Pair| {
        let (a, b) = pair.models;
        (a == lead.target || b == lead.target) && a != lead.source && b != lead.source
    };
    let any = separations.iter().any(|pair| third(pair));
    let all = separations
        .iter()
        .filter(|pair| !any || third(pair))
        .flat_map(|pair| pair.profile.iter().map(move |(depth, point)| (point, depth, pair)));
    let sure = |point: &Point| if point.low > 0.0 { point.low } else { -point.high };
    let away = all.filter(|(point, ..)| point.value.is_finite() && (point.low > 0.0 || point.high < 0.0));
    let (point, depth, pair) = away.max_by(|x, y| sure(x.0).total_cmp(&sure(y.0)))?;
    let (a, b) = pair.models;
    Some(Headline {
        value: number(point.value),
        meaning: format!(
            "is the clearest separation score, {b} against {a} on {} at {}, along {}; 95 % interval {} to {}",
            pair.dataset,
            depth.phrase(),
            lead.phrase_found(),
            number(point.low),
            number(point.high)
        ),
    })
}

fn separation_figure(
    shelf: &Shelf,
    lead: Lead,
    [kind, phrase, position]: [&str; 3],
    separations: &[&Pair],
    folded: bool,
) -> Figure {
    let (axis, places) = depth_axis(separations.iter().flat_map(|pair| pair.profile.keys().copied()));
    let mut pairs: Vec<(&str, &str)> = separations.iter().map(|pair| pair.models).collect();
    pairs.sort_by_key(|(a, b)| (shelf.model_index(a), shelf.model_index(b)));
    pairs.dedup();
    let plots: Vec<Lines> = shelf
        .datasets_among(separations.iter().map(|pair| pair.dataset))
        .into_iter()
        .map(|dataset| {
            let here = separations.iter().filter(|pair| pair.dataset == dataset);
            let series = here.map(|Pair { models, profile, .. }| {
                let (a, b) = models;
                let index = pairs.iter().position(|pair| pair == models).unwrap_or(0);
                let class = series_class(index);
                Series { name: format!("{b} − {a}"), class, points: along(profile, &places), labelled: false }
            });
            Lines {
                title: dataset.clone(),
                x_label: "layer".into(),
                y_label: "separation score".into(),
                x: axis.iter().map(|depth| depth.label()).collect(),
                series: series.collect(),
                ..Lines::default()
            }
        })
        .collect();
    let domain = y_domain(plots.iter().flat_map(|plot| &plot.series));
    let legend =
        pairs.iter().enumerate().map(|(i, (a, b))| Key { name: format!("{b} − {a}"), class: series_class(i) });
    let datasets = shelf.datasets_among(separations.iter().map(|pair| pair.dataset));
    let tests = pairs.iter().map(|(a, b)| {
        let here = || separations.iter().filter(|pair| pair.models == (*a, *b));
        let significant: usize = here().map(|pair| pair.significant).sum();
        let all: usize = here().map(|pair| pair.profile.len()).sum();
        format!("{b} − {a} in {significant} of {all}")
    });
    let tests = listed(&tests.collect::<Vec<_>>());
    Figure {
        name: slug(&format!("separation {} {position} {phrase}", lead.name())),
        question: format!("How clearly does {} tell the models apart ({phrase})?", lead.phrase_found()),
        what: format!(
            "Separation score (mean_b − mean_a) / (std_a + std_b) of two models' projections at {} onto the {phrase}{}, by \
             layer; one panel for each dataset. Where examples have no spread, as at the embedding of one token, there is \
             no score.",
            position_phrase(position),
            if lead.dataset.is_none() { " found on the same dataset" } else { "" }
        ),
        n: format!("Every example of the dataset under both models: {}.", shelf.sizes(&datasets)),
        interval: "95 % bootstrap interval over examples (seeded).".into(),
        null:
            "0: the two models' mean projections are equal. The test exchanges the models' labels within examples; its \
               p-values are corrected over the layers (Holm)."
                .into(),
        finding: format!("Different at p < 0.05 after correction, of datasets and layers: {tests}."),
        query: format!(
            "SELECT dataset, model_a, model_b, layer, site, score, ci_low, ci_high, p_holm FROM separation WHERE {} AND kind \
             = {} AND component = 1 AND position = {} ORDER BY dataset, model_a, model_b, layer, site DESC",
            lead.condition(),
            sql(kind),
            sql(position)
        ),
        table: "separation",
        legend: legend.collect(),
        panels: plots.into_iter().map(|plot| Lines { y_domain: Some(domain), ..plot }.panel()).collect(),
        folded,
    }
}

fn along(profile: &Profile, places: &BTreeMap<Depth, usize>) -> Vec<Point> {
    let mut points = vec![Point::NONE; places.len()];
    for (depth, point) in profile {
        points[places[depth]] = *point;
    }
    points
}

/// (model, dataset_a, dataset_b, distance by depth) at one position.
type Distances<'a> = Vec<(&'a str, &'a str, &'a str, Profile)>;

fn distance_figures(shelf: &Shelf) -> Result<Vec<Figure>> {
    let mut found: BTreeMap<String, Distances> = BTreeMap::new();
    for entry in shelf.of("distance") {
        let rows = entry.rows()?;
        let (positions, sites, layers) = (rows.text("position")?, rows.text("site")?, rows.counts("layer")?);
        let (values, lows, highs) =
            (rows.numbers("cosine_distance")?, rows.numbers("ci_low")?, rows.numbers("ci_high")?);
        let mut profiles: BTreeMap<String, Profile> = BTreeMap::new();
        for i in 0..rows.len() {
            let profile = profiles.entry(positions[i].to_string()).or_default();
            let point = Point { value: values[i], low: lows[i], high: highs[i] };
            profile.insert(Depth::new(layers[i], sites[i]), point);
        }
        for (position, profile) in profiles {
            let named = (entry.name("model"), entry.name("dataset_a"), entry.name("dataset_b"), profile);
            found.entry(position).or_default().push(named);
        }
    }
    let mut figures = Vec::new();
    for (i, (position, distances)) in found.iter().enumerate() {
        figures.push(distance_lines(shelf, position, distances, i > 0));
        figures.push(distance_maps(shelf, position, distances)?);
    }
    Ok(figures)
}

fn distance_figure(shelf: &Shelf, what: &str, position: &str, distances: &Distances, only: Option<Depth>) -> Figure {
    let datasets = shelf.datasets_among(distances.iter().flat_map(|(_, a, b, _)| [a, b]));
    Figure {
        name: slug(&format!("distance {what} {position}")),
        n: format!("Mean states over all examples: {}.", shelf.sizes(&datasets)),
        query: format!(
            "SELECT model, dataset_a, dataset_b, layer, site, cosine_distance, ci_low, ci_high FROM distance WHERE position = {}{} \
             ORDER BY dataset_a, dataset_b, model, layer, site DESC",
            sql(position),
            only.map_or(String::new(), Depth::condition)
        ),
        table: "distance",
        ..Figure::default()
    }
}

fn distance_lines(shelf: &Shelf, position: &str, distances: &Distances, folded: bool) -> Figure {
    let (axis, places) = depth_axis(distances.iter().flat_map(|(.., profile)| profile.keys().copied()));
    let mut pairs: Vec<(&str, &str)> = distances.iter().map(|(_, a, b, _)| (*a, *b)).collect();
    pairs.sort_by_key(|(a, b)| (shelf.dataset_index(a), shelf.dataset_index(b)));
    pairs.dedup();
    let all = pairs.len();
    if all > PANELS {
        let first = pairs[0].0;
        pairs.retain(|(a, b)| *a == first || *b == first);
        pairs.truncate(PANELS);
    }
    let plots: Vec<Lines> = pairs
        .iter()
        .map(|pair| {
            let mut here: Vec<_> = distances.iter().filter(|(_, a, b, _)| (*a, *b) == *pair).collect();
            here.sort_by_key(|(model, ..)| shelf.model_index(model));
            let series = here.iter().map(|(model, _, _, profile)| Series {
                name: model.to_string(),
                class: series_class(shelf.model_index(model)),
                points: along(profile, &places),
                labelled: true,
            });
            Lines {
                title: format!("{} and {}", pair.0, pair.1),
                x_label: "layer".into(),
                y_label: "cosine distance".into(),
                x: axis.iter().map(|depth| depth.label()).collect(),
                series: series.collect(),
                ..Lines::default()
            }
        })
        .collect();
    let domain = y_domain(plots.iter().flat_map(|plot| &plot.series));
    let shown = if pairs.len() < all {
        format!("; {} of {all} pairs, the others in the next figure", pairs.len())
    } else {
        String::new()
    };
    Figure {
        question: "How far apart do the models hold two datasets?".into(),
        what: format!(
            "Cosine distance between the mean hidden states of two datasets at {}, by layer{shown}.",
            position_phrase(position)
        ),
        panels: plots.into_iter().map(|plot| Lines { y_domain: Some(domain), ..plot }.panel()).collect(),
        interval: "95 % bootstrap interval over the examples of both datasets (seeded).".into(),
        null: "0: the two mean states point the same way.".into(),
        folded,
        ..distance_figure(shelf, "by layer", position, distances, None)
    }
}

/// One heatmap of all pairs for each model, at the last layer of the residual stream.
fn distance_maps(shelf: &Shelf, position: &str, distances: &Distances) -> Result<Figure> {
    let (axis, _) = depth_axis(distances.iter().flat_map(|(.., profile)| profile.keys().copied()));
    let depth = axis.iter().rev().find(|depth| !depth.normed).or(axis.last()).copied();
    let depth = depth.unwrap_or(Depth { layer: 0, normed: false });
    let datasets = shelf.datasets_among(distances.iter().flat_map(|(_, a, b, _)| [a, b]));
    let place = |name: &str| datasets.iter().position(|dataset| dataset == name).unwrap_or(0);
    let here = || distances.iter().filter_map(|(.., profile)| Some(profile.get(&depth)?.value));
    let scale = ColourScale::Sequential { lo: 0.0, hi: here().fold(f64::MIN_POSITIVE, f64::max) };
    let mut models: Vec<&str> = distances.iter().map(|(model, ..)| *model).collect();
    models.sort_by_key(|model| shelf.model_index(model));
    models.dedup();
    let mut panels = Vec::new();
    for model in models {
        let mut values = vec![f32::NAN; datasets.len() * datasets.len()];
        (0..datasets.len()).for_each(|i| values[i * datasets.len() + i] = 0.0);
        for (_, a, b, profile) in distances.iter().filter(|(name, ..)| *name == model) {
            let value = profile.get(&depth).map_or(f32::NAN, |point| point.value as f32);
            values[place(a) * datasets.len() + place(b)] = value;
            values[place(b) * datasets.len() + place(a)] = value;
        }
        let axis = Axis::of(datasets.clone());
        let heatmap = Heatmap { title: model.into(), rows: axis.clone(), columns: axis, values, scale, width: 340.0 };
        panels.push(heatmap.panel()?);
    }
    Ok(Figure {
        question: format!("How far apart does each model hold all the datasets, at {}?", depth.phrase()),
        what: format!("Cosine distance between the datasets' mean hidden states at {}.", position_phrase(position)),
        interval: "In the figure above, by layer.".into(),
        null: "0: the two mean states point the same way.".into(),
        panels,
        folded: true,
        ..distance_figure(shelf, "heatmap", position, distances, Some(depth))
    })
}
