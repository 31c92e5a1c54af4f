//! Projections by layer (Fig. 5, Sec. 4.3): where the models lie along a direction, and where they part.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::figure::{Figure, Panel, series_class, slug, sql};
use super::super::lines::{Lines, Point, Series, y_domain};
use super::super::page::Section;
use super::super::shelf::{Depth, Entry, Shelf, depth_axis};
use super::departures::{self, Along, Departure};
use super::{count_range, kind_phrase, position_phrase, projection_boxes};

/// Which direction of a node: kind, component, position.
type Choice = (String, u32, String);

/// One model's projections of one dataset by depth.
type Profile = BTreeMap<Depth, (Point, u32)>;

/// All profiles under one choice: (dataset, model, profile).
type Profiles = Vec<(String, String, Profile)>;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "projections",
        title: "Projections onto alignment directions",
        source: "Fig. 5, Sec. 4.3",
        intro: "A direction is where one model's hidden states differ from another's on the same examples. Each model's \
                states, projected onto it, say how far that model has gone along it at every layer.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("projection_summary", &["direction", "source", "target"]) {
        let [direction, source, target] = names[..] else { continue };
        for (choice, profiles) in by_choice(&entries)? {
            if choice.1 > 1 {
                continue;
            }
            let subject = Subject { direction, source, target, choice: &choice };
            let first = section.figures.is_empty();
            let departures = departures::read(shelf, subject.along())?;
            if first {
                section.headlines.extend(departures::headline(&departures, subject.along()));
            }
            section.figures.push(subject.figure(shelf, &profiles, &departures, !first));
        }
    }
    // Single examples of the first direction only: their table is the largest of all by far.
    if let Some((names, entries)) = shelf.grouped("projections", &["direction", "source", "target"]).first() {
        section.figures.extend(projection_boxes::figures(shelf, names, entries)?);
    }
    Ok(section)
}

fn by_choice(entries: &[&Entry]) -> Result<BTreeMap<Choice, Profiles>> {
    let mut choices: BTreeMap<Choice, Profiles> = BTreeMap::new();
    for entry in entries {
        let rows = entry.rows()?;
        let (kinds, positions, sites) = (rows.text("kind")?, rows.text("position")?, rows.text("site")?);
        let (components, layers, n) = (rows.counts("component")?, rows.counts("layer")?, rows.counts("n")?);
        let (means, lows, highs) = (rows.numbers("mean")?, rows.numbers("ci_low")?, rows.numbers("ci_high")?);
        let mut profiles: BTreeMap<Choice, Profile> = BTreeMap::new();
        for i in 0..rows.len() {
            let choice = (kinds[i].to_string(), components[i], positions[i].to_string());
            let point = Point { value: means[i], low: lows[i], high: highs[i] };
            profiles.entry(choice).or_default().insert(Depth::new(layers[i], sites[i]), (point, n[i]));
        }
        for (choice, profile) in profiles {
            let named = (entry.name("dataset").to_string(), entry.name("model").to_string(), profile);
            choices.entry(choice).or_default().push(named);
        }
    }
    Ok(choices)
}

struct Subject<'a> {
    direction: &'a str,
    source: &'a str,
    target: &'a str,
    choice: &'a Choice,
}

impl Subject<'_> {
    fn along(&self) -> Along<'_> {
        let (kind, component, position) = self.choice;
        let Subject { direction, source, target, .. } = *self;
        Along { direction, source, target, kind, component: *component, position }
    }

    fn figure(&self, shelf: &Shelf, profiles: &Profiles, departures: &[Departure], folded: bool) -> Figure {
        let (kind, component, position) = self.choice;
        let (axis, places) = depth_axis(profiles.iter().flat_map(|(_, _, profile)| profile.keys().copied()));
        let datasets = shelf.datasets_among(profiles.iter().map(|(dataset, _, _)| dataset));
        let mut plots: Vec<Lines> = Vec::new();
        for dataset in &datasets {
            let mut of_models: Vec<(&str, &Profile)> = profiles
                .iter()
                .filter(|(name, _, _)| name == dataset)
                .map(|(_, model, profile)| (model.as_str(), profile))
                .collect();
            of_models.sort_by_key(|(model, _)| shelf.model_index(model));
            let marks = departures.iter().filter(|departure| departure.dataset == *dataset).filter_map(|departure| {
                let place = places.get(&departure.settled()?)?;
                Some((*place, format!("{} leaves", departure.model)))
            });
            let series = of_models.iter().map(|(model, profile)| {
                let mut points = vec![Point::NONE; axis.len()];
                for (depth, (point, _)) in profile.iter() {
                    points[places[depth]] = *point;
                }
                let class = series_class(shelf.model_index(model));
                Series { name: model.to_string(), class, points, labelled: true }
            });
            plots.push(Lines {
                title: dataset.clone(),
                x_label: "layer".into(),
                y_label: "projection".into(),
                x: axis.iter().map(|depth| depth.label()).collect(),
                series: series.collect(),
                marks: marks.collect(),
                y_domain: None,
            });
        }
        let domain = y_domain(plots.iter().flat_map(|plot| &plot.series));
        let panels: Vec<Panel> =
            plots.into_iter().map(|plot| Lines { y_domain: Some(domain), ..plot }.panel()).collect();

        let Subject { direction, source, target, .. } = self;
        let counts = profiles.iter().flat_map(|(_, _, profile)| profile.values().map(|(_, n)| *n));
        let phrase = kind_phrase(kind, *component);
        Figure {
            name: slug(&format!("projection {direction} {source} {target} {position} {phrase}")),
            question: format!(
                "How far does each model lie along {target} − {source}, found on {direction} ({phrase})?"
            ),
            what: format!(
                "Mean scalar projection of the hidden state at {} onto the {phrase} of {target} − {source} on \
                 {direction}, by layer; one panel for each dataset, all on one scale.",
                position_phrase(position)
            ),
            n: format!("{} examples behind each point.", count_range(counts)),
            interval: "95 % bootstrap interval of the mean over examples (seeded).".into(),
            null: format!(
                "No difference: the models' intervals overlap. A dotted line marks the layer from which on a model's \
                 interval lies apart from {target}'s (table departure)."
            ),
            finding: departures::finding(departures, target),
            query: format!(
                "SELECT model, dataset, layer, site, n, mean, ci_low, ci_high FROM projection_summary WHERE \
                 direction = {} AND source = {} AND target = {} AND kind = {} AND component = {component} AND \
                 position = {} ORDER BY dataset, model, layer, site DESC",
                sql(direction),
                sql(source),
                sql(target),
                sql(kind),
                sql(position)
            ),
            table: "projection_summary",
            panels,
            folded,
            ..Figure::default()
        }
    }
}
