//! A line plot over layers with bands, each line named at its end.

use super::figure::Panel;
use super::scale::{Linear, with_interval};
use super::svg::{Anchor, Markup, fit, text_width};

pub const WIDTH: f64 = 336.0;
const HEIGHT: f64 = 236.0;
const FONT: f64 = 11.0;
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
}

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    /// Colour classes; `null` for what chance gives and `faint` for background lines.
    pub class: String,
    /// One for each place on the x axis.
    pub points: Vec<Point>,
    /// Named at its right end.
    pub labelled: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Lines {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    /// The x axis' places.
    pub x: Vec<String>,
    pub series: Vec<Series>,
    /// Places on the x axis to be pointed out, with a word.
    pub marks: Vec<(usize, String)>,
    /// Shared by the panels of a figure, so that they can be compared.
    pub y_domain: Option<(f64, f64)>,
}

/// The y values of some series, bands included: the domain for [`Lines::y_domain`].
pub fn y_domain<'a>(series: impl IntoIterator<Item = &'a Series>) -> (f64, f64) {
    let values = series.into_iter().flat_map(|series| &series.points).flat_map(|p| [p.value, p.low, p.high]);
    Linear::over(values, (0.0, 1.0)).domain
}

impl Lines {
    pub fn panel(&self) -> Panel {
        let domain = self.y_domain.unwrap_or_else(|| y_domain(&self.series));
        let y = Linear { domain, range: (HEIGHT - 36.0, 24.0) };
        let ticks = y.ticks(5);
        let left = 8.0 + ticks.iter().map(|(_, label)| text_width(label, FONT)).fold(0.0, f64::max);
        let names = self.series.iter().filter(|series| series.labelled).map(|series| text_width(&series.name, BOLD));
        let right = WIDTH - (8.0 + names.fold(0.0, f64::max)).clamp(10.0, 130.0);
        let last = self.x.len().saturating_sub(1).max(1) as f64;
        let x = Linear { domain: (0.0, last), range: (left + 8.0, right - 4.0) };

        let mut markup = Markup::default();
        markup.text("axis-label", (0.0, 11.0), Anchor::Start, &self.y_label);
        for (value, label) in &ticks {
            let class = if *value == 0.0 { "zero" } else { "grid" };
            markup.line(class, (left, y.at(*value)), (right, y.at(*value)));
            markup.text("tick", (left - 5.0, y.at(*value) + 3.5), Anchor::End, label);
        }
        self.x_axis(&mut markup, &x);
        for (i, (place, word)) in self.marks.iter().enumerate() {
            let at = x.at(*place as f64);
            markup.line("mark", (at, y.range.1 - 4.0), (at, y.range.0));
            let anchor = if at > (left + right) / 2.0 { Anchor::End } else { Anchor::Start };
            let shift = if anchor == Anchor::End { -4.0 } else { 4.0 };
            markup.text("mark-label", (at + shift, y.range.1 - 1.0 + 12.0 * i as f64), anchor, word);
        }
        for series in &self.series {
            self.band(&mut markup, series, &x, &y);
        }
        for series in &self.series {
            let line: Vec<(f64, f64)> =
                series.points.iter().enumerate().map(|(i, p)| (x.at(i as f64), y.at(p.value))).collect();
            markup.polyline(&format!("line {}", series.class), &line);
            let plain = !series.class.contains("faint") && !series.class.contains("dashed");
            if self.x.len() <= 16 && plain {
                for &at in line.iter().filter(|(_, y)| y.is_finite()) {
                    markup.circle(&format!("dot {}", series.class), at, 2.2, None);
                }
            }
        }
        self.names(&mut markup, right, &y);
        self.tips(&mut markup, &x, &y);
        Panel { title: self.title.clone(), width: WIDTH, height: HEIGHT, markup, cells: None }
    }

