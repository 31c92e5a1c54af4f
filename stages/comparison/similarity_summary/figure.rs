//! The mean similarity within groups and between every two, and the tests of the pairs as sentences.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style, fixed};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Labels, Subject, deepest, is_within};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::words::listed;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "similarity_summary",
    columns: &[
        "position",
        "layer",
        "site",
        "module",
        "model_a",
        "dataset_a",
        "model_b",
        "dataset_b",
        "centred",
        "n_pairs",
        "n_same",
        "left_out",
        "missing",
        "mean_share",
        "mean",
        "ci_low",
        "ci_high",
        "null_mean",
        "p_value",
        "p_holm",
        "within_a",
        "within_b",
        "within_p_holm",
    ],
}];

pub const FIGURES: &[Figures] = &[
    Figures { section: &LOSS_VECTORS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &LOSS) },
    Figures { section: &GRADIENTS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &GRADIENT) },
    Figures { section: &SEPARATION, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &HIDDEN_STATE) },
];

/// Layers or modules drawn of one comparison.
const PLACES: usize = 4;

/// Pairs that a sentence names.
const NAMED: usize = 3;

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "similarity_summary", subject) {
        let rows = compared.rows(tables, "similarity_summary")?;
        let labels = Labels::of(&rows);
        for (at, rows) in deepest(&rows, PLACES) {
            // The heatmap of similarity shows the same pairs one by one.
            figures.push(figure(&compared, labels, &at, &rows).folded(true));
        }
    }
    Ok(figures.into())
}

fn figure(compared: &Compared, labels: Labels, at: &str, rows: &Rows) -> Figure {
    let mut plot = Plot::dots("mean cosine").own_scales();
    let several = compared.shared.len() > 1;
    for (rank, (shared, _)) in compared.shared.iter().enumerate() {
        let own = rows.iter().filter(|row| row.text("shared") == *shared);
        // Groups with themselves first.
        let (within, between): (Vec<Row>, Vec<Row>) = own.partition(|row| is_within(*row));
        let mut pairs: Vec<String> = Vec::new();
        for row in within.into_iter().chain(between) {
            let pair = labels.pair(row);
            let place = pairs.iter().position(|known| *known == pair).unwrap_or_else(|| {
                pairs.push(pair.clone());
                pairs.len() - 1
            });
            let (kind, title) = if row.flag("centred") { (1, "centred") } else { (0, "raw") };
            let title = if several { format!("{shared}, {title}") } else { title.to_string() };
            let panel = Name::new(2 * rank + kind, title);
            let series = |name: &str, style: Style| Name::new(0, name).style(style);
            plot.add(&panel, series("groups", Style::Ink), Name::new(place, &pair), row.estimate("mean"));
            let null = Point::bare(row.number("null_mean"));
            plot.add(&panel, series("labels of the pair shuffled", Style::Null), Name::new(place, &pair), null);
        }
    }
    let name = compared.subject.name;
    let columns = "shared, model_a, dataset_a, model_b, dataset_b, centred, n_pairs, n_same, left_out, missing, mean_share, mean, \
                   ci_low, ci_high, null_mean, p_value, p_holm, within_a, within_b, within_p_holm";
    rows.figure(
        "group similarity",
        format!("Which groups differ in their {name} {}{at}?", compared.phrase(&labels)),
        columns,
        "centred, shared, dataset_a, dataset_b, model_a, model_b",
    )
    .what(format!(
        "Mean cosine over the pairs of examples of two groups, of their {name}, raw and centred side by side. The mean vector \
         that centring takes has {} of the squared length.{}",
        share_range(rows),
        missing(rows)
    ))
    .n(format!("{} pairs of examples behind each mean.", rows.count_range("n_pairs")))
    .interval("95 % interval of the raw mean over examples (U-statistic); wider than need be where groups have no common mean. A centred mean has none, since its centre moves with it.")
    .null("The mean between two groups with their own labels shuffled (the grey marks); p-values with Holm's correction over the pairs.")
    .finding(finding(compared, rows, labels))
    .draw(&plot)
}

/// What the tests say, of raw cosines where both are there.
fn finding(compared: &Compared, rows: &Rows, labels: Labels) -> String {
    let raw: Vec<Row> = rows.iter().filter(|row| !row.flag("centred") && !is_within(*row)).collect();
    let sentence = |p: &str, what: &str, then: &dyn Fn(Row) -> String| {
        let mut tested: Vec<Row> = raw.iter().copied().filter(|row| row.number(p).is_finite()).collect();
        if tested.is_empty() {
            return String::new();
        }
        tested.sort_by(|a, b| a.number(p).total_cmp(&b.number(p)));
        let found: Vec<Row> = tested.iter().copied().filter(|row| row.number(p) < 0.05).collect();
        let named: Vec<String> = found.iter().take(NAMED).map(|row| then(*row)).collect();
        let first = match (found.is_empty(), found.len() > NAMED) {
            (true, _) => String::new(),
            (_, true) => format!(", first {}", listed(&named)),
            (_, false) => format!(": {}", listed(&named)),
        };
        format!(
            "{} of {} pairs {what} beyond chance at p < 0.05 (raw cosines, permuted labels of the two groups, Holm over the pairs {}){first}. ",
            found.len(),
            tested.len(),
            compared.phrase(&labels),
        )
    };
    let between = sentence("p_holm", "differ in their mean between groups", &|row| {
        format!(
            "{} ({} against {} with shuffled labels, p = {})",
            compared.pair(labels, row),
            fixed(row.number("mean"), 2),
            fixed(row.number("null_mean"), 2),
            p_text(row.number("p_holm"))
        )
    });
    let within = sentence("within_p_holm", "differ in how alike each is within", &|row| {
        format!(
            "{} ({} and {}, p = {})",
            compared.pair(labels, row),
            fixed(row.number("within_a"), 2),
            fixed(row.number("within_b"), 2),
            p_text(row.number("within_p_holm"))
        )
    });
    format!("{between}{within}").trim_end().to_string()
}

fn p_text(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { fixed(p, 3) }
}

fn share_range(rows: &Rows) -> String {
    let shares = || rows.iter().map(|row| row.number("mean_share")).filter(|share| share.is_finite());
    let (low, high) = (shares().fold(f64::INFINITY, f64::min), shares().fold(f64::NEG_INFINITY, f64::max));
    match (low <= high, (100.0 * low).round() == (100.0 * high).round()) {
        (false, _) => "an unknown share".into(),
        (true, true) => format!("{:.0} %", 100.0 * high),
        (true, false) => format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high),
    }
}

/// How much was missing, filled or left out.
fn missing(rows: &Rows) -> String {
    let most = |column: &str| rows.iter().map(|row| row.number(column)).fold(0.0, f64::max);
    let (missing, left_out, same) = (most("missing"), most("left_out"), most("n_same"));
    let mut text = String::new();
    if missing > 0.0 {
        text +=
            &format!(" Up to {:.0} % of two groups' numbers are missing, since answers are shorter.", 100.0 * missing);
    }
    if left_out > 0.0 {
        text += &format!(" Up to {left_out:.0} examples of two groups are too short and left out.");
    }
    if same > 0.0 {
        text += &format!(" Up to {same:.0} pairs of two groups are one example under two models.");
    }
    text
}
