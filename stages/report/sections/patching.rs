//! Activation patching: the source model's residual stream at one layer put into the target model.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::{Depth, Shelf, depth_axis};
use super::{count_range, median};
use crate::chart::figure::{Figure, Key, series_class, slug, sql};
use crate::chart::lines::{Lines, Point, Series, y_domain};
use crate::statistics::bootstrap::{RESAMPLES, Resamples, mean_with_interval};
use crate::statistics::moments::mean;

/// Seed of the bootstrap, as everywhere where a pipeline says nothing else.
const SEED: u64 = 0;

pub fn section(shelf: &Shelf) -> Result<Section> {
    let mut section = Section {
        id: "patching",
        title: "Activation patching",
        source: "",
        intro: "The residual stream of one model, put into another at one layer: where the other then behaves like the first, \
                what tells them apart has been computed by that layer.",
        ..Section::default()
    };
    for (names, entries) in shelf.grouped("patching", &["source", "target"]) {
        let [source, target] = names[..] else { continue };
        let mut metrics: BTreeMap<String, Vec<(&str, Effects)>> = BTreeMap::new();
        for entry in entries {
            let rows = entry.rows()?;
            let (found, layers) = (rows.text("metric")?, rows.counts("layer")?);
            let (values, changes) = (rows.numbers("value")?, rows.numbers("change")?);
            let (sources, targets) = (rows.numbers("clean_source")?, rows.numbers("clean_target")?);
            let mut effects: BTreeMap<&str, Effects> = BTreeMap::new();
            for i in 0..rows.len() {
                let effects = effects.entry(found[i]).or_default();
                let depth = Depth::new(layers[i], "residual");
                effects.patched.entry(depth).or_default().push(values[i]);
                effects.changes.entry(depth).or_default().push(changes[i]);
                // Once for each example, whatever the order of the rows.
                if layers[i] == *effects.first.get_or_insert(layers[i]) {
                    effects.clean.push((sources[i], targets[i]));
                }
            }
            for (metric, effects) in effects {
                metrics.entry(metric.to_string()).or_default().push((entry.name("dataset"), effects));
            }
        }
        // A dataset's loss first: it is about the whole answer.
        let mut order: Vec<&String> = metrics.keys().collect();
        order.sort_by_key(|metric| metric.as_str() != "loss");
        for metric in order {
            let effects = &metrics[metric];
            let folded = !section.figures.is_empty();
            section.figures.push(figure(shelf, [source, target, metric], effects, folded));
        }
        // The patches are the same whatever is measured.
        section.figures.extend(metrics.values().next().map(|effects| change_figure(shelf, [source, target], effects)));
    }
    Ok(section)
}

/// One metric on one dataset: a value for each example, patched at each layer and in the two clean models.
#[derive(Default)]
struct Effects {
    patched: BTreeMap<Depth, Vec<f64>>,
    /// How large each patch was beside what it replaced.
    changes: BTreeMap<Depth, Vec<f64>>,
    clean: Vec<(f64, f64)>,
    /// The layer of the first row.
    first: Option<u32>,
}

impl Effects {
    /// The patch that comes nearest to the source, and how much of the difference of the clean models it makes up.
    /// Nothing where these do not differ by their means' second digit.
    fn closed(&self, dataset: &str) -> Option<String> {
        let n = self.clean.len() as f64;
        let (source, target) =
            self.clean.iter().fold((0.0, 0.0), |sum, clean| (sum.0 + clean.0 / n, sum.1 + clean.1 / n));
        if (source - target).abs() < 0.01 * source.abs().max(target.abs()) {
            return None;
        }
        let share = |values: &[f64]| (mean(values) - target) / (source - target);
        let shares = self.patched.iter().map(|(depth, values)| (depth, share(values)));
        let (depth, share) = shares
            .filter(|(_, share)| share.is_finite())
            .min_by(|a, b| (a.1 - 1.0).abs().total_cmp(&(b.1 - 1.0).abs()))?;
        Some(format!("{:.0} % at {} ({dataset})", 100.0 * share, depth.phrase()))
    }
}

