//! How clearly two models are told apart along a direction, by layer.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, number};
use crate::contract::figures::section::SEPARATION;
use crate::contract::figures::words::listed;
use crate::contract::figures::{Drawn, Figures, Headline, Level, Reads, Row, Rows, Tables};
use crate::directions::named_direction::NamedDirection;

pub const FIGURES: Figures = Figures {
    section: &SEPARATION,
    level: Level::Overview,
    reads: &[Reads {
        stage: "separation",
        columns: &["kind", "component", "position", "layer", "site", "score", "ci_low", "ci_high", "p_holm"],
    }],
    draw,
};

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("separation")?;
    let mut drawn = Drawn::default();
    for direction in NamedDirection::all(&all) {
        let rows = direction.rows(&all);
        let first = drawn.figures.is_empty();
        if first {
            drawn.headlines.extend(clearest(&direction, &rows));
        }
        drawn.figures.push(figure(tables, &direction, &rows).folded(!first));
    }
    Ok(drawn)
}

/// The score whose interval stays furthest from 0: of a score without an interval nothing is known. Of the target and
/// a third model, if there is one: source and target lie apart along their own direction by construction.
fn clearest(direction: &NamedDirection, rows: &Rows) -> Option<Headline> {
    let NamedDirection { source, target, .. } = direction;
    let third = |row: &Row| {
        let (a, b) = (row.text("model_a"), row.text("model_b"));
        (a == target || b == target) && a != source && b != source
    };
    let any = rows.iter().any(|row| third(&row));
    let sure = |point: Point| if point.low > 0.0 { point.low } else { -point.high };
    let away = rows.iter().filter(|row| !any || third(row)).map(|row| (row, row.estimate("score")));
    let away = away.filter(|(_, score)| score.value.is_finite() && (score.low > 0.0 || score.high < 0.0));
    let (row, score) = away.max_by(|a, b| sure(a.1).total_cmp(&sure(b.1)))?;
    Some(Headline {
        value: number(score.value),
        meaning: format!(
            "is the clearest separation score, {} against {} on {} at {}, along {}; 95 % interval {} to {}",
            row.text("model_b"),
            row.text("model_a"),
            row.text("dataset"),
            row.site().phrase(),
            direction.phrase(),
            number(score.low),
            number(score.high)
        ),
    })
}

fn figure(tables: &Tables, direction: &NamedDirection, rows: &Rows) -> Figure {
    let (phrase, kind) = (direction.phrase(), direction.kind_phrase());
    let mut plot = Plot::lines("layer", "separation score").with_legend();
    let mut tests: BTreeMap<Name, (usize, usize)> = BTreeMap::new();
    let pairs = rows.groups(&["model_a", "model_b"]).into_iter().enumerate();
    for (rank, (models, rows)) in pairs {
        let pair = Name::new(rank, format!("{} − {}", models[1], models[0]));
        // Where examples have no spread there is no score, and a difference, even if it is one, is rounding.
        for row in rows.iter().filter(|row| row.number("score").is_finite()) {
            plot.add(row.name("dataset"), &pair, row.place(), row.estimate("score"));
            let (different, all) = tests.entry(pair.clone()).or_default();
            *different += usize::from(row.number("p_holm") < 0.05);
            *all += 1;
        }
    }
    let tests = tests.iter().map(|(pair, (different, all))| format!("{} in {different} of {all}", pair.text()));
    rows.figure(
        "separation",
        format!("How clearly does {phrase} tell the models apart ({kind})?"),
        "dataset, model_a, model_b, layer, site, score, ci_low, ci_high, p_holm",
        "dataset, model_a, model_b, layer, site DESC",
    )
    .what(format!(
        "Separation score (mean_b − mean_a) / (std_a + std_b) of two models' projections at {} onto the {kind}, by layer; \
         {}. Where examples have no spread, as at the embedding of one token, there is no score.",
        direction.position_phrase(),
        direction.panels_phrase()
    ))
    .n(format!("Every example of the dataset under both models: {}.", tables.sizes(&rows.names(&["dataset"]))))
    .interval("95 % bootstrap interval over examples (seeded).")
    .null(
        "0: the two models' mean projections are equal. The test exchanges the models' labels within examples; its p-values \
         are corrected over the layers (Holm).",
    )
    .finding(format!(
        "Different at p < 0.05 after correction, of datasets and layers: {}.",
        listed(&tests.collect::<Vec<_>>())
    ))
    .draw(&plot)
}
