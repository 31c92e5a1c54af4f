//! Box plots side by side (Tukey: the box holds the middle half, whiskers reach the furthest value within 1.5 of
//! its height, and what lies beyond is a dot).

use super::axes::{self, Axis, NamesBelow};
use super::lines::WIDTH;
use super::panel::Panel;
use super::plot::{Chart, Facet, Plot};
use super::scale::{Linear, number};
use super::svg::{Anchor, Markup};

const TOP: f64 = 24.0;
const BOTTOM: f64 = 204.0;

/// The five numbers of a box and the values outside its whiskers.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub whiskers: (f64, f64),
    pub quartiles: (f64, f64),
    pub median: f64,
    pub outside: Vec<f64>,
}

#[derive(Debug, Clone)]
pub struct BoxChart {
    x_label: String,
    y_label: String,
}

impl Plot<BoxChart> {
    pub fn boxes(x_label: &str, y_label: &str) -> Self {
        Plot::of(BoxChart { x_label: x_label.into(), y_label: y_label.into() }, true)
    }
}

impl Chart for BoxChart {
    type Value = Summary;

    fn extent(summary: &Summary) -> Vec<f64> {
        [summary.whiskers.0, summary.whiskers.1].into_iter().chain(summary.outside.iter().copied()).collect()
    }

    fn panel(&self, facet: &Facet<Summary>) -> Panel {
        let right = WIDTH - 6.0;
        let mut markup = Markup::default();
        let up = Axis::Up { bottom: BOTTOM, top: TOP, right };
        let (y, left) = axes::values(&mut markup, up, &self.y_label, facet.domain);
        let room = (right - left) / facet.places.len().max(1) as f64;
        let names = NamesBelow::new(facet.places.iter().map(|place| place.text.as_str()), room);
        let count = facet.series.len() as f64;
        let wide = (room * 0.78 / count.max(1.0)).min(26.0);
        for (i, place) in facet.places.iter().enumerate() {
            let middle = left + room * (i as f64 + 0.5);
            let mut tip = format!("{} {}", self.x_label, place.text).trim().to_string();
            for (s, (name, boxes)) in facet.series.iter().enumerate() {
                let Some(summary) = boxes[i] else { continue };
                let at = middle + wide * (s as f64 - (count - 1.0) / 2.0);
                summary.draw(&mut markup, &name.class(), at, wide * 0.72, &y);
                tip += &format!("\n{}  {}", name.text, summary.text());
            }
            markup.rect("hit", (middle - room / 2.0, TOP), (room, BOTTOM - TOP), Some(&tip));
            names.draw(&mut markup, &place.text, middle, BOTTOM);
        }
        let mut height = BOTTOM + names.drop;
        if !self.x_label.is_empty() {
            height += 16.0;
            markup.text("axis-label", ((left + WIDTH) / 2.0, height - 4.0), Anchor::Middle, &self.x_label);
        }
        Panel::new(facet.title, (WIDTH, height), markup)
    }
}

impl Summary {
    fn text(&self) -> String {
        let [median, low, high] = [self.median, self.quartiles.0, self.quartiles.1].map(number);
        format!("median {median}, middle half {low} to {high}, n {}", self.n)
    }

    fn draw(&self, markup: &mut Markup, class: &str, at: f64, wide: f64, y: &Linear) {
        let whisker = format!("whisker {class}");
        let (top, bottom) = (y.at(self.quartiles.1), y.at(self.quartiles.0));
        markup.line(&whisker, (at, y.at(self.whiskers.0)), (at, bottom));
        markup.line(&whisker, (at, top), (at, y.at(self.whiskers.1)));
        markup.rect(&format!("box {class}"), (at - wide / 2.0, top), (wide, bottom - top), None);
        let middle = y.at(self.median);
        markup.line(&format!("median {class}"), (at - wide / 2.0, middle), (at + wide / 2.0, middle));
        for value in &self.outside {
            markup.circle(&format!("dot {class}"), (at, y.at(*value)), 1.1, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::Name;
    use super::super::plot::Draw;
    use super::*;

    #[test]
    fn one_box_for_each_series_and_place() {
        let summary = Summary { n: 4, whiskers: (0.0, 3.0), quartiles: (1.0, 2.0), median: 1.5, outside: vec![9.0] };
        let mut plot = Plot::boxes("layer", "projection");
        plot.add("", Name::new(0, "a"), Name::new(0, "0"), summary.clone());
        plot.add("", Name::new(1, "b"), Name::new(0, "0"), summary.clone());
        plot.add("", Name::new(1, "b"), Name::new(1, "1"), summary);
        let svg = &plot.panels()[0].markup.0;
        assert_eq!((svg.matches("class=\"box s0\"").count(), svg.matches("class=\"box s1\"").count()), (1, 2));
        assert!(svg.contains("a  median 1.50, middle half 1.00 to 2.00, n 4") && svg.contains(">10</text>"), "{svg}");
    }
}
