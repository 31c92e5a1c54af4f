//! Likenesses of pairs of datasets by layer, beside what chance gives: the drawing that directions and subspaces share.

use crate::chart::{LineChart, Name, Plot, Point, Style};
use crate::contract::figures::rows::place;
use crate::contract::figures::{Row, Rows};

/// A null of a likeness, as its table has it.
pub struct Null {
    pub name: &'static str,
    /// In the middle of a sentence.
    pub phrase: &'static str,
    pub style: Style,
    /// The column of its 95 % quantile.
    pub high: &'static str,
}

/// The pairs of states shuffled before the direction is taken.
pub const SHUFFLED: Null =
    Null { name: "shuffled", phrase: "the shuffled null", style: Style::Null, high: "null_high" };

/// Directions drawn at random, with the covariance of the differences.
pub const RANDOM: Null = Null {
    name: "random",
    phrase: "random directions of the same covariance",
    style: Style::DottedNull,
    high: "random_high",
};

/// What the lines and the grey bands of [`add`] are.
pub const NULL: &str = "The grey bands reach up to the highest of the pairs' 95 % quantiles under a null. Shuffled: the same \
                        states with source and target exchanged or mixed between pairs before the directions are taken.";

/// Adds a thin line for each pair of datasets, the most and the least alike pair of each layer, and the nulls.
pub fn add(plot: &mut Plot<LineChart>, panel: &Name, rows: &Rows, nulls: &[Null]) {
    let pairs = rows.groups(&["dataset_a", "dataset_b"]);
    for (names, rows) in &pairs {
        let style = if pairs.len() == 1 { Style::Solid } else { Style::Faint };
        let pair = Name::new(0, names.join(" · ")).style(style);
        for row in rows.iter() {
            plot.add(panel, &pair, row.place(), Point::bare(likeness(row)));
        }
    }
    for (_, rows) in rows.groups(&["layer", "site"]) {
        let Some(site) = rows.iter().next().map(|row| row.site()) else { continue };
        let highest = |value: &dyn Fn(Row) -> f64| rows.iter().map(value).fold(f64::NAN, f64::max);
        if pairs.len() > 1 {
            let least = rows.iter().map(likeness).fold(f64::NAN, f64::min);
            plot.add(panel, Name::new(0, "most alike"), place(site), Point::bare(highest(&likeness)));
            plot.add(panel, Name::new(0, "least alike"), place(site), Point::bare(least));
        }
        for Null { name, style, high, .. } in nulls {
            let high = highest(&|row| row.number(high));
            if high.is_finite() {
                plot.add(panel, Name::new(0, *name).style(*style), place(site), Point::new(high, 0.0, high));
            }
        }
    }
}

/// From 0 to 1.
pub fn likeness(row: Row) -> f64 {
    row.number("cosine").abs()
}

/// How many of the pairs and layers lie above the 95 % quantile of a null, of those that have one.
pub fn above(rows: &Rows, null: &Null) -> (usize, usize) {
    let tested = || rows.iter().filter(|row| row.number(null.high).is_finite() && likeness(*row).is_finite());
    (tested().filter(|row| likeness(*row) > row.number(null.high)).count(), tested().count())
}

/// What [`above`] says of the nulls, in a sentence; empty where there is none.
pub fn finding(rows: &Rows, what: &str, nulls: &[Null]) -> String {
    let parts: Vec<String> = nulls
        .iter()
        .map(|null| (null.phrase, above(rows, null)))
        .filter(|(_, (_, tested))| *tested > 0)
        .map(|(phrase, (count, tested))| format!("above the 95 % quantile of {phrase} in {count} of {tested}"))
        .collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!("Over pairs of datasets and layers, {what} lies {}.", parts.join(" and ")),
    }
}
