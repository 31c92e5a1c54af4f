//! Horizontal bars of single values, one row for each token: `the  -1.2` and so on.

use super::axes;
use super::name::Name;
use super::panel::Panel;
use super::plot::{Chart, Facet, Plot};
use super::scale::{Linear, number};
use super::svg::{Anchor, Markup, fit};

const WIDTH: f64 = 340.0;
const ROW: f64 = 19.0;
/// A monospaced face is wider on the whole.
const MONO: f64 = 1.1 * axes::FONT;

#[derive(Debug, Clone)]
pub struct BarChart {
    x_label: String,
}

impl Plot<BarChart> {
    /// Bars in the colour of their panel, their rows named in a monospaced face.
    pub fn bars(x_label: &str) -> Self {
        Plot::of(BarChart { x_label: x_label.into() }, false)
    }

    /// Adds a row to a panel.
    pub fn bar(&mut self, panel: impl Into<Name>, row: impl Into<Name>, value: f64) {
        let panel = panel.into();
        self.add(panel.clone(), panel, row, value);
    }
}

impl Chart for BarChart {
    type Value = f64;
    const SHARED_PLACES: bool = false;

    fn extent(value: &f64) -> Vec<f64> {
        vec![*value, 0.0]
    }

    fn panel(&self, facet: &Facet<f64>) -> Panel {
        let left = axes::widest(facet.places.iter().map(|place| place.text.as_str()), MONO) + 8.0;
        let left = left.clamp(30.0, WIDTH * 0.42);
        let x = Linear { domain: facet.domain, range: (left, WIDTH - 46.0) };
        let bottom = 16.0 + ROW * facet.places.len() as f64;
        let mut markup = Markup::default();
        markup.text("axis-label", (left, 10.0), Anchor::Start, &self.x_label);
        markup.line("zero", (x.at(0.0), 14.0), (x.at(0.0), bottom + 2.0));
        let values = facet.series.iter().flat_map(|(_, values)| values);
        for (i, (place, value)) in facet.places.iter().zip(values).enumerate() {
            let y = 16.0 + ROW * i as f64;
            markup.text("mono", (left - 6.0, y + 12.5), Anchor::End, &fit(&place.text, MONO, left - 8.0));
            let Some(value) = value.copied().filter(|value| value.is_finite()) else { continue };
            let (a, b) = (x.at(value.min(0.0)), x.at(value.max(0.0)));
            let tip = format!("{}\n{} {}", place.text, self.x_label, number(value));
            let class = format!("bar {}", facet.title.class());
            markup.rect(&class, (a, y + 2.5), ((b - a).max(0.8), ROW - 6.0), Some(&tip));
            markup.text("tick", (b + 4.0, y + 12.5), Anchor::Start, &number(value));
        }
        Panel::new(facet.title, (WIDTH, bottom + 6.0), markup)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plot::Draw;
    use super::super::svg::attributes;
    use super::*;

    #[test]
    fn a_negative_bar_ends_at_zero() {
        let mut plot = Plot::bars("effect");
        plot.bar("", Name::new(0, "up"), 2.0);
        plot.bar("", Name::new(1, "down"), -2.0);
        let svg = &plot.panels()[0].markup.0;
        let [x, width] = ["x", "width"].map(|name| attributes(svg, "<rect class=\"bar", name));
        assert!((x[0] - (x[1] + width[1])).abs() < 0.02 && (width[0] - width[1]).abs() < 0.02, "{x:?} {width:?}");
    }
}