    fn x_axis(&self, markup: &mut Markup, x: &Linear) {
        let widest = self.x.iter().map(|label| text_width(label, FONT)).fold(0.0, f64::max) + 6.0;
        let room = (x.range.1 - x.range.0) / self.x.len().saturating_sub(1).max(1) as f64;
        let every = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 100]
            .into_iter()
            .find(|&every| every as f64 * room >= widest)
            .unwrap_or(self.x.len().max(1));
        let last = self.x.len().saturating_sub(1);
        for (i, label) in self.x.iter().enumerate() {
            let crowds_last = i != last && (last - i) as f64 * room < widest;
            if (i % every == 0 && !crowds_last) || i == last {
                let at = x.at(i as f64);
                markup.line("notch", (at, HEIGHT - 34.0), (at, HEIGHT - 31.0));
                markup.text("tick", (at, HEIGHT - 20.0), Anchor::Middle, label);
            }
        }
        let middle = (x.range.0 + x.range.1) / 2.0;
        markup.text("axis-label", (middle, HEIGHT - 5.0), Anchor::Middle, &self.x_label);
    }

    fn band(&self, markup: &mut Markup, series: &Series, x: &Linear, y: &Linear) {
        let inside: Vec<(usize, &Point)> =
            series.points.iter().enumerate().filter(|(_, p)| p.low.is_finite() && p.high.is_finite()).collect();
        if inside.len() < 2 {
            for (i, p) in inside {
                let at = x.at(i as f64);
                markup.line(&format!("line {}", series.class), (at, y.at(p.low)), (at, y.at(p.high)));
            }
            return;
        }
        let upper = inside.iter().map(|(i, p)| (x.at(*i as f64), y.at(p.high)));
        let lower = inside.iter().rev().map(|(i, p)| (x.at(*i as f64), y.at(p.low)));
        markup.polyline(&format!("band {}", series.class), &upper.chain(lower).collect::<Vec<_>>());
    }

    /// The names at the lines' ends, moved apart where they would lie on each other.
    fn names(&self, markup: &mut Markup, right: f64, y: &Linear) {
        const GAP: f64 = 12.5;
        let mut ends: Vec<(f64, f64, &Series)> = self
            .series
            .iter()
            .filter(|series| series.labelled)
            .filter_map(|series| {
                let end = y.at(series.points.iter().rev().find(|p| p.value.is_finite())?.value);
                Some((end, end, series))
            })
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (top, bottom) = (y.range.1, y.range.0);
        for i in 1..ends.len() {
            ends[i].1 = ends[i].1.max(ends[i - 1].1 + GAP);
        }
        let mut limit = bottom;
        for end in ends.iter_mut().rev() {
            end.1 = end.1.min(limit).max(top - 8.0);
            limit = end.1 - GAP;
        }
        for (end, place, series) in ends {
            if (end - place).abs() > 3.0 {
                markup.line(&format!("leader {}", series.class), (right - 3.0, end), (right + 5.0, place));
            }
            let name = fit(&series.name, BOLD, WIDTH - right - 4.0);
            markup.text(&format!("name {}", series.class), (right + 6.0, place + 3.8), Anchor::Start, &name);
        }
    }

    /// One invisible strip for each place on the x axis that tells all values there.
    fn tips(&self, markup: &mut Markup, x: &Linear, y: &Linear) {
        let half = (x.range.1 - x.range.0) / self.x.len().saturating_sub(1).max(1) as f64 / 2.0;
        for (i, place) in self.x.iter().enumerate() {
            let mut tip = format!("{} {place}", self.x_label);
            for series in self.series.iter().filter(|series| !series.class.contains("faint")) {
                if let Some(p) = series.points.get(i).filter(|p| p.value.is_finite()) {
                    tip += &format!("\n{}  {}", series.name, with_interval(p.value, p.low, p.high));
                }
            }
            let at = (x.at(i as f64) - half, y.range.1);
            markup.rect("hit", at, (2.0 * half, y.range.0 - y.range.1), Some(&tip));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        let points = values.iter().map(|&v| Point { value: v, low: v - 0.1, high: v + 0.1 }).collect();
        Series { name: name.into(), class: "s0".into(), points, labelled: true }
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        let lines = Lines {
            x: vec!["0".into(), "1".into()],
            series: ["a", "b", "c"].map(|name| series(name, &[0.0, 1.0])).to_vec(),
            ..Lines::default()
        };
        let svg = lines.panel().markup.0;
        let mut places: Vec<f64> = svg
            .match_indices(r#"<text class="name"#)
            .map(|(at, _)| svg[at..].split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        places.sort_by(f64::total_cmp);
        assert_eq!(places.len(), 3);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 12.0), "{places:?}");
    }

    #[test]
    fn a_strip_tells_every_value_at_its_place() {
        let lines = Lines {
            x_label: "layer".into(),
            x: vec!["0".into(), "norm".into()],
            series: vec![series("base", &[0.5, f64::NAN])],
            ..Lines::default()
        };
        let svg = lines.panel().markup.0;
        assert!(svg.contains("layer 0&#10;base  0.500 [0.400, 0.600]"), "{svg}");
        assert!(svg.contains("<title>layer norm</title>"));
    }
}
