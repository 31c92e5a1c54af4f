//! One plot of a figure, and what a legend says of its series.

use maud::{PreEscaped, html};

use super::name::Name;
use super::svg::{Markup, coordinate};

/// One plot with its own axes. Panels of one figure are equally wide.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    pub title: String,
    pub width: f64,
    pub height: f64,
    pub markup: Markup,
    /// The values behind an image, which the page shows on hover.
    pub cells: Option<Cells>,
}

/// A name and its colour class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub class: String,
}

/// What the page's script needs to name the cell under the pointer.
#[derive(Debug, Clone)]
pub struct Cells {
    /// Left, top, width and height of the cells in the panel.
    pub place: String,
    /// Least and greatest value.
    pub domain: String,
    /// The rows' names, each in a line.
    pub rows: String,
    /// `None` where the columns are named as the rows are.
    pub columns: Option<String>,
    /// The values on and right of the diagonal are packed, the others are the same.
    pub symmetric: bool,
    pub packed: String,
}

impl Panel {
    pub(super) fn new(title: &Name, (width, height): (f64, f64), markup: Markup) -> Panel {
        Panel { title: title.text.clone(), width, height, markup, cells: None }
    }

    pub(super) fn html(&self) -> maud::Markup {
        let (width, height, cells) = (coordinate(self.width), coordinate(self.height), self.cells.as_ref());
        html! {
            figure.panel {
                @if !self.title.is_empty() { figcaption { (self.title) } }
                svg viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(self.title)
                    data-place=[cells.map(|cells| &cells.place)]
                    data-domain=[cells.map(|cells| &cells.domain)]
                    data-rows=[cells.map(|cells| &cells.rows)]
                    data-columns=[cells.and_then(|cells| cells.columns.as_ref())]
                    data-symmetric[cells.is_some_and(|cells| cells.symmetric)]
                    data-values=[cells.map(|cells| &cells.packed)]
                    { (PreEscaped(&self.markup.0)) }
            }
        }
    }
}
