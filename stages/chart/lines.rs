//! Lines over layers with bands, each line named at its end.

use std::collections::BTreeMap;

use super::axes::{self, Axis, FONT};
use super::name::Name;
use super::name::Style;
use super::panel::Panel;
use super::plot::{Chart, Facet, Plot};
use super::scale::{Linear, with_interval};
use super::svg::{Anchor, Markup, fit};

pub const WIDTH: f64 = 336.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 200.0;
/// Names are set bold, which is wider.
const BOLD: f64 = 1.12 * FONT;

/// A value with its interval; `NaN` where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Point {
    pub const NONE: Point = Point { value: f64::NAN, low: f64::NAN, high: f64::NAN };

    pub fn new(value: f64, low: f64, high: f64) -> Point {
        Point { value, low, high }
    }

    /// Without an interval.
    pub fn bare(value: f64) -> Point {
        Point { value, ..Point::NONE }
    }

    /// The ends of the interval, where there is one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        (self.low.is_finite() && self.high.is_finite()).then_some((self.low, self.high))
    }

    /// `0.12 [0.10, 0.14]`.
    pub fn text(&self) -> String {
        with_interval(self.value, self.low, self.high)
    }
}

#[derive(Debug, Clone, Default)]
pub struct LineChart {
    x_label: String,
    y_label: String,
    marks: BTreeMap<Name, Vec<(Name, String)>>,
}

impl Plot<LineChart> {
    /// Lines with the band of each point's interval, named at their ends.
    pub fn lines(x_label: &str, y_label: &str) -> Self {
        Plot::of(LineChart { x_label: x_label.into(), y_label: y_label.into(), ..LineChart::default() }, false)
    }

    /// Points out a place of a panel, with a word.
    pub fn mark(&mut self, panel: impl Into<Name>, place: impl Into<Name>, word: impl Into<String>) {
        self.chart.marks.entry(panel.into()).or_default().push((place.into(), word.into()));
    }
}

impl Chart for LineChart {
    type Value = Point;

    fn extent(point: &Point) -> Vec<f64> {
        vec![point.value, point.low, point.high]
    }

    fn panel(&self, facet: &Facet<Point>) -> Panel {
        let mut markup = Markup::default();
        let lines: Vec<Line> = facet.series.iter().map(Line::new).collect();
        let named: Vec<&Line> = lines.iter().filter(|line| !facet.legend && line.name.style != Style::Faint).collect();
        let names = axes::widest(named.iter().map(|line| line.name.text.as_str()), BOLD);
        let right = WIDTH - (8.0 + names).clamp(10.0, 130.0);
        let up = Axis::Up { bottom: BOTTOM, top: TOP, right };
        let (y, left) = axes::values(&mut markup, up, &self.y_label, facet.domain);
        let last = facet.places.len().saturating_sub(1).max(1) as f64;
        let x = Linear { domain: (0.0, last), range: (left + 8.0, right - 4.0) };

        places_below(&mut markup, &facet.places, &x);
        axes::across_label(&mut markup, &self.x_label, &x, BOTTOM);
        for (i, (place, word)) in self.marks.get(facet.title).into_iter().flatten().enumerate() {
            let Some(place) = facet.places.iter().position(|known| *known == place) else { continue };
            let at = x.at(place as f64);
            markup.line("mark", (at, TOP - 4.0), (at, BOTTOM));
            let (anchor, shift) = if at > (left + right) / 2.0 { (Anchor::End, -4.0) } else { (Anchor::Start, 4.0) };
            markup.text("mark-label", (at + shift, TOP - 1.0 + 12.0 * i as f64), anchor, word);
        }
        lines.iter().for_each(|line| line.band(&mut markup, &x, &y));
        lines.iter().for_each(|line| line.draw(&mut markup, &x, &y));
        names_at_ends(&mut markup, &named, right, &y);
        // One invisible strip for each place tells all values there.
        let half = (x.range.1 - x.range.0) / last / 2.0;
        for (i, place) in facet.places.iter().enumerate() {
            let mut tip = format!("{} {}", self.x_label, place.text);
            for line in lines.iter().filter(|line| line.name.style != Style::Faint) {
                if line.points[i].value.is_finite() {
                    tip += &format!("\n{}  {}", line.name.text, line.points[i].text());
                }
            }
            markup.rect("hit", (x.at(i as f64) - half, TOP), (2.0 * half, BOTTOM - TOP), Some(&tip));
        }
        Panel::new(facet.title, (WIDTH, BOTTOM + 36.0), markup)
    }
}

