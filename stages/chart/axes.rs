//! The axes that charts share: values up, values across, and names below.

use super::scale::Linear;
use super::svg::{Anchor, Markup, fit, text_width};

/// The size of the text in a panel.
pub const FONT: f64 = 11.0;

/// An axis of values.
#[derive(Debug, Clone, Copy)]
pub enum Axis {
    /// From `bottom` to `top`, its lines reaching to `right`; how far left they begin follows from its labels.
    Up { bottom: f64, top: f64, right: f64 },
    /// From `left` to `right`, its lines reaching from `top` to `bottom`.
    Across { left: f64, right: f64, top: f64, bottom: f64 },
}

/// Draws the axis with its label, its ticks and their lines. Returns its scale and, of an axis up, its left end.
pub fn values(markup: &mut Markup, axis: Axis, label: &str, domain: (f64, f64)) -> (Linear, f64) {
    match axis {
        Axis::Up { bottom, top, right } => {
            let y = Linear { domain, range: (bottom, top) };
            let ticks = y.ticks(5);
            let left = 8.0 + widest(ticks.iter().map(|(_, label)| label.as_str()), FONT);
            markup.text("axis-label", (0.0, 11.0), Anchor::Start, label);
            for (value, label) in &ticks {
                markup.line(grid(*value), (left, y.at(*value)), (right, y.at(*value)));
                markup.text("tick", (left - 5.0, y.at(*value) + 3.5), Anchor::End, label);
            }
            (y, left)
        }
        Axis::Across { left, right, top, bottom } => {
            let x = Linear { domain, range: (left, right) };
            for (value, label) in x.ticks(if right - left < 300.0 { 4 } else { 5 }) {
                markup.line(grid(value), (x.at(value), top), (x.at(value), bottom));
                markup.text("tick", (x.at(value), bottom + 14.0), Anchor::Middle, &label);
            }
            across_label(markup, label, &x, bottom);
            (x, left)
        }
    }
}

/// The name of an axis across, below its ticks.
pub fn across_label(markup: &mut Markup, label: &str, x: &Linear, bottom: f64) {
    markup.text("axis-label", ((x.range.0 + x.range.1) / 2.0, bottom + 30.0), Anchor::Middle, label);
}

fn grid(value: f64) -> &'static str {
    if value == 0.0 { "zero" } else { "grid" }
}

/// The width of the widest of some texts.
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    texts.into_iter().map(|text| text_width(text, size)).fold(0.0, f64::max)
}

/// Names below a chart, turned where they are wider than their room.
#[derive(Debug, Clone, Copy)]
pub struct NamesBelow {
    turned: bool,
    /// How much height they take.
    pub drop: f64,
}

impl NamesBelow {
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, room: f64) -> NamesBelow {
        let widest = widest(names, FONT);
        let turned = widest + 4.0 > room;
        NamesBelow { turned, drop: if turned { (widest * 0.72 + 14.0).min(84.0) } else { 20.0 } }
    }

    pub fn draw(self, markup: &mut Markup, name: &str, middle: f64, bottom: f64) {
        if self.turned {
            // A name that is turned reaches to the left of its place: no further than the panel's edge.
            let name = fit(name, FONT, (middle / 0.74).min(100.0));
            markup.turned_text("tick", (middle + 4.0, bottom + 11.0), -42, Anchor::End, &name);
        } else {
            markup.text("tick", (middle, bottom + 14.0), Anchor::Middle, name);
        }
    }
}
