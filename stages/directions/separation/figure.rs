//! How clearly two models are told apart along a direction, by layer.

use anyhow::Result;

use crate::chart::{Figure, Name, Plot, Point, Style, number};
use crate::contract::figures::section::SEPARATION;
use crate::contract::figures::words::listed;
use crate::contract::figures::{Drawn, Figures, Headline, Level, Reads, Row, Rows, Tables};
use crate::directions::named_direction::NamedDirection;
use crate::directions::verdict::{LEVEL, fit, fitted, p_phrase};

pub const FIGURES: Figures = Figures {
    section: &SEPARATION,
    level: Level::Overview,
    reads: &[Reads {
        stage: "separation",
        columns: &[
            "kind",
            "component",
            "position",
            "layer",
            "site",
            "folds",
            "fitted",
            "score",
            "ci_low",
            "ci_high",
            "p_max",
        ],
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

/// The score whose interval stays furthest from 0, of those whose difference is not chance over the layers. Of the target
/// and a third model, if there is one: that source and target differ is what the direction is.
fn clearest(direction: &NamedDirection, rows: &Rows) -> Option<Headline> {
    let NamedDirection { source, target, .. } = direction;
    let third = |row: &Row| {
        let (a, b) = (row.text("model_a"), row.text("model_b"));
        (a == target || b == target) && a != source && b != source
    };
    let any = rows.iter().any(|row| third(&row));
    let sure = |point: Point| if point.low > 0.0 { point.low } else { -point.high };
    let away = rows.iter().filter(|row| !any || third(row)).map(|row| (row, row.estimate("score")));
    let away = away.filter(|(row, score)| {
        score.value.is_finite() && (score.low > 0.0 || score.high < 0.0) && row.number("p_max") <= LEVEL
    });
    let (row, score) = away.max_by(|a, b| sure(a.1).total_cmp(&sure(b.1)))?;
    Some(Headline {
        value: number(score.value),
        meaning: format!(
            "is the clearest separation score, {} against {} on {} at {}, along {}; 95 % interval {} to {}, {}",
            row.text("model_b"),
            row.text("model_a"),
            row.text("dataset"),
            row.site().phrase(),
            direction.phrase(),
            number(score.low),
            number(score.high),
            match row.flag("fitted") {
                true => "on a direction fitted on the same examples, so that no test holds".into(),
                false => format!("{} (paired, corrected over layers)", p_phrase(row.number("p_max"))),
            }
        ),
    })
}

fn figure(tables: &Tables, direction: &NamedDirection, rows: &Rows) -> Figure {
    let (phrase, kind) = (direction.phrase(), direction.kind_phrase());
    let mut plot = Plot::lines("layer", "separation score").with_legend();
    let mut tests: Vec<String> = Vec::new();
    let pairs = rows.groups(&["model_a", "model_b"]).into_iter().enumerate();
    for (rank, (models, rows)) in pairs {
        let pair = Name::new(rank, format!("{} − {}", models[1], models[0])).style(Style::Group);
        // Where examples have no spread there is no score, and a difference, even if it is one, is rounding.
        for row in rows.iter().filter(|row| row.number("score").is_finite()) {
            plot.add(row.name("dataset"), &pair, row.place(), row.estimate("score"));
        }
        let datasets = rows.groups(&["dataset"]);
        let least =
            datasets.iter().map(|(_, rows)| rows.iter().map(|row| row.number("p_max")).fold(f64::NAN, f64::min));
        let tested: Vec<f64> = least.filter(|p| p.is_finite()).collect();
        let different = tested.iter().filter(|p| **p <= LEVEL).count();
        tests.push(format!("{} on {different} of {} datasets", pair.text(), tested.len()));
    }
    rows.figure(
        "separation",
        format!("How clearly does {phrase} tell the models apart ({})?", direction.way()),
        "dataset, model_a, model_b, layer, site, n, difference, difference_low, difference_high, score, ci_low, ci_high, p_value, p_max",
        "dataset, model_a, model_b, layer, site DESC",
    )
    .what(format!(
        "Separation score (mean_b − mean_a) / (std_a + std_b) of two models' projections at {} onto the {kind}, by layer; \
         {}. Where examples have no spread, as at the embedding of one token, there is no score.",
        direction.position_phrase(),
        direction.panels_phrase()
    ))
    .n(format!("Every example of the dataset under both models: {}.", tables.sizes(&rows.names(&["dataset"]))))
    .interval(
        "95 % jackknife interval of the score over examples, the directions as they are: too narrow where source and target do \
         not differ at all, which the test finds.",
    )
    .null(format!(
        "0: the two models' mean projections are equal. The test exchanges the two models within examples, and finds the direction \
         again for each exchange where one of them is its source or target; p-values are corrected over the layers by the largest \
         statistic (Westfall and Young), not over datasets and pairs of models. {}",
        fit(rows)
    ))
    .finding(match fitted(rows) {
        true => "Fitted on the same examples, so that no test of these differences holds.".into(),
        false => format!("Different at some layer (p at most {LEVEL}, corrected over the layers): {}.", listed(&tests)),
    })
    .draw(&plot)
}
