//! How large the directions are: the length of the mean difference, and the variance along each SVD direction.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style};
use crate::contract::figures::section::SHARED_DIMENSIONS;
use crate::contract::figures::words::{listed, position_phrase};
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};
use crate::directions::named_direction::contrast_phrase;

pub const FIGURES: Figures = Figures {
    section: &SHARED_DIMENSIONS,
    level: Level::Detail,
    reads: &[Reads {
        stage: "directions",
        columns: &["position", "layer", "site", "kind", "component", "fold", "explained_variance", "norm", "n"],
    }],
    draw,
};

/// SVD directions drawn; more would not be told apart.
const COMPONENTS: f64 = 4.0;

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("directions")?.keep("fold", 0);
    let mut figures = Vec::new();
    for (names, rows) in all.groups(&["source", "target", "position"]) {
        let [source, target, position] = &names[..] else { continue };
        let lengths = rows.keep("kind", "mean_difference");
        let shares = rows.keep("kind", "svd").keep_if("component <= 4", |row| row.number("component") <= COMPONENTS);
        if !lengths.is_empty() {
            figures.push(length([source, target, position], &lengths).folded(!figures.is_empty()));
        }
        if !shares.is_empty() {
            figures.push(variance([source, target, position], &shares).folded(true));
        }
    }
    Ok(figures.into())
}

fn length([source, target, position]: [&str; 3], rows: &Rows) -> Figure {
    let contrast = source == target;
    let mut plot = Plot::lines("layer", "length").from_zero();
    for (rank, (names, rows)) in rows.groups(&["dataset"]).into_iter().enumerate() {
        for row in rows.iter() {
            // A contrast is no dataset, and has no colour of its own.
            let name = match contrast {
                true => Name::new(rank, contrast_phrase(&names[0], target)),
                false => row.name("dataset"),
            };
            plot.add("", name.style(Style::Group), row.place(), Point::bare(row.number("norm")));
        }
    }
    let (question, between) = match contrast {
        true => {
            (format!("How far apart do datasets' mean states lie within {target}?"), " between two datasets".into())
        }
        false => (
            format!("How far does going from {source} to {target} move the mean state?"),
            format!(" {target} − {source}"),
        ),
    };
    rows.figure("direction length", question, "dataset, layer, site, norm, n", "dataset, layer, site DESC")
        .what(format!(
            "Length of the mean difference{between} of the hidden states at {}, by layer, before it is scaled to a direction.",
            position_phrase(position)
        ))
        .n(format!("{} examples behind each direction.", rows.count_range("n")))
        .interval("None: one value for all examples together.")
        .null("0: the mean states are the same.")
        .draw(&if contrast { plot.with_legend() } else { plot })
}

fn variance([source, target, position]: [&str; 3], rows: &Rows) -> Figure {
    let mut plot = Plot::lines("layer", "share of variance").within(0.0, 1.0);
    for row in rows.iter() {
        let component = row.number("component");
        let direction = Name::new(component as usize - 1, format!("direction {component}")).style(Style::Group);
        plot.add(row.name("dataset"), direction, row.place(), Point::bare(row.number("explained_variance")));
    }
    let last = rows.sites().pop();
    let first = rows.iter().filter(|row| row.number("component") == 1.0 && Some(row.site()) == last);
    let first: Vec<String> = first
        .map(|row| format!("{:.0} % ({})", 100.0 * row.number("explained_variance"), row.text("dataset")))
        .collect();
    let at = last.map_or(String::new(), |site| site.phrase());
    rows.figure(
        "direction variance",
        format!("How much of the change from {source} to {target} lies along few directions?"),
        "dataset, layer, site, component, explained_variance, n",
        "dataset, component, layer, site DESC",
    )
    .what(format!(
        "Share of the variance of the paired differences (target − source at {}, centred) along each SVD direction, by \
         layer; one panel for each dataset.",
        position_phrase(position)
    ))
    .n(format!("{} examples behind each direction.", rows.count_range("n")))
    .interval("None: one value for all examples together.")
    .null("Differences without a preferred direction would share their variance out evenly: 1 / width along each.")
    .finding(format!("At {at} the first direction holds {}.", listed(&first)))
    .draw(&plot)
}
