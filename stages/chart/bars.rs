//! Horizontal bars, and estimates with whiskers, one row for each name.

use super::figure::Panel;
use super::lines::Point;
use super::scale::{Linear, number, with_interval};
use super::svg::{Anchor, Markup, fit, text_width};

const WIDTH: f64 = 340.0;
const ROW: f64 = 19.0;
const FONT: f64 = 11.0;

/// Bars of one series: `-1.2  the` and so on.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    pub title: String,
    pub x_label: String,
    pub rows: Vec<(String, f64)>,
    pub class: String,
    /// The axis, shared by the panels of a figure.
    pub domain: Option<(f64, f64)>,
    /// Set the names in a monospaced face, as for tokens.
    pub mono: bool,
}

impl Bars {
    pub fn panel(&self) -> Panel {
        // A monospaced face is wider on the whole.
        let size = if self.mono { 1.1 * FONT } else { FONT };
        let widest = self.rows.iter().map(|(name, _)| text_width(name, size)).fold(0.0, f64::max);
        let left = (widest + 8.0).clamp(30.0, WIDTH * 0.42);
        let domain = self.domain.unwrap_or_else(|| {
            let values = self.rows.iter().map(|(_, value)| *value).chain([0.0]);
            Linear::over(values, (0.0, 1.0)).domain
        });
        let x = Linear { domain, range: (left, WIDTH - 46.0) };
        let bottom = 16.0 + ROW * self.rows.len() as f64;
        let mut markup = Markup::default();
        markup.text("axis-label", (left, 10.0), Anchor::Start, &self.x_label);
        markup.line("zero", (x.at(0.0), 14.0), (x.at(0.0), bottom + 2.0));
        for (i, (name, value)) in self.rows.iter().enumerate() {
            let y = 16.0 + ROW * i as f64;
            let class = if self.mono { "mono" } else { "" };
            markup.text(class, (left - 6.0, y + 12.5), Anchor::End, &fit(name, size, left - 8.0));
            if !value.is_finite() {
                continue;
            }
            let (a, b) = (x.at(value.min(0.0)), x.at(value.max(0.0)));
            let tip = format!("{name}\n{} {}", self.x_label, number(*value));
            markup.rect(&format!("bar {}", self.class), (a, y + 2.5), ((b - a).max(0.8), ROW - 6.0), Some(&tip));
            markup.text("tick", (b + 4.0, y + 12.5), Anchor::Start, &number(*value));
        }
        Panel { title: self.title.clone(), width: WIDTH, height: bottom + 6.0, markup, cells: None }
    }
}

/// Estimates with intervals: rows down, one dot for each series.
#[derive(Debug, Clone, Default)]
pub struct Dots {
    pub title: String,
    pub x_label: String,
    pub rows: Vec<String>,
    /// Name, class and a point for each row.
    pub series: Vec<(String, String, Vec<Point>)>,
    pub domain: Option<(f64, f64)>,
}

impl Dots {
    pub fn panel(&self) -> Panel {
        let widest = self.rows.iter().map(|name| text_width(name, FONT)).fold(0.0, f64::max);
        let left = (widest + 10.0).clamp(30.0, 260.0);
        // Long names make the panel wider, not the plot narrower.
        let width = (left + 190.0).max(WIDTH);
        // What chance gives is a mark across the row, not one more series.
        let is_null = |class: &str| class == "null";
        let drawn = self.series.iter().filter(|(_, class, _)| !is_null(class)).count();
        let row = (8.0 + 6.5 * drawn as f64).max(ROW);
        let points = self.series.iter().flat_map(|(_, _, points)| points);
        let values = points.flat_map(|point| [point.value, point.low, point.high]);
        let domain = self.domain.unwrap_or_else(|| Linear::over(values, (0.0, 1.0)).domain);
        let x = Linear { domain, range: (left + 4.0, width - 14.0) };
        let bottom = 8.0 + row * self.rows.len() as f64;
        let mut markup = Markup::default();
        for (value, label) in x.ticks(4) {
            let class = if value == 0.0 { "zero" } else { "grid" };
            markup.line(class, (x.at(value), 6.0), (x.at(value), bottom));
            markup.text("tick", (x.at(value), bottom + 13.0), Anchor::Middle, &label);
        }
        let middle = (x.range.0 + x.range.1) / 2.0;
        markup.text("axis-label", (middle, bottom + 28.0), Anchor::Middle, &self.x_label);
        for (i, name) in self.rows.iter().enumerate() {
            let top = 8.0 + row * i as f64;
            let label = fit(name, FONT, left - 8.0);
            markup.text("", (left - 6.0, top + row / 2.0 + 3.8), Anchor::End, &label);
            let mut tip = name.clone();
            let mut place = 0;
            for (series, class, points) in &self.series {
                place += usize::from(!is_null(class));
                let Some(point) = points.get(i).filter(|point| point.value.is_finite()) else { continue };
                if is_null(class) {
                    let at = x.at(point.value);
                    markup.line("chance", (at, top + 2.5), (at, top + row - 2.5));
                    tip += &format!("\n{series}  {}", number(point.value));
                    continue;
                }
                let y = top + row * place as f64 / (drawn as f64 + 1.0);
                if point.low.is_finite() && point.high.is_finite() {
                    markup.line(&format!("line {class}"), (x.at(point.low), y), (x.at(point.high), y));
                }
                markup.circle(&format!("dot {class}"), (x.at(point.value), y), 3.0, None);
                tip += &format!("\n{series}  {}", with_interval(point.value, point.low, point.high));
            }
            markup.rect("hit", (left, top), (width - left, row), Some(&tip));
        }
        Panel { title: self.title.clone(), width, height: bottom + 34.0, markup, cells: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_bar_ends_at_zero() {
        let bars = Bars { rows: vec![("up".into(), 2.0), ("down".into(), -2.0)], ..Bars::default() };
        let svg = bars.panel().markup.0;
        let edge = |i: usize, name: &str| -> f64 {
            let bar = svg.split("<rect class=\"bar").nth(i + 1).unwrap();
            bar.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!((edge(0, "x") - (edge(1, "x") + edge(1, "width"))).abs() < 0.02);
        assert!((edge(0, "width") - edge(1, "width")).abs() < 0.02);
    }

    #[test]
    fn chance_is_a_mark_and_no_dot() {
        let point = |value: f64| vec![Point::bare(value)];
        let series = [("groups", "s0", 1.0), ("shuffled", "null", 0.2)];
        let series = series.map(|(name, class, value)| (name.to_string(), class.to_string(), point(value))).to_vec();
        let svg = Dots { rows: vec!["x".into()], series, ..Dots::default() }.panel().markup.0;
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"chance\"").count()), (1, 1));
        assert!(svg.contains("shuffled  0.200"));
    }

    #[test]
    fn a_missing_estimate_is_left_out() {
        let series = vec![("a".to_string(), "s0".to_string(), vec![Point::NONE, Point::bare(1.0)])];
        let dots = Dots { rows: vec!["x".into(), "y".into()], series, ..Dots::default() };
        let svg = dots.panel().markup.0;
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN"));
    }
}
