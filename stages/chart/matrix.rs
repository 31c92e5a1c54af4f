//! Heatmaps of one figure: panels that share their rows, their columns and their colours.

use super::colour::ColourScale;
use super::figure::Panel;
use super::heatmap::{Axis, Heatmap};
use super::plot::Draw;

/// What the values are, and so how they are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Cosines: -1 to 1 around 0, and 1 on the diagonal of a square.
    Cosine,
    /// Amounts: from 0 to the furthest value of all panels, and 0 on the diagonal of a square.
    Amount,
}

/// Values of one panel, row-major; `NaN` where there is none.
#[derive(Debug, Clone)]
pub struct Matrix {
    title: String,
    columns: usize,
    symmetric: bool,
    values: Vec<f32>,
}

impl Matrix {
    /// Sets a value, and in a square the one opposite.
    pub fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.columns + column] = value;
        if self.symmetric {
            self.values[column * self.columns + row] = value;
        }
    }
}

#[derive(Debug, Clone)]
pub struct Heatmaps {
    rows: Axis,
    columns: Axis,
    colours: Colours,
    width: f64,
    symmetric: bool,
    panels: Vec<Matrix>,
}

impl Heatmaps {
    pub fn new(rows: Axis, columns: Axis, colours: Colours, width: f64) -> Heatmaps {
        Heatmaps { rows, columns, colours, width, symmetric: false, panels: Vec::new() }
    }

    /// Of everything on the axis with everything on it.
    pub fn square(axis: Axis, colours: Colours, width: f64) -> Heatmaps {
        Heatmaps { symmetric: true, ..Heatmaps::new(axis.clone(), axis, colours, width) }
    }

    /// A new panel, whose cells are empty but for the diagonal of a square.
    pub fn panel(&mut self, title: impl Into<String>) -> &mut Matrix {
        let (rows, columns) = (self.rows.labels.len(), self.columns.labels.len());
        let values = vec![f32::NAN; rows * columns];
        let mut matrix = Matrix { title: title.into(), columns, symmetric: self.symmetric, values };
        if self.symmetric {
            let diagonal = if self.colours == Colours::Cosine { 1.0 } else { 0.0 };
            (0..rows).for_each(|i| matrix.set(i, i, diagonal));
        }
        self.panels.push(matrix);
        let last = self.panels.len() - 1;
        &mut self.panels[last]
    }

    fn scale(&self) -> ColourScale {
        match self.colours {
            Colours::Cosine => ColourScale::Diverging { limit: 1.0 },
            Colours::Amount => {
                let values = self.panels.iter().flat_map(|panel| &panel.values).filter(|value| value.is_finite());
                let (lo, hi) = values.fold((0.0, 0.0), |(lo, hi): (f64, f64), &v| (lo.min(v.into()), hi.max(v.into())));
                ColourScale::Sequential { lo, hi: if hi > lo { hi } else { lo + 1.0 } }
            }
        }
    }
}

impl Draw for Heatmaps {
    fn panels(&self) -> Vec<Panel> {
        let scale = self.scale();
        let panel = |matrix: &Matrix| {
            let (rows, columns) = (self.rows.clone(), self.columns.clone());
            let Matrix { title, values, .. } = matrix.clone();
            Heatmap { title, rows, columns, values, scale, width: self.width }.panel()
        };
        self.panels.iter().filter_map(|matrix| panel(matrix).ok()).collect()
    }
}
