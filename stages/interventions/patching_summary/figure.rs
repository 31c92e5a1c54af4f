//! What becomes of the target model, by the layer at which the source's stream is put into it.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style};
use crate::contract::figures::rows::place;
use crate::contract::figures::section::PATCHING;
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
        }
        // The patches are the same whatever is measured.
        figures.extend(metrics.first().map(|(_, rows)| size(&models[0], &models[1], rows).folded(true)));
    }
    Ok(figures.into())
}

fn layer(row: Row) -> Site {
    Site::residual(row.number("layer") as usize)
}

fn effect(source: &str, target: &str, metric: &str, rows: &Rows) -> Figure {
    let (name, unit) = match metric {
        "logprob" => ("log-probability of the target token", " (nats)"),
        "entropy" => ("entropy of the next token", " (nats)"),
        "loss" => ("loss", " (nats a token)"),
        other => (other, ""),
    };
    let mut plot = Plot::lines("patched layer", &format!("{name}{unit}")).own_scales();
    for row in rows.iter() {
        let (dataset, layer) = (row.name("dataset"), place(layer(row)));
        plot.add(&dataset, row.name("source").style(Style::Dashed), &layer, Point::bare(row.number("clean_source")));
        plot.add(&dataset, row.name("target").style(Style::Dashed), &layer, Point::bare(row.number("clean_target")));
        plot.add(&dataset, Name::new(0, "patched").style(Style::Ink), &layer, row.estimate("mean"));
    }
    let nearest = rows.groups(&["dataset"]).into_iter().filter_map(|(dataset, rows)| {
        let far = |row: &Row| (row.number("closed") - 1.0).abs();
        let nearest = rows.iter().filter(|row| far(row).is_finite()).min_by(|a, b| far(a).total_cmp(&far(b)))?;
        Some(format!("{:.0} % at {} ({})", 100.0 * nearest.number("closed"), layer(nearest).phrase(), dataset[0]))
    });
    let nearest: Vec<String> = nearest.collect();
    let finding = match nearest.is_empty() {
        true => String::new(),
        false => format!(
            "Of the way from the clean {target} to the clean {source}, at the layer that comes nearest: {}.",
            nearest.join("; ")
        ),
    };
    rows.figure(
        "patching",
        format!("From which layer on does {target} with {source}'s stream behave like {source} ({metric})?"),
        "dataset, layer, n, mean, ci_low, ci_high, clean_source, clean_target, closed",
        "dataset, layer",
    )
    .what(format!(
        "Mean {name} of {target} with {source}'s residual stream put in at one layer; the dashed lines are the two clean \
         models."
    ))
    .n(format!("{} examples behind each point.", rows.count_range("n")))
    .interval("95 % bootstrap interval of the mean over examples (seeded).")
    .null(format!("No effect: the line of the clean {target}."))
    .finding(finding)
    .draw(&plot)
}

/// How large the patches were: a patch that changes nothing can have no effect.
fn size(source: &str, target: &str, rows: &Rows) -> Figure {
    let mut plot = Plot::lines("patched layer", "size of the patch").from_zero().with_legend();
    for row in rows.iter() {
        plot.add("", row.name("dataset"), place(layer(row)), Point::bare(row.number("change")));
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