/// The places' names, as many as there is room for, the last among them.
fn places_below(markup: &mut Markup, places: &[&Name], x: &Linear) {
    let widest = axes::widest(places.iter().map(|place| place.text.as_str()), FONT) + 6.0;
    let last = places.len().saturating_sub(1);
    let room = (x.range.1 - x.range.0) / last.max(1) as f64;
    let steps = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 100];
    let every = steps.into_iter().find(|&every| every as f64 * room >= widest).unwrap_or(places.len().max(1));
    for (i, place) in places.iter().enumerate() {
        let crowds_last = i != last && (last - i) as f64 * room < widest;
        if (i % every == 0 && !crowds_last) || i == last {
            let at = x.at(i as f64);
            markup.line("notch", (at, BOTTOM + 2.0), (at, BOTTOM + 5.0));
            markup.text("tick", (at, BOTTOM + 16.0), Anchor::Middle, &place.text);
        }
    }
}

/// The lines' names at their ends, moved apart where they would lie on each other.
fn names_at_ends(markup: &mut Markup, lines: &[&Line], right: f64, y: &Linear) {
    const GAP: f64 = 12.5;
    let mut ends: Vec<(f64, f64, &Line)> = lines
        .iter()
        .filter_map(|line| {
            let end = y.at(line.points.iter().rev().find(|point| point.value.is_finite())?.value);
            Some((end, end, *line))
        })
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    for i in 1..ends.len() {
        ends[i].1 = ends[i].1.max(ends[i - 1].1 + GAP);
    }
    let mut limit = BOTTOM;
    for end in ends.iter_mut().rev() {
        end.1 = end.1.min(limit).max(TOP - 8.0);
        limit = end.1 - GAP;
    }
    for (end, place, line) in ends {
        if (end - place).abs() > 3.0 {
            markup.line(&format!("leader {}", line.class), (right - 3.0, end), (right + 5.0, place));
        }
        let name = fit(&line.name.text, BOLD, WIDTH - right - 4.0);
        markup.text(&format!("name {}", line.class), (right + 6.0, place + 3.8), Anchor::Start, &name);
    }
}

struct Line<'a> {
    name: &'a Name,
    class: String,
    /// One for each place on the x axis.
    points: Vec<Point>,
}

impl<'a> Line<'a> {
    fn new((name, points): &(&'a Name, Vec<Option<&Point>>)) -> Line<'a> {
        let points = points.iter().map(|point| point.copied().unwrap_or(Point::NONE)).collect();
        Line { name, class: name.class(), points }
    }

    fn draw(&self, markup: &mut Markup, x: &Linear, y: &Linear) {
        let line: Vec<(f64, f64)> =
            self.points.iter().enumerate().map(|(i, point)| (x.at(i as f64), y.at(point.value))).collect();
        markup.polyline(&format!("line {}", self.class), &line);
        if line.len() <= 16 && !matches!(self.name.style, Style::Faint | Style::Dashed) {
            for &at in line.iter().filter(|(_, y)| y.is_finite()) {
                markup.circle(&format!("dot {}", self.class), at, 2.2, None);
            }
        }
    }

    fn band(&self, markup: &mut Markup, x: &Linear, y: &Linear) {
        let inside = self.points.iter().enumerate();
        let inside = inside.filter_map(|(i, point)| point.interval().map(|(low, high)| (x.at(i as f64), low, high)));
        let inside: Vec<(f64, f64, f64)> = inside.collect();
        if let [(at, low, high)] = inside[..] {
            markup.line(&format!("line {}", self.class), (at, y.at(low)), (at, y.at(high)));
        } else if inside.len() > 1 {
            let upper = inside.iter().map(|(at, _, high)| (*at, y.at(*high)));
            let lower = inside.iter().rev().map(|(at, low, _)| (*at, y.at(*low)));
            markup.polyline(&format!("band {}", self.class), &upper.chain(lower).collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plot::Draw;
    use super::super::svg::attributes;
    use super::*;

    #[test]
    fn names_do_not_lie_on_each_other() {
        let mut plot = Plot::lines("layer", "value");
        for (rank, name) in ["a", "b", "c"].into_iter().enumerate() {
            plot.add("", Name::new(rank, name), Name::new(0, "0"), Point::bare(0.0));
            plot.add("", Name::new(rank, name), Name::new(1, "1"), Point::bare(1.0));
        }
        let mut places = attributes(&plot.panels()[0].markup.0, "<text class=\"name", "y");
        places.sort_by(f64::total_cmp);
        assert_eq!(places.len(), 3);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 12.0), "{places:?}");
    }

    #[test]
    fn a_strip_tells_every_value_at_its_place() {
        let mut plot = Plot::lines("layer", "value");
        plot.add("", "base", Name::new(0, "0"), Point::new(0.5, 0.4, 0.6));
        plot.add("", "base", Name::new(1, "norm"), Point::NONE);
        let svg = &plot.panels()[0].markup.0;
        assert!(svg.contains("layer 0&#10;base  0.500 [0.400, 0.600]"), "{svg}");
        assert!(svg.contains("<title>layer norm</title>"));
    }
}
