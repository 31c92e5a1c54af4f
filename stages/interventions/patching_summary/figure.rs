//! What becomes of the target model, by the layer at which the source's stream is put into it.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style};
use crate::contract::figures::rows::place;
use crate::contract::figures::section::PATCHING;
use crate::contract::figures::words::listed;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Row, Rows, Tables};
use crate::contract::site::Site;

pub const FIGURES: Figures = Figures {
    section: &PATCHING,
    level: Level::Overview,
    reads: &[Reads {
        stage: "patching_summary",
        columns: &[
            "metric",
            "layer",
            "n",
            "mean",
            "ci_low",
            "ci_high",
            "clean_source",
            "clean_target",
            "closed",
            "last_layer",
            "positions",
            "effect_per_change",
            "per_change_low",
            "per_change_high",
            "change",
            "without_change",
        ],
    }],
    draw,
};

fn draw(tables: &Tables) -> Result<Drawn> {
    let mut figures = Vec::new();
    for (models, rows) in tables.rows("patching_summary")?.groups(&["source", "target"]) {
        let mut metrics = rows.groups(&["metric"]);
        // A dataset's loss first: it is about the whole answer.
        metrics.sort_by_key(|(metric, _)| metric[0] != "loss");
        for (metric, rows) in &metrics {
            figures.push(effect(&models[0], &models[1], &metric[0], rows).folded(!figures.is_empty()));
            figures.push(per_change(&models[0], &models[1], &metric[0], rows).folded(true));
        }
        // The patches are the same whatever is measured.
        figures.extend(metrics.first().map(|(_, rows)| size(&models[0], &models[1], rows).folded(true)));
    }
    Ok(figures.into())
}

fn layer(row: Row) -> Site {
    Site::residual(row.number("layer") as usize)
}

/// What a metric is called, and its unit.
fn metric_name(metric: &str) -> (&str, &'static str) {
    match metric {
        "logprob" => ("log-probability of the target token", " (nats)"),
        "entropy" => ("entropy of the next token", " (nats)"),
        "loss" => ("loss", " (nats a token)"),
        other => (other, ""),
    }
}

fn effect(source: &str, target: &str, metric: &str, rows: &Rows) -> Figure {
    let (name, unit) = metric_name(metric);
    let mut plot = Plot::lines("patched layer", &format!("{name}{unit}")).own_scales();
    for row in rows.iter() {
        let (dataset, layer) = (row.name("dataset"), place(layer(row)));
        plot.add(&dataset, row.name("source").style(Style::Dashed), &layer, Point::bare(row.number("clean_source")));
        plot.add(&dataset, row.name("target").style(Style::Dashed), &layer, Point::bare(row.number("clean_target")));
        plot.add(&dataset, Name::new(0, "patched").style(Style::Ink), &layer, row.estimate("mean"));
    }
    let everything = rows.iter().all(|row| row.text("positions") == "all");
    let finding = if everything { check(source, target, rows) } else { headline(source, rows) };
    rows.figure(
        "patching",
        format!("From which layer on does {target} with {source}'s stream behave like {source} ({metric})?"),
        "dataset, layer, last_layer, positions, n, mean, ci_low, ci_high, clean_source, clean_target, closed",
        "dataset, layer",
    )
    .what(format!(
        "Mean {name} of {target} with {source}'s residual stream put in at one layer; the dashed lines are the two clean \
         models."
    ))
    .n(format!("{} examples behind each point.", rows.count_range("n")))
    .interval("95 % bootstrap interval of the mean over examples (seeded), widened for few examples.")
    .null(format!("No effect: the line of the clean {target}."))
    .finding(finding)
    .draw(&plot)
}

