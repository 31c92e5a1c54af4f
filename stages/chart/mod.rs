//! Charts as SVG: a figure is a question with panels, and each kind of panel is one file.

pub mod bars;
pub mod boxes;
pub mod colour;
pub mod figure;
pub mod heatmap;
pub mod lines;
pub mod raster;
pub mod scale;
pub mod scatter;
pub mod svg;