fn figure(shelf: &Shelf, names: [&str; 3], effects: &[(&str, Effects)], folded: bool) -> Figure {
    let [source, target, metric] = names;
    let (name, unit) = match metric {
        "logprob" => ("log-probability of the target token", "nats"),
        "entropy" => ("entropy of the next token", "nats"),
        "loss" => ("loss", "nats a token"),
        other => (other, ""),
    };
    let panels = effects.iter().map(|(dataset, effects)| {
        let (axis, _) = depth_axis(effects.patched.keys().copied());
        let point = |values: &[f64]| {
            let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            let resamples = Resamples::new(values.len(), RESAMPLES, SEED, 0);
            mean_with_interval(&values, &resamples).map_or(Point::NONE, |(value, interval)| Point {
                value,
                low: interval.low,
                high: interval.high,
            })
        };
        let clean = |of: fn(&(f64, f64)) -> f64| -> Vec<Point> {
            let values: Vec<f64> = effects.clean.iter().map(of).collect();
            vec![Point { low: f64::NAN, high: f64::NAN, ..point(&values) }; axis.len()]
        };
        let class = |model: &str| format!("{} dashed", series_class(shelf.model_index(model)));
        let patched = Series {
            name: "patched".into(),
            class: "ink".into(),
            points: effects.patched.values().map(|values| point(values)).collect(),
            labelled: true,
        };
        let lines = Lines {
            title: dataset.to_string(),
            x_label: "patched layer".into(),
            y_label: format!("{name} ({unit})").replace(" ()", ""),
            x: axis.iter().map(|depth| depth.label()).collect(),
            series: vec![
                Series { name: source.into(), class: class(source), points: clean(|c| c.0), labelled: true },
                Series { name: target.into(), class: class(target), points: clean(|c| c.1), labelled: true },
                patched,
            ],
            ..Lines::default()
        };
        lines.panel()
    });
    let panels = panels.collect();
    let closed: Vec<String> = effects.iter().filter_map(|(dataset, effects)| effects.closed(dataset)).collect();
    let finding = match closed.is_empty() {
        true => String::new(),
        false => format!("Of the way from the clean {target} to the clean {source}: {}.", closed.join("; ")),
    };
    let n = count_range(effects.iter().map(|(_, effects)| effects.clean.len() as u32));
    Figure {
        name: slug(&format!("patching {source} {target} {metric}")),
        question: format!("From which layer on does {target} with {source}'s stream behave like {source} ({metric})?"),
        what: format!(
            "Mean {name} of {target} with {source}'s residual stream put in at one layer; the dashed lines are the two clean \
             models."
        ),
        n: format!("{n} examples behind each point."),
        interval: format!("95 % bootstrap interval of the mean over examples ({RESAMPLES} resamples, seeded)."),
        null: format!("No effect: the line of the clean {target}."),
        finding,
        query: format!(
            "SELECT dataset, layer, AVG(value) AS patched, AVG(clean_source) AS clean_source, AVG(clean_target) AS \
             clean_target, COUNT(*) AS n FROM patching WHERE source = {} AND target = {} AND metric = {} GROUP BY dataset, \
             layer ORDER BY dataset, layer",
            sql(source),
            sql(target),
            sql(metric)
        ),
        table: "patching",
        panels,
        folded,
        ..Figure::default()
    }
}

/// How large the patches were: a patch that changes nothing can have no effect.
fn change_figure(shelf: &Shelf, names: [&str; 2], effects: &[(&str, Effects)]) -> Figure {
    let [source, target] = names;
    let (axis, places) = depth_axis(effects.iter().flat_map(|(_, effects)| effects.changes.keys().copied()));
    let series: Vec<Series> = effects
        .iter()
        .map(|(dataset, effects)| {
            let mut points = vec![Point::NONE; axis.len()];
            for (depth, changes) in &effects.changes {
                points[places[depth]] = Point::bare(median(changes.clone()));
            }
            let class = series_class(shelf.dataset_index(dataset));
            Series { name: dataset.to_string(), class, points, labelled: false }
        })
        .collect();
    let all = || effects.iter().flat_map(|(_, effects)| effects.changes.values().flatten());
    let idle = all().filter(|change| **change == 0.0).count();
    let lines = Lines {
        x_label: "patched layer".into(),
        y_label: "size of the patch".into(),
        x: axis.iter().map(|depth| depth.label()).collect(),
        y_domain: Some((0.0, y_domain(&series).1)),
        ..Lines::default()
    };
    Figure {
        name: slug(&format!("patching {source} {target} change")),
        question: format!("How much did putting {source}'s stream into {target} change?"),
        what: "Length of the difference between the two streams beside that of the one replaced, by layer: the median over \
               examples."
            .into(),
        interval: "None: a median; the table has every example.".into(),
        null: "0: the patch changed nothing, and can have no effect.".into(),
        n: format!("{} examples.", count_range(effects.iter().map(|(_, effects)| effects.clean.len() as u32))),
        finding: match idle {
            0 => "Every patch changed something.".into(),
            _ => format!("{idle} of {} patches changed nothing.", all().count()),
        },
        query: format!(
            "SELECT dataset, layer, MEDIAN(change) AS change, COUNT(*) AS n FROM patching WHERE source = {} AND target = {} \
             GROUP BY dataset, layer ORDER BY dataset, layer",
            sql(source),
            sql(target)
        ),
        table: "patching",
        legend: series.iter().map(|series| Key { name: series.name.clone(), class: series.class.clone() }).collect(),
        panels: vec![Lines { series, ..lines }.panel()],
        folded: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_way_that_a_patch_closes() {
        let at = |layer: u32| Depth { layer, normed: false };
        let clean = vec![(1.0, 3.0), (3.0, 5.0)];
        let patched = [(at(0), vec![3.0, 5.0]), (at(1), vec![1.4, 3.6])].into_iter().collect();
        let effects = Effects { patched, clean, ..Effects::default() };
        // Clean means 2 and 4, patched at layer 1: 2.5.
        assert_eq!(effects.closed("code").as_deref(), Some("75 % at layer 1 (code)"));
        let same = Effects { clean: vec![(1.0, 1.001)], ..effects };
        assert_eq!(same.closed("code"), None);
    }
}
