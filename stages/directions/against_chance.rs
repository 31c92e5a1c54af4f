//! Likenesses of pairs of datasets by layer, beside what chance gives: the drawing that directions and subspaces share.

use crate::chart::{LineChart, Name, Plot, Point, Style, fixed};
use crate::contract::figures::rows::place;
use crate::contract::figures::{Row, Rows};
use crate::directions::verdict::{LEVEL, p_phrase};

/// A null of a likeness, as its table has it.
pub struct Null {
    pub name: &'static str,
    pub style: Style,
    /// The column of its 95 % quantile.
    pub high: &'static str,
}

/// Without anything in common: see `null_cosine` in docs/tables.md.
pub const NOTHING: Null = Null { name: "nothing in common", style: Style::Null, high: "null_high" };

/// Directions drawn at random, with the covariance of the differences.
pub const RANDOM: Null = Null { name: "random", style: Style::DottedNull, high: "random_high" };

/// What the grey bands of [`add`] are for singular vectors.
pub const SHUFFLED: &str = "The grey band reaches up to the highest of the pairs' 95 % quantiles with nothing in common: source and \
                            target states of different examples, paired before the SVD. Differences that only vary along the same \
                            axes lie above it too.";

/// What they are for mean differences.
pub const SIGNS: &str = "The grey band reaches up to the highest of the pairs' 95 % quantiles with nothing in common: the one \
                         dataset's centred differences under random signs, against the other's direction. Once a dataset has a shift the \
                         test rejects less often than it says.";

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

/// The columns of a test over the layers of each pair of datasets.
pub struct Test {
    pub value: &'static str,
    /// The mean of the null.
    pub expected: &'static str,
    /// Corrected over the layers.
    pub p_value: &'static str,
}

impl Test {
    /// The pairs of datasets that were tested, and those of them with a corrected p-value of at most 0.05 at some layer.
    pub fn shared(&self, rows: &Rows) -> (usize, usize) {
        let pairs = rows.groups(&["dataset_a", "dataset_b"]);
        let least =
            pairs.iter().map(|(_, rows)| rows.iter().map(|row| row.number(self.p_value)).fold(f64::NAN, f64::min));
        let least: Vec<f64> = least.filter(|p| p.is_finite()).collect();
        (least.iter().filter(|p| **p <= LEVEL).count(), least.len())
    }

    /// Of each pair the layer with the least p-value, and of equals with the largest value; the pairs in the same order.
    fn clearest<'a>(&self, rows: &'a Rows) -> Vec<Row<'a>> {
        let order = |a: &Row, b: &Row| {
            let (p, value) = (|row: &Row| row.number(self.p_value), |row: &Row| row.number(self.value));
            p(a).total_cmp(&p(b)).then(value(b).total_cmp(&value(a)))
        };
        let mut tested: Vec<Row> = rows.iter().filter(|row| row.number(self.p_value).is_finite()).collect();
        tested.sort_by(order);
        let mut found: Vec<Row> = Vec::new();
        for row in tested {
            let pair = |row: &Row| [row.name("dataset_a"), row.name("dataset_b")];
            if !found.iter().any(|known| pair(known) == pair(&row)) {
                found.push(row);
            }
        }
        found
    }

    /// `0.38 of a and b at layer 2, against 0.43 expected, p = 0.60`.
    fn phrase(&self, row: Row) -> String {
        format!(
            "{} of {} and {} at {}, against {} expected, {}",
            fixed(row.number(self.value), 2),
            row.text("dataset_a"),
            row.text("dataset_b"),
            row.site().phrase(),
            fixed(row.number(self.expected), 2),
            p_phrase(row.number(self.p_value))
        )
    }

    /// The clearest pair; `None` where nothing was tested.
    pub fn clearest_phrase(&self, rows: &Rows) -> Option<String> {
        Some(self.phrase(*self.clearest(rows).first()?))
    }

    /// What the test says over all pairs, in sentences; empty where there was none. `what` is the subject's value.
    pub fn verdict(&self, rows: &Rows, what: &str) -> String {
        let (shared, tested) = self.shared(rows);
        if tested == 0 {
            return String::new();
        }
        let verdict = match shared {
            0 => format!("Not shared beyond chance by any of {tested} pairs of datasets"),
            _ => format!("Shared beyond chance by {shared} of {tested} pairs of datasets at some layer"),
        };
        let clearest: Vec<String> = self.clearest(rows).into_iter().take(NAMED).map(|row| self.phrase(row)).collect();
        format!(
            "{verdict} (p at most {LEVEL}, corrected over the layers by the largest statistic, not over pairs). Clearest is {what}: \
             {}.",
            clearest.join("; ")
        )
    }
}

/// Pairs that a verdict names.
const NAMED: usize = 3;
