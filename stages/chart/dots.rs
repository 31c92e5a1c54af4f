//! Estimates with whiskers: places down, a dot for each series.

use super::axes::{self, Axis, FONT};
use super::lines::Point;
use super::name::Style;
use super::panel::Panel;
use super::plot::{Chart, Facet, Plot};
use super::scale::number;
use super::svg::{Anchor, Markup, fit};

/// The least height of a row.
const ROW: f64 = 19.0;

#[derive(Debug, Clone)]
pub struct DotChart {
    x_label: String,
}

impl Plot<DotChart> {
    pub fn dots(x_label: &str) -> Self {
        Plot::of(DotChart { x_label: x_label.into() }, true)
    }
}

impl Chart for DotChart {
    type Value = Point;

    fn extent(point: &Point) -> Vec<f64> {
        vec![point.value, point.low, point.high]
    }

    fn panel(&self, facet: &Facet<Point>) -> Panel {
        let widest = axes::widest(facet.places.iter().map(|place| place.text.as_str()), FONT);
        let left = (widest + 10.0).clamp(30.0, 260.0);
        // Long names make the panel wider, not the plot narrower.
        let width = (left + 190.0).max(340.0);
        // What chance gives is a mark across the row, not one more series.
        let drawn = facet.series.iter().filter(|(name, _)| name.style != Style::Null).count();
        let row = (8.0 + 6.5 * drawn as f64).max(ROW);
        let bottom = 8.0 + row * facet.places.len() as f64;
        let mut markup = Markup::default();
        let across = Axis::Across { left: left + 4.0, right: width - 14.0, top: 6.0, bottom };
        let (x, _) = axes::values(&mut markup, across, &self.x_label, facet.domain);
        for (i, place) in facet.places.iter().enumerate() {
            let top = 8.0 + row * i as f64;
            let label = fit(&place.text, FONT, left - 8.0);
            markup.text("", (left - 6.0, top + row / 2.0 + 3.8), Anchor::End, &label);
            let mut tip = place.text.clone();
            let mut line = 0;
            for (name, points) in &facet.series {
                line += usize::from(name.style != Style::Null);
                let Some(point) = points[i].filter(|point| point.value.is_finite()) else { continue };
                let (at, class) = (x.at(point.value), name.class());
                if name.style == Style::Null {
                    markup.line("chance", (at, top + 2.5), (at, top + row - 2.5));
                    tip += &format!("\n{}  {}", name.text, number(point.value));
                    continue;
                }
                let y = top + row * line as f64 / (drawn as f64 + 1.0);
                if let Some((low, high)) = point.interval() {
                    markup.line(&format!("line {class}"), (x.at(low), y), (x.at(high), y));
                }
                markup.circle(&format!("dot {class}"), (at, y), 3.0, None);
                tip += &format!("\n{}  {}", name.text, point.text());
            }
            markup.rect("hit", (left, top), (width - left, row), Some(&tip));
        }
        Panel::new(facet.title, (width, bottom + 34.0), markup)
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::Name;
    use super::super::plot::Draw;
    use super::*;

    #[test]
    fn chance_is_a_mark_and_a_missing_estimate_is_left_out() {
        let mut plot = Plot::dots("mean");
        plot.add("", "groups", Name::new(0, "x"), Point::bare(1.0));
        plot.add("", "groups", Name::new(1, "y"), Point::NONE);
        plot.add("", Name::new(0, "shuffled").style(Style::Null), Name::new(0, "x"), Point::bare(0.2));
        let svg = &plot.panels()[0].markup.0;
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"chance\"").count()), (1, 1));
        assert!(svg.contains("shuffled  0.200") && !svg.contains("NaN"), "{svg}");
    }
}
