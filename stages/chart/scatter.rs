//! Points in a plane, each group in its colour and named at its middle.

use std::fmt::Write;

use super::figure::{Key, Panel};
use super::plot::{Draw, Name};
use super::scale::Linear;
use super::svg::{Anchor, Markup, coordinate, text_width};
use crate::statistics::moments::quantile;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 350.0;
const FONT: f64 = 11.0;

#[derive(Debug, Clone)]
pub struct PointGroup {
    pub name: String,
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Default)]
pub struct Scatter {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub groups: Vec<PointGroup>,
}

impl Scatter {
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Scatter {
        Scatter { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), groups: Vec::new() }
    }

    /// Adds a group in the colour of its name's rank.
    pub fn group(&mut self, name: impl Into<Name>, points: impl IntoIterator<Item = (f64, f64)>) {
        let (name, class) = name.into().drawn();
        self.groups.push(PointGroup { name, class, points: points.into_iter().collect() });
    }

    pub fn panel(&self) -> Panel {
        let points = || self.groups.iter().flat_map(|group| &group.points);
        let mut y = Linear::over(points().map(|point| point.1), (0.0, 1.0));
        y.range = (HEIGHT - 34.0, 22.0);
        let ticks = y.ticks(5);
        let left = 8.0 + ticks.iter().map(|(_, label)| text_width(label, FONT)).fold(0.0, f64::max);
        let mut x = Linear::over(points().map(|point| point.0), (0.0, 1.0));
        x.range = (left, WIDTH - 8.0);

        let mut markup = Markup::default();
        markup.text("axis-label", (0.0, 11.0), Anchor::Start, &self.y_label);
        for (value, label) in &ticks {
            let class = if *value == 0.0 { "zero" } else { "grid" };
            markup.line(class, (left, y.at(*value)), (x.range.1, y.at(*value)));
            markup.text("tick", (left - 5.0, y.at(*value) + 3.5), Anchor::End, label);
        }
        for (value, label) in x.ticks(5) {
            let class = if value == 0.0 { "zero" } else { "grid" };
            markup.line(class, (x.at(value), y.range.1), (x.at(value), y.range.0));
            markup.text("tick", (x.at(value), HEIGHT - 20.0), Anchor::Middle, &label);
        }
        let middle = (x.range.0 + x.range.1) / 2.0;
        markup.text("axis-label", (middle, HEIGHT - 5.0), Anchor::Middle, &self.x_label);
        for group in &self.groups {
            // One path of round dots: an element for each of thousands of points would make the page slow.
            let mut data = String::new();
            for (px, py) in group.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
                let _ = write!(data, "M{} {}h0", coordinate(x.at(*px)), coordinate(y.at(*py)));
            }
            markup.raw(&format!(r#"<path class="points {}" d="{data}"/>"#, group.class));
        }
        self.names(&mut markup, &x, &y);
        Panel { title: self.title.clone(), width: WIDTH, height: HEIGHT, markup, cells: None }
    }

    /// The groups' names at their middles, moved up or down off each other.
    fn names(&self, markup: &mut Markup, x: &Linear, y: &Linear) {
        let mut placed: Vec<(f64, f64, f64)> = Vec::new();
        for group in self.groups.iter().filter(|group| !group.points.is_empty()) {
            // Their medians: a few far points would pull a name away from the rest.
            let middle = |of: fn(&(f64, f64)) -> f64| {
                let mut values: Vec<f64> = group.points.iter().map(of).filter(|value| value.is_finite()).collect();
                values.sort_by(f64::total_cmp);
                quantile(&values, 0.5)
            };
            let (middle_x, middle_y) = (middle(|point| point.0), middle(|point| point.1));
            if !middle_x.is_finite() || !middle_y.is_finite() {
                continue;
            }
            let half = text_width(&group.name, FONT * 1.1) / 2.0;
            let at_x = x.at(middle_x).clamp(x.range.0 + half, x.range.1 - half);
            let at_y = y.at(middle_y);
            let free = |y: f64, placed: &[(f64, f64, f64)]| {
                placed.iter().all(|(px, py, ph)| (py - y).abs() >= 13.0 || (px - at_x).abs() >= ph + half + 4.0)
            };
            let shifts = (0..40).map(|i| if i % 2 == 0 { i as f64 * 3.5 } else { (i + 1) as f64 * -3.5 });
            let tried = shifts.map(|shift| (at_y + shift).clamp(y.range.1 + 8.0, y.range.0 - 4.0));
            let Some(place) = tried.into_iter().find(|y| free(*y, &placed)) else { continue };
            placed.push((at_x, place, half));
            markup.text(&format!("name halo {}", group.class), (at_x, place + 3.8), Anchor::Middle, &group.name);
        }
    }
}

impl Draw for Scatter {
    fn panels(&self) -> Vec<Panel> {
        vec![self.panel()]
    }

    fn legend(&self) -> Vec<Key> {
        self.groups.iter().map(|group| Key { name: group.name.clone(), class: group.class.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_at_one_place_are_still_all_named_apart() {
        let group =
            |name: &str| PointGroup { name: name.into(), class: "s0".into(), points: vec![(0.0, 0.0), (1.0, 1.0)] };
        let groups = ["insecure", "secure", "truthful"].map(group).to_vec();
        let svg = Scatter { groups, ..Scatter::default() }.panel().markup.0;
        let mut places: Vec<f64> = svg
            .match_indices("name halo")
            .map(|(at, _)| svg[at..].split(" y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        places.sort_by(f64::total_cmp);
        assert_eq!(places.len(), 3);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 12.9), "{places:?}");
        assert_eq!(svg.matches("class=\"points").count(), 3, "one path a group");
    }
}
