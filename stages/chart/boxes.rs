//! Box plots side by side (Tukey: the box holds the middle half, whiskers reach the furthest value within 1.5 of
//! its height, and what lies beyond is a dot).

use super::figure::Panel;
use super::lines::WIDTH;
use super::scale::{Linear, number};
use super::svg::{Anchor, Markup, fit, text_width};

const HEIGHT: f64 = 240.0;
const FONT: f64 = 11.0;

/// The five numbers of a box and the values outside its whiskers.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub whiskers: (f64, f64),
    pub quartiles: (f64, f64),
    pub median: f64,
    pub outside: Vec<f64>,
}

#[derive(Debug, Clone, Default)]
pub struct Boxes {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x: Vec<String>,
    /// Name, class and one box for each place on the x axis.
    pub series: Vec<(String, String, Vec<Option<Summary>>)>,
    pub y_domain: Option<(f64, f64)>,
}

impl Boxes {
    /// All that is drawn: the domain for panels on one scale.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let boxes = self.series.iter().flat_map(|(_, _, boxes)| boxes).flatten();
        boxes.flat_map(|b| [b.whiskers.0, b.whiskers.1].into_iter().chain(b.outside.iter().copied()))
    }

    pub fn panel(&self) -> Panel {
        let widest_name = self.x.iter().map(|name| text_width(name, FONT)).fold(0.0, f64::max);
        let domain = self.y_domain.unwrap_or_else(|| Linear::over(self.values(), (0.0, 1.0)).domain);
        let mut y = Linear { domain, range: (HEIGHT - 36.0, 24.0) };
        let ticks = y.ticks(5);
        let left = 8.0 + ticks.iter().map(|(_, label)| text_width(label, FONT)).fold(0.0, f64::max);
        let room = (WIDTH - 6.0 - left) / self.x.len().max(1) as f64;
        let turned = widest_name + 4.0 > room;
        let drop = if turned { (widest_name * 0.72 + 12.0).min(84.0) } else { 20.0 };
        let height = HEIGHT - 36.0 + drop + if self.x_label.is_empty() { 0.0 } else { 16.0 };
        y.range.0 = HEIGHT - 36.0;

        let mut markup = Markup::default();
        markup.text("axis-label", (0.0, 11.0), Anchor::Start, &self.y_label);
        for (value, label) in &ticks {
            let class = if *value == 0.0 { "zero" } else { "grid" };
            markup.line(class, (left, y.at(*value)), (WIDTH - 6.0, y.at(*value)));
            markup.text("tick", (left - 5.0, y.at(*value) + 3.5), Anchor::End, label);
        }
        let wide = (room * 0.78 / self.series.len().max(1) as f64).min(26.0);
        for (i, name) in self.x.iter().enumerate() {
            let middle = left + room * (i as f64 + 0.5);
            let mut tip = format!("{} {name}", self.x_label).trim().to_string();
            for (s, (series, class, boxes)) in self.series.iter().enumerate() {
                let Some(summary) = boxes.get(i).and_then(Option::as_ref) else { continue };
                let at = middle + wide * (s as f64 - (self.series.len() as f64 - 1.0) / 2.0);
                draw(&mut markup, summary, class, at, wide * 0.72, &y);
                tip += &format!(
                    "\n{series}  median {}, middle half {} to {}, n {}",
                    number(summary.median),
                    number(summary.quartiles.0),
                    number(summary.quartiles.1),
                    summary.n
                );
            }
            markup.rect("hit", (middle - room / 2.0, y.range.1), (room, y.range.0 - y.range.1), Some(&tip));
            match turned {
                true => {
                    let name = fit(name, FONT, (middle / 0.74).min(100.0));
                    markup.turned_text("tick", (middle + 4.0, y.range.0 + 12.0), -42, Anchor::End, &name)
                }
                false => markup.text("tick", (middle, y.range.0 + 15.0), Anchor::Middle, name),
            };
        }
        if !self.x_label.is_empty() {
            markup.text("axis-label", ((left + WIDTH) / 2.0, height - 4.0), Anchor::Middle, &self.x_label);
        }
        Panel { title: self.title.clone(), width: WIDTH, height, markup, cells: None }
    }
}

fn draw(markup: &mut Markup, summary: &Summary, class: &str, at: f64, wide: f64, y: &Linear) {
    let whisker = format!("whisker {class}");
    let (top, bottom) = (y.at(summary.quartiles.1), y.at(summary.quartiles.0));
    markup.line(&whisker, (at, y.at(summary.whiskers.0)), (at, bottom));
    markup.line(&whisker, (at, top), (at, y.at(summary.whiskers.1)));
    markup.rect(&format!("box {class}"), (at - wide / 2.0, top), (wide, bottom - top), None);
    let middle = y.at(summary.median);
    markup.line(&format!("median {class}"), (at - wide / 2.0, middle), (at + wide / 2.0, middle));
    for value in &summary.outside {
        markup.circle(&format!("dot {class}"), (at, y.at(*value)), 1.1, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_box_for_each_series_and_place() {
        let summary = Summary { n: 2, whiskers: (1.0, 2.0), quartiles: (1.25, 1.75), median: 1.5, outside: Vec::new() };
        let boxes = vec![Some(summary), None];
        let series = ["a", "b"].map(|name| (name.to_string(), "s0".to_string(), boxes.clone())).to_vec();
        let panel = Boxes { x: vec!["0".into(), "1".into()], series, ..Boxes::default() }.panel();
        assert_eq!(panel.markup.0.matches("class=\"box s0\"").count(), 2);
    }
}
