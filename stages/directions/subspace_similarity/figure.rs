//! Principal angles between the subspaces that hold two datasets' strongest directions, by layer.

use anyhow::Result;

use crate::chart::{Name, Plot};
use crate::contract::figures::section::SHARED_DIMENSIONS;
use crate::contract::figures::words::position_phrase;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};
use crate::directions::against_chance::{NOTHING, SHUFFLED, add};
use crate::directions::verdict::LEVEL;

pub const FIGURES: Figures = Figures {
    section: &SHARED_DIMENSIONS,
    level: Level::Detail,
    reads: &[Reads {
        stage: "subspace_similarity",
        columns: &["position", "layer", "site", "k", "angle_index", "cosine", "null_cosine", "null_high", "p_value"],
    }],
    draw,
};

/// Angles drawn, the smallest first.
const ANGLES: f64 = 6.0;

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("subspace_similarity")?.keep_if("angle_index <= 6 AND dataset_a <> dataset_b", |row| {
        row.number("angle_index") <= ANGLES && row.text("dataset_a") != row.text("dataset_b")
    });
    let mut figures = Vec::new();
    for (names, rows) in all.groups(&["source", "target", "position", "k"]) {
        let [source, target, position, k] = &names[..] else { continue };
        let mut plot = Plot::lines("layer", "cosine of the angle").within(0.0, 1.0);
        for (angle, rows) in rows.groups(&["angle_index"]) {
            let panel = Name::new(figures.len(), format!("Principal angle {}", angle[0]));
            add(&mut plot, &panel, &rows, &[NOTHING]);
        }
        let figure = rows
            .figure(
                "subspaces",
                format!(
                    "How much of their {k} strongest directions of {target} − {source} at {} do datasets share?",
                    position_phrase(position)
                ),
                "dataset_a, dataset_b, layer, site, angle_index, cosine, null_cosine, null_high, p_value",
                "dataset_a, dataset_b, layer, site DESC, angle_index",
            )
            .what(format!(
                "Cosines of the principal angles between two datasets' subspaces of {k} SVD directions at {}, by layer, the \
                 smallest angle first: 1 is a direction that both hold, 0 one that the other lacks.",
                position_phrase(position)
            ))
            .n(format!(
                "Subspaces from all examples of each dataset: {}.",
                tables.sizes(&rows.names(&["dataset_a", "dataset_b"]))
            ))
            .interval("None: a cosine of two subspaces, each from all examples.")
            .null(SHUFFLED)
            .finding(uncorrected(&rows));
        figures.push(figure.folded(true).draw(&plot));
    }
    Ok(figures.into())
}

/// How many of the first angles have a small p-value.
fn uncorrected(rows: &Rows) -> String {
    let tested: Vec<f64> =
        rows.keep("angle_index", 1).iter().map(|row| row.number("p_value")).filter(|p| p.is_finite()).collect();
    let small = tested.iter().filter(|p| **p <= LEVEL).count();
    format!(
        "The first angle is smaller than by chance in {small} of {} pairs of datasets and layers (p at most {LEVEL}, not corrected: \
         {:.0} would be by chance).",
        tested.len(),
        LEVEL * tested.len() as f64
    )
}
