//! Whether datasets move a model along the same directions: by layer, and as heatmaps of the pairs.

use anyhow::Result;

use crate::chart::{Axis, Colours, Figure, Group, Heatmaps, Name, Plot};
use crate::contract::figures::section::SHARED_DIMENSIONS;
use crate::contract::figures::words::{capital, position_phrase, spread};
use crate::contract::figures::{Drawn, Figures, Headline, Level, Reads, Row, Rows, Tables};
use crate::directions::against_chance::{NOTHING, RANDOM, SHUFFLED, SIGNS, Test, add};
use crate::directions::named_direction::kind_phrase;

pub const FIGURES: Figures = Figures {
    section: &SHARED_DIMENSIONS,
    level: Level::Overview,
    reads: &[Reads {
        stage: "direction_similarity",
        columns: &[
            "position",
            "layer",
            "site",
            "kind",
            "component_a",
            "component_b",
            "cosine",
            "null_cosine",
            "null_high",
            "random_cosine",
            "random_high",
            "largest",
            "largest_null",
            "p_largest_max",
        ],
    }],
    draw,
};

/// Layers of which heatmaps are drawn side by side.
const LAYERS: usize = 9;

const COLUMNS: &str = "dataset_a, dataset_b, layer, site, component_a, component_b, cosine, null_cosine, null_high, \
                       random_cosine, random_high, p_value, p_max, largest, largest_null, p_largest, p_largest_max";
const ORDER: &str = "layer, site DESC, dataset_a, dataset_b, component_a, component_b";

/// Of all directions of a kind at a place: their largest |cosine| against that of the null.
const TEST: Test = Test { value: "largest", expected: "largest_null", p_value: "p_largest_max" };

fn draw(tables: &Tables) -> Result<Drawn> {
    let all = tables.rows("direction_similarity")?;
    let mut drawn = Drawn::default();
    for (models, rows) in all.groups(&["source", "target"]) {
        let mut groups = rows.groups(&["kind", "position"]);
        // SVD first: it is what the paper compares.
        groups.sort_by_key(|(names, _)| names[0] != "svd");
        for (names, rows) in groups {
            let of = Compared {
                direction: format!("{} − {}", models[1], models[0]),
                kind: kind_phrase(&names[0], 1),
                singular: names[0] == "svd",
                position: position_phrase(&names[1]),
                datasets: rows.names(&["dataset_a", "dataset_b"]),
            };
            let first = rows.keep("component_a", 1).keep("component_b", 1);
            let pairs = first.keep_if("dataset_a <> dataset_b", |row| row.text("dataset_a") != row.text("dataset_b"));
            let folded = !drawn.figures.is_empty();
            if !folded {
                drawn.headlines.extend(of.headline(&pairs));
            }
            drawn.figures.push(of.by_layer(&pairs).n(of.n(tables)).folded(folded));
            drawn.figures.push(of.maps(&first).n(of.n(tables)).folded(folded));
            if rows.iter().any(|row| row.number("component_a") > 1.0) {
                drawn.figures.extend(of.components(&rows, &pairs).map(|figure| figure.n(of.n(tables)).folded(true)));
            }
        }
    }
    Ok(drawn)
}

/// Directions of one kind at one position, of several datasets.
struct Compared {
    direction: String,
    kind: String,
    /// Several to a dataset.
    singular: bool,
    position: String,
    datasets: Vec<String>,
}

/// The place of the largest |cosine| of any two directions of two datasets.
fn largest(pairs: &Rows) -> Option<Row<'_>> {
    pairs.iter().max_by(|a, b| a.number("largest").total_cmp(&b.number("largest")))
}

impl Compared {
    fn n(&self, tables: &Tables) -> String {
        let (count, sizes) = (self.datasets.len(), tables.sizes(&self.datasets));
        match sizes.is_empty() {
            true => format!("{count} datasets, one direction each."),
            false => format!("{count} datasets, each direction from all of its examples: {sizes}."),
        }
    }

