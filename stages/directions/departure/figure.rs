//! The layer from which on each model's projections lie apart from the target's.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::Result;

use crate::chart::figure::sql;
use crate::chart::{Figure, Name, Plot, Point};
use crate::contract::figures::section::PROJECTIONS;
use crate::contract::figures::words::{capital, listed};
use crate::contract::figures::{Drawn, Figures, Headline, Level, Reads, Row, Rows, Tables};
use crate::contract::site::Site;
use crate::directions::named_direction::NamedDirection;
use crate::directions::verdict::{fit, fitted};

pub const FIGURES: Figures = Figures {
    section: &PROJECTIONS,
    level: Level::Detail,
    reads: &[Reads {
        stage: "departure",
        columns: &["kind", "component", "position", "layer", "site", "folds", "fitted", "stays"],
    }],
    draw,
};

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("departure")?;
    let mut drawn = Drawn::default();
    for direction in NamedDirection::all(&all) {
        let NamedDirection { source, target, .. } = &direction;
        // That the source leaves the target is what the direction is; the question is about the others.
        let condition = {
            let [source, target] = [source, target].map(|name| sql(name));
            format!("(model_a = {target} AND model_b <> {source} OR model_b = {target} AND model_a <> {source})")
        };
        let rows =
            direction.rows(&all).keep_if(&condition, |row| other(row, target).is_some_and(|name| name != source));
        if rows.is_empty() {
            continue;
        }
        let models = models(&rows, target);
        if drawn.figures.is_empty() {
            drawn.headlines.extend(headline(&direction, &models, fitted(&rows)));
        }
        drawn.figures.push(figure(&direction, &rows, &models));
    }
    Ok(drawn)
}

/// The model that is compared with the target.
fn other<'a>(row: Row<'a>, target: &str) -> Option<&'a str> {
    match (row.text("model_a"), row.text("model_b")) {
        (a, b) if a == target => Some(b),
        (a, b) if b == target => Some(a),
        _ => None,
    }
}

/// Where one model leaves the target.
#[derive(Debug, Clone)]
struct Leaves {
    model: Name,
    datasets: usize,
    /// The datasets on which it leaves and stays apart, from the earliest layer on.
    settled: Vec<(Site, String)>,
    /// The number of datasets on which they differ at some layer and not at all later ones.
    passing: usize,
}

/// In the order of the pipeline.
fn models(rows: &Rows, target: &str) -> Vec<Leaves> {
    let mut found: BTreeMap<Name, Leaves> = BTreeMap::new();
    for row in rows.iter() {
        let model = if row.text("model_a") == target { row.name("model_b") } else { row.name("model_a") };
        let empty = Leaves { model: model.clone(), datasets: 0, settled: Vec::new(), passing: 0 };
        let leaves = found.entry(model).or_insert(empty);
        leaves.datasets += 1;
        match row.number("layer").is_finite() {
            true if row.flag("stays") => leaves.settled.push((row.site(), row.text("dataset").to_string())),
            true => leaves.passing += 1,
            false => {}
        }
    }
    found.values_mut().for_each(|leaves| leaves.settled.sort_by_key(|(site, _)| *site));
    found.into_values().collect()
}

fn figure(direction: &NamedDirection, rows: &Rows, models: &[Leaves]) -> Figure {
    let target = &direction.target;
    let mut plot = Plot::dots("layer").from_zero();
    for row in rows.iter() {
        let model = if row.text("model_a") == target { row.name("model_b") } else { row.name("model_a") };
        let layer = if row.flag("stays") { row.number("layer") } else { f64::NAN };
        plot.add("", model, row.name("dataset"), Point::bare(layer));
    }
    let phrase = direction.phrase();
    rows.figure(
        "departure",
        format!("From which layer on does each model lie apart from {target} along {phrase} ({})?", direction.way()),
        "dataset, model_a, model_b, layer, site, stays",
        "dataset, model_a, model_b",
    )
    .what(format!(
        "First layer from which on a model's projections at {} differ from {target}'s at every layer; no dot where there is none.",
        direction.position_phrase()
    ))
    .n(format!("{} datasets.", rows.names(&["dataset"]).len()))
    .interval("The layer follows from the 95 % band of the paired difference, which holds at all layers at once.")
    .null(format!(
        "No dot: the band holds 0 at every layer, or again at a later one. The level is over the layers of one dataset and model, \
         not over datasets. {}",
        fit(rows)
    ))
    .finding(finding(models, target))
    .folded(true)
    .draw(&plot)
}

