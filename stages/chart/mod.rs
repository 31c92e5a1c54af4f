//! Charts as SVG: a figure is a question with panels, and each kind of panel is one file.
//!
//! A [`Figure`] says what it asks and what a reader needs to judge it, and draws one or more plots. A [`Plot`] is
//! a set of small multiples in long form: each value is added under the names of its panel, its series and its place on
//! the axis, in any order. A [`Name`] has a rank, which is its place in order and its colour.
//!
//! ```
//! use strata_stages::chart::{Figure, Name, Plot, Point, Style};
//!
//! let mut plot = Plot::lines("layer", "projection");
//! let models = ["base", "instruct"];
//! for (rank, dataset) in ["code", "chat"].into_iter().enumerate() {
//!     for layer in 0..3u32 {
//!         let place = Name::new(layer as usize, layer.to_string());
//!         for (model, name) in models.iter().enumerate() {
//!             let mean = (model as u32 * layer) as f64;
//!             let point = Point::new(mean, mean - 0.1, mean + 0.1);
//!             plot.add(Name::new(rank, dataset), Name::new(model, *name), &place, point);
//!         }
//!         plot.add(Name::new(rank, dataset), Name::new(0, "shuffled").style(Style::Null), &place, Point::bare(0.0));
//!     }
//!     plot.mark(Name::new(rank, dataset), Name::new(1, "1"), "instruct leaves");
//! }
//! let figure = Figure::new("projection base instruct", "How far does each model lie along instruct − base?")
//!     .what("Mean projection of the last token's hidden state, by layer; one panel for each dataset.")
//!     .n("40 examples behind each point.")
//!     .interval("95 % bootstrap interval of the mean over examples.")
//!     .null("No difference: the models' intervals overlap.")
//!     .query("projection_summary", "SELECT model, dataset, layer, mean FROM projection_summary WHERE component = 1")
//!     .draw(&plot);
//! assert_eq!(figure.panels.len(), 2);
//! assert!(figure.html().into_string().contains("instruct leaves"));
//! ```
//!
//! All panels of a plot share one scale unless it is told [`Plot::own_scales`]; `from_zero()` and `within(low, high)` set
//! it. Lines are named at their ends unless `with_legend()` is called. The other plots are
//! `Plot::boxes(x, y)` of [`Summary`]s, `Plot::dots(x)` of [`Point`]s (places down), `Plot::bars(x)` of numbers
//! (`plot.bar(panel, row, value)`), [`Heatmaps`] (`maps.panel(title).set(row, column, value)`) and
//! [`Scatter`] (`scatter.group(name, points)`).

mod axes;
pub mod bars;
pub mod boxes;
pub mod colour;
pub mod dots;
pub mod figure;
pub mod heatmap;
pub mod lines;
pub mod name;
pub mod panel;
pub mod plot;
pub mod raster;
pub mod scale;
pub mod scatter;
pub mod svg;

pub use boxes::Summary;
pub use colour::Colours;
pub use figure::Figure;
pub use heatmap::{Axis, Group, Heatmaps};
pub use lines::{LineChart, Point};
pub use name::{Name, Style};
pub use panel::Key;
pub use plot::{Draw, Plot};
pub use scale::{fixed, number};
pub use scatter::Scatter;