    /// What the test compares.
    fn subject(&self) -> &'static str {
        match self.singular {
            true => "the largest |cosine| of any two of their SVD directions",
            false => "the |cosine| of their mean differences",
        }
    }

    fn headline(&self, pairs: &Rows) -> Option<Headline> {
        let (shared, tested) = TEST.shared(pairs);
        let clearest = TEST.clearest_phrase(pairs)?;
        let what = match self.singular {
            true => format!("an SVD direction of {}", self.direction),
            false => format!("the mean difference {}", self.direction),
        };
        Some(Headline {
            value: format!("{shared} of {tested}"),
            meaning: format!(
                "pairs of datasets share {what} beyond chance at some layer (p at most 0.05, corrected over layers); {}: {clearest}",
                self.subject()
            ),
        })
    }

    fn by_layer(&self, pairs: &Rows) -> Figure {
        let Compared { direction, kind, position, .. } = self;
        let mut plot = Plot::lines("layer", "|cosine|").within(0.0, 1.0);
        add(&mut plot, &Name::from(""), pairs, &[NOTHING, RANDOM]);
        let question = format!("Do different datasets share their direction {direction} ({kind} at {position})?");
        pairs
            .figure("directions by layer", question, COLUMNS, ORDER)
            .what(format!(
                "|Cosine| between two datasets' {kind} of {direction} at {position}, by layer; one thin line for each pair \
                 of datasets."
            ))
            .interval("None: a cosine of two directions, each from all examples.")
            .null(format!(
                "{} Random: directions with the covariance of the differences.",
                if self.singular { SHUFFLED } else { SIGNS }
            ))
            .finding(TEST.verdict(pairs, self.subject()))
            .draw(&plot)
    }

    fn maps(&self, rows: &Rows) -> Figure {
        let Compared { direction, kind, position, datasets, .. } = self;
        let sites = rows.sites();
        let shown = spread(&sites, LAYERS);
        let mut maps = Heatmaps::square(Axis::of(datasets.clone()), Colours::Cosine, 340.0);
        let place = |name: &str| datasets.iter().position(|known| known == name).unwrap_or_default();
        for site in &shown {
            let panel = maps.panel(capital(&site.phrase()));
            for row in rows.iter().filter(|row| row.site() == *site) {
                panel.set(place(row.text("dataset_a")), place(row.text("dataset_b")), row.number("cosine") as f32);
            }
        }
        let some = match shown.len() < sites.len() {
            true => format!(" ({} of {} layers)", shown.len(), sites.len()),
            false => String::new(),
        };
        let question = format!("Which datasets share their {kind} of {direction} at {position}?");
        rows.figure("directions heatmap", question, COLUMNS, ORDER)
            .what(format!(
                "Cosine between the datasets' directions at {position}, one panel for each layer{some}. The diagonal is 1 by \
                 definition."
            ))
            .interval("None: a cosine of two directions, each from all examples.")
            .null("The figure above; for each pair, null_cosine, null_high and p_max in the table.")
            .draw(&maps)
    }

    /// All components of all datasets against each other, at the layer of the largest |cosine|.
    fn components(&self, rows: &Rows, pairs: &Rows) -> Option<Figure> {
        let Compared { direction, position, datasets, .. } = self;
        let site = largest(pairs)?.site();
        let rows = rows.keep("layer", site.layer).keep("site", site.name());
        let side = |row: Row| row.number("component_a").max(row.number("component_b")) as usize;
        let components = rows.iter().map(side).max().unwrap_or(1);
        let label = |name: &String| (1..=components).map(|i| format!("{name}, component {i}")).collect::<Vec<_>>();
        let axis = Axis {
            labels: datasets.iter().flat_map(label).collect(),
            groups: datasets.iter().map(|name| Group { name: name.clone(), len: components }).collect(),
        };
        let mut maps = Heatmaps::square(axis, Colours::Cosine, 460.0);
        let panel = maps.panel(capital(&site.phrase()));
        let place = |name: &str, component: f64| {
            datasets.iter().position(|known| known == name).unwrap_or_default() * components + component as usize - 1
        };
        for row in rows.iter() {
            let a = place(row.text("dataset_a"), row.number("component_a"));
            let b = place(row.text("dataset_b"), row.number("component_b"));
            panel.set(a, b, row.number("cosine") as f32);
        }
        let question =
            format!("Which of the {components} strongest directions of {direction} at {position} do datasets share?");
        let figure = rows
            .figure("directions components", question, COLUMNS, ORDER)
            .what(format!(
                "Cosine between every two directions at {} and {position}, where the largest |cosine| is; each dataset's components in order of singular value. Blank: not in the table.",
                site.phrase()
            ))
            .interval("None: a cosine of two directions, each from all examples.")
            .null(
                "The largest of so many cosines is large by chance: largest_null in the table is its mean where nothing is \
                 shared.",
            );
        Some(figure.draw(&maps))
    }
}