/// A sentence for each model.
fn finding(models: &[Leaves], target: &str) -> String {
    let sentence = |Leaves { model, datasets, settled, passing }: &Leaves| {
        let model = model.text();
        let mut sentence = match settled.is_empty() {
            true => format!("{model} lies apart from {target} on none of {datasets} datasets"),
            false => {
                let layers = settled.chunk_by(|a, b| a.0 == b.0).map(|here| {
                    let names: Vec<&str> = here.iter().map(|(_, dataset)| dataset.as_str()).collect();
                    format!("{} ({})", here[0].0.phrase(), names.join(", "))
                });
                let layers = listed(&layers.collect::<Vec<_>>());
                format!(
                    "{model} lies apart from {target} on {} of {datasets} datasets: from {layers} on",
                    settled.len()
                )
            }
        };
        if *passing > 0 {
            sentence += &format!("; on {passing} it differs at some layer and not at all later ones");
        }
        sentence + "."
    };
    models.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

/// Of the model that leaves on most datasets, then the earliest in the network, then the first of the pipeline.
fn headline(direction: &NamedDirection, models: &[Leaves], fitted: bool) -> Option<Headline> {
    let earliest = |leaves: &Leaves| leaves.settled.first().map(|(site, _)| *site);
    let most = models.iter().min_by_key(|leaves| (Reverse(leaves.settled.len()), earliest(leaves)))?;
    let (phrase, target) = (direction.phrase(), &direction.target);
    let (Some((first, _)), Some((last, _))) = (most.settled.first(), most.settled.last()) else {
        let names: Vec<String> = models.iter().map(|leaves| leaves.model.text().to_string()).collect();
        let verb = if names.len() == 1 { "lies" } else { "lie" };
        let meaning = format!("is where {} {verb} apart from {target} along {phrase}", listed(&names));
        return Some(Headline { value: "Nowhere".into(), meaning });
    };
    let others = models.iter().filter(|leaves| leaves.model != most.model).map(|leaves| match leaves.settled.len() {
        0 => format!("; {} on none", leaves.model.text()),
        found => format!("; {} on {found} of {}", leaves.model.text(), leaves.datasets),
    });
    let range = if first == last { first.phrase() } else { format!("{} to {}", first.phrase(), last.phrase()) };
    Some(Headline {
        value: capital(&range),
        meaning: format!(
            "is from where on {} lies apart from {target} along {phrase}, on {} of {} datasets{}{}",
            most.model.text(),
            most.settled.len(),
            most.datasets,
            others.collect::<String>(),
            if fitted { "; on a direction fitted on the same examples, so that no test holds" } else { "" }
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(model: (usize, &str), settled: &[(usize, &str)], datasets: usize, passing: usize) -> Leaves {
        let settled = settled.iter().map(|(layer, name)| (Site::residual(*layer), name.to_string())).collect();
        Leaves { model: Name::new(model.0, model.1), datasets, settled, passing }
    }

    fn direction() -> NamedDirection {
        let [source, target, kind, position] = ["base", "instruct", "svd", "last"].map(String::from);
        NamedDirection { found_on: None, source, target, kind, position }
    }

    #[test]
    fn only_departures_that_last_count() {
        let misaligned = leaves((2, "misaligned"), &[(2, "a"), (3, "e"), (4, "d")], 5, 1);
        let control = leaves((3, "control"), &[(1, "a")], 5, 0);
        assert_eq!(
            finding(std::slice::from_ref(&misaligned), "instruct"),
            "misaligned lies apart from instruct on 3 of 5 datasets: from layer 2 (a), layer 3 (e) and layer 4 (d) on; on 1 \
             it differs at some layer and not at all later ones."
        );
        let said = headline(&direction(), &[misaligned, control], false).unwrap();
        assert_eq!(said.value, "Layer 2 to layer 4");
        assert!(
            said.meaning.ends_with("along instruct − base, on 3 of 5 datasets; control on 1 of 5"),
            "{}",
            said.meaning
        );
    }

    #[test]
    fn the_headline_is_of_the_model_that_leaves_most_often_and_then_earliest() {
        let (late, early) = (leaves((2, "late"), &[(2, "a")], 2, 0), leaves((3, "early"), &[(1, "b")], 2, 0));
        assert!(headline(&direction(), &[late.clone(), early], false).unwrap().meaning.contains("where on early lies"));
        let none = leaves((3, "none"), &[], 2, 1);
        let fitted = headline(&direction(), &[late, none.clone()], true).unwrap().meaning;
        assert!(fitted.contains("where on late lies") && fitted.contains("no test holds"), "{fitted}");
        assert_eq!(headline(&direction(), &[none], false).unwrap().value, "Nowhere");
    }
}