/// Where every position is patched, the way to the source is what the patch is, and only shows that it was made.
fn check(source: &str, target: &str, rows: &Rows) -> String {
    let reached = rows.iter().filter(|row| row.flag("last_layer") && row.number("closed").is_finite());
    let reached: Vec<String> =
        reached.map(|row| format!("{:.0} % ({})", 100.0 * row.number("closed"), row.name("dataset").text())).collect();
    let reached = match reached.is_empty() {
        true => String::new(),
        false => {
            format!(" There the way from the clean {target} to the clean {source} is gone by {}.", listed(&reached))
        }
    };
    format!(
        "A check, not a finding: every position is patched, so that all above the patch computes from {source}'s states, and at \
         the last layer the stream is {source}'s own.{reached}"
    )
}

/// The layer with the largest effect per unit of change. At the last layer the stream is the source's own.
fn headline(source: &str, rows: &Rows) -> String {
    let largest = rows.groups(&["dataset"]).into_iter().filter_map(|(dataset, rows)| {
        let size = |row: &Row| row.number("effect_per_change").abs();
        let inner = rows.iter().filter(|row| !row.flag("last_layer") && size(row).is_finite());
        let row = inner.max_by(|a, b| size(a).total_cmp(&size(b)))?;
        let (value, low, high) =
            (row.number("effect_per_change"), row.number("per_change_low"), row.number("per_change_high"));
        let beyond = match low > 0.0 || high < 0.0 {
            true => "",
            false => ", which could be none",
        };
        Some(format!("{} at {}{beyond} ({})", Point::new(value, low, high).text(), layer(row).phrase(), dataset[0]))
    });
    let largest: Vec<String> = largest.collect();
    match largest.is_empty() {
        true => String::new(),
        false => format!(
            "Largest effect of a patch as long as the stream, in nats, with the 95 % interval that holds for all layers at once: \
             {}. The last layer is left out: there the patched stream is {source}'s own.",
            largest.join("; ")
        ),
    }
}

/// What a patch does for its size: a layer at which the models lie far apart is no more important for that.
fn per_change(source: &str, target: &str, metric: &str, rows: &Rows) -> Figure {
    let (name, _) = metric_name(metric);
    let mut plot = Plot::lines("patched layer", "nats for a patch as long as the stream").own_scales();
    for row in rows.iter() {
        let point =
            Point::new(row.number("effect_per_change"), row.number("per_change_low"), row.number("per_change_high"));
        plot.add(row.name("dataset"), Name::new(0, "patched").style(Style::Ink), place(layer(row)), point);
    }
    rows.figure(
        "patching per change",
        format!("At which layer does {source}'s stream do most to {target} for its size ({metric})?"),
        "dataset, layer, last_layer, positions, n, effect_per_change, per_change_low, per_change_high",
        "dataset, layer",
    )
    .what(format!(
        "Mean change of the {name} of {target} over the mean size of the patch beside what it replaced, by layer. Blank: no \
         patch changed anything. At the model's last layer the stream is {source}'s own."
    ))
    .n(format!("{} examples behind each point.", rows.count_range("n")))
    .interval("95 % interval over examples that holds for all layers of a panel at once (random signs, seeded).")
    .null("0: the patch has no effect.")
    .draw(&plot)
}

/// How large the patches were: a patch that changes nothing can have no effect.
fn size(source: &str, target: &str, rows: &Rows) -> Figure {
    let mut plot = Plot::lines("patched layer", "size of the patch").from_zero().with_legend();
    for row in rows.iter() {
        plot.add("", row.name("dataset").style(Style::Group), place(layer(row)), Point::bare(row.number("change")));
    }
    let sum = |column: &str| rows.iter().map(|row| row.number(column)).sum::<f64>();
    let idle = sum("without_change");
    rows.figure(
        "patching change",
        format!("How much did putting {source}'s stream into {target} change?"),
        "dataset, layer, n, change, without_change",
        "dataset, layer",
    )
    .what(
        "Length of the difference between the two streams beside that of the one replaced, by layer: the median over \
         examples.",
    )
    .n(format!("{} examples.", rows.count_range("n")))
    .interval("None: a median; the table patching has every example.")
    .null("0: the patch changed nothing, and can have no effect.")
    .finding(match idle {
        0.0 => "Every patch changed something.".into(),
        _ => format!("{idle} of {} patches changed nothing.", sum("n")),
    })
    .draw(&plot)
}
