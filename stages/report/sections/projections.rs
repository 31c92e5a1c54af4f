//! Projections by layer (Fig. 5, Sec. 4.3): where the models lie along a direction, and where they part.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::{Depth, Entry, Shelf, depth_axis};
use super::departures::{self, Along, Departure};
use super::lead::{Lead, leads};
use super::{count_range, kind_phrase, position_phrase, projection_boxes};
use crate::chart::figure::{Figure, Panel, series_class, slug, sql};
use crate::chart::lines::{Lines, Point, Series, y_domain};

/// Which direction of a node: kind, component, position.
type Choice = (String, u32, String);

/// One model's projections of one dataset on one direction, by depth.
struct Profile<'a> {
    direction: &'a str,
    dataset: &'a str,
    model: &'a str,
    points: BTreeMap<Depth, (Point, u32)>,
}

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "projections",
        title: "Projections onto alignment directions",
        source: "Fig. 5, Sec. 4.3",
        intro: "A direction is where one model's hidden states differ from another's on the same examples, or one dataset's \
                from another's within a model. Each model's states, projected onto it, say how far that model has gone \
                along it at every layer.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("projection_summary", &["source", "target"]) {
        let [source, target] = names[..] else { continue };
        let choices = by_choice(&entries)?;
        let pairs: Vec<(&str, &str)> =
            entries.iter().map(|entry| (entry.name("direction"), entry.name("dataset"))).collect();
        for lead in leads(&pairs, source, target) {
            for (choice, profiles) in choices.iter().filter(|(choice, _)| choice.1 == 1) {
                let here = |profile: &&Profile| lead.covers(profile.direction, profile.dataset);
                let profiles: Vec<&Profile> = profiles.iter().filter(here).collect();
                if profiles.is_empty() {
                    continue;
                }
                let subject = Subject { lead, choice };
                let first = section.figures.is_empty();
                let departures = departures::read(shelf, subject.along())?;
                if first {
                    section.headlines.extend(departures::headline(&departures, subject.along()));
                }
                section.figures.push(subject.figure(shelf, &profiles, &departures, !first));
            }
        }
    }
    // Right after the means whose spread they show.
    let boxes = projection_boxes::figures(shelf)?;
    let after = section.figures.len().min(1);
    section.figures.splice(after..after, boxes);
    Ok(section)
}

fn by_choice<'a>(entries: &[&'a Entry]) -> Result<BTreeMap<Choice, Vec<Profile<'a>>>> {
    let mut choices: BTreeMap<Choice, Vec<Profile>> = BTreeMap::new();
    for entry in entries {
        let rows = entry.rows()?;
        let (kinds, positions, sites) = (rows.text("kind")?, rows.text("position")?, rows.text("site")?);
        let (components, layers, n) = (rows.counts("component")?, rows.counts("layer")?, rows.counts("n")?);
        let (means, lows, highs) = (rows.numbers("mean")?, rows.numbers("ci_low")?, rows.numbers("ci_high")?);
        let mut found: BTreeMap<Choice, BTreeMap<Depth, (Point, u32)>> = BTreeMap::new();
        for i in 0..rows.len() {
            let choice = (kinds[i].to_string(), components[i], positions[i].to_string());
            let point = Point { value: means[i], low: lows[i], high: highs[i] };
            found.entry(choice).or_default().insert(Depth::new(layers[i], sites[i]), (point, n[i]));
        }
        for (choice, points) in found {
            let (direction, dataset) = (entry.name("direction"), entry.name("dataset"));
            choices.entry(choice).or_default().push(Profile { direction, dataset, model: entry.name("model"), points });
        }
    }
    Ok(choices)
}

struct Subject<'a> {
    lead: Lead<'a>,
    choice: &'a Choice,
}

impl Subject<'_> {
    fn along(&self) -> Along<'_> {
        let (kind, component, position) = self.choice;
        Along { lead: self.lead, kind, component: *component, position }
    }

    fn plots(&self, shelf: &Shelf, profiles: &[&Profile], departures: &[Departure]) -> Vec<Panel> {
        let (axis, places) = depth_axis(profiles.iter().flat_map(|profile| profile.points.keys().copied()));
        let mut plots: Vec<Lines> = Vec::new();
        for dataset in shelf.datasets_among(profiles.iter().map(|profile| profile.dataset)) {
            let mut of_models: Vec<&&Profile> = profiles.iter().filter(|profile| profile.dataset == dataset).collect();
            of_models.sort_by_key(|profile| shelf.model_index(profile.model));
            let marks = departures.iter().filter(|departure| departure.dataset == dataset).filter_map(|departure| {
                let place = places.get(&departure.settled()?)?;
                Some((*place, format!("{} leaves", departure.model)))
            });
            let series = of_models.iter().map(|profile| {
                let mut points = vec![Point::NONE; axis.len()];
                for (depth, (point, _)) in &profile.points {
                    points[places[depth]] = *point;
                }
                let class = series_class(shelf.model_index(profile.model));
                Series { name: profile.model.to_string(), class, points, labelled: true }
            });
            plots.push(Lines {
                x_label: "layer".into(),
                y_label: "projection".into(),
                x: axis.iter().map(|depth| depth.label()).collect(),
                series: series.collect(),
                marks: marks.collect(),
                y_domain: None,
                title: dataset,
            });
        }
        let domain = y_domain(plots.iter().flat_map(|plot| &plot.series));
        plots.into_iter().map(|plot| Lines { y_domain: Some(domain), ..plot }.panel()).collect()
    }

    fn figure(&self, shelf: &Shelf, profiles: &[&Profile], departures: &[Departure], folded: bool) -> Figure {
        let (kind, component, position) = self.choice;
        let target = self.lead.target;
        let counts = profiles.iter().flat_map(|profile| profile.points.values().map(|(_, n)| *n));
        let phrase = kind_phrase(kind, *component);
        let own = match self.lead.dataset {
            None => "; one panel for each dataset, on the direction found on that dataset, all on one scale",
            Some(_) => "; one panel for each dataset, all on one scale",
        };
        Figure {
            name: slug(&format!("projection {} {position} {phrase}", self.lead.name())),
            question: format!("How far does each model lie along {} ({phrase})?", self.lead.phrase_found()),
            what: format!(
                "Mean scalar projection of the hidden state at {} onto the {phrase} of {}, by layer{own}.",
                position_phrase(position),
                self.lead.phrase_found()
            ),
            n: format!("{} examples behind each point.", count_range(counts)),
            interval: "95 % bootstrap interval of the mean over examples (seeded).".into(),
            null: format!(
                "No difference: the models' intervals overlap. A dotted line marks the layer from which on a model's \
                 interval lies apart from {target}'s (table departure).{}",
                self.lead.built_in()
            ),
            finding: departures::finding(departures, target),
            query: format!(
                "SELECT model, dataset, layer, site, n, mean, ci_low, ci_high FROM projection_summary WHERE {} AND kind = {} \
                 AND component = {component} AND position = {} ORDER BY dataset, model, layer, site DESC",
                self.lead.condition(),
                sql(kind),
                sql(position)
            ),
            table: "projection_summary",
            panels: self.plots(shelf, profiles, departures),
            folded,
            ..Figure::default()
        }
    }
}
