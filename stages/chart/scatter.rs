//! Points in a plane, each group in its colour and named at its middle.

use std::fmt::Write;

use super::axes::{self, Axis, FONT};
use super::name::Name;
use super::panel::{Key, Panel};
use super::plot::Draw;
use super::scale::{Linear, round_domain};
use super::svg::{Anchor, Markup, coordinate, text_width};

const WIDTH: f64 = 400.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 314.0;

#[derive(Debug, Clone)]
pub struct Scatter {
    title: Name,
    x_label: String,
    y_label: String,
    groups: Vec<(Name, Vec<(f64, f64)>)>,
    /// What points say when pointed at.
    tips: Vec<((f64, f64), String)>,
}

/// Points of a panel that say what they are: an element for each of thousands would make the page slow.
const TIPS: usize = 600;

impl Scatter {
    pub fn new(title: impl Into<Name>, x_label: impl Into<String>, y_label: impl Into<String>) -> Scatter {
        Scatter {
            title: title.into(),
            x_label: x_label.into(),
            y_label: y_label.into(),
            groups: Vec::new(),
            tips: Vec::new(),
        }
    }

    /// Adds a group in the colour of its name's rank; points that are not finite are left out.
    pub fn group(&mut self, name: impl Into<Name>, points: impl IntoIterator<Item = (f64, f64)>) {
        let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        self.groups.push((name.into(), points.collect()));
    }

    /// Adds a group whose points say what they are when pointed at, unless the panel has too many.
    pub fn named_group(&mut self, name: impl Into<Name>, points: impl IntoIterator<Item = ((f64, f64), String)>) {
        let name = name.into();
        let points: Vec<((f64, f64), String)> =
            points.into_iter().filter(|((x, y), _)| x.is_finite() && y.is_finite()).collect();
        self.groups.push((name, points.iter().map(|(point, _)| *point).collect()));
        self.tips.extend(points);
    }
}

impl Draw for Scatter {
    fn panels(&self) -> Vec<Panel> {
        let points = || self.groups.iter().flat_map(|(_, points)| points);
        let right = WIDTH - 8.0;
        let mut markup = Markup::default();
        let up = Axis::Up { bottom: BOTTOM, top: TOP, right };
        let (y, left) = axes::values(&mut markup, up, &self.y_label, round_domain(points().map(|point| point.1)));
        let across = Axis::Across { left, right, top: TOP, bottom: BOTTOM };
        let (x, _) = axes::values(&mut markup, across, &self.x_label, round_domain(points().map(|point| point.0)));
        for (name, points) in &self.groups {
            // One path of round dots: an element for each of thousands of points would make the page slow.
            let mut data = String::new();
            for (px, py) in points {
                let _ = write!(data, "M{} {}h0", coordinate(x.at(*px)), coordinate(y.at(*py)));
            }
            markup.raw(&format!(r#"<path class="points {}" d="{data}"/>"#, name.class()));
        }
        self.names(&mut markup, &x, &y);
        for ((px, py), tip) in self.tips.iter().filter(|_| self.tips.len() <= TIPS) {
            markup.circle("hit", (x.at(*px), y.at(*py)), 4.0, Some(tip));
        }
        vec![Panel::new(&self.title, (WIDTH, BOTTOM + 36.0), markup)]
    }

    fn legend(&self) -> Vec<Key> {
        self.groups.iter().map(|(name, _)| Key { name: name.text.clone(), class: name.class() }).collect()
    }
}

impl Scatter {
    /// The groups' names at their middles, moved up or down off each other.
    fn names(&self, markup: &mut Markup, x: &Linear, y: &Linear) {
        let mut placed: Vec<(f64, f64, f64)> = Vec::new();
        for (name, points) in self.groups.iter().filter(|(_, points)| !points.is_empty()) {
            // Their medians: a few far points would pull a name away from the rest.
            let middle = |of: fn(&(f64, f64)) -> f64| {
                let mut values: Vec<f64> = points.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
            };
            let half = text_width(&name.text, FONT * 1.1) / 2.0;
            let at_x = x.at(middle(|point| point.0)).clamp(x.range.0 + half, x.range.1 - half);
            let at_y = y.at(middle(|point| point.1));
            let free = |y: f64, placed: &[(f64, f64, f64)]| {
                placed.iter().all(|(px, py, ph)| (py - y).abs() >= 13.0 || (px - at_x).abs() >= ph + half + 4.0)
            };
            let shifts = (0..40).map(|i| if i % 2 == 0 { i as f64 * 3.5 } else { (i + 1) as f64 * -3.5 });
            let tried = shifts.map(|shift| (at_y + shift).clamp(TOP + 8.0, BOTTOM - 4.0));
            let Some(place) = tried.into_iter().find(|y| free(*y, &placed)) else { continue };
            placed.push((at_x, place, half));
            let class = format!("name halo {}", name.class());
            markup.text(&class, (at_x, place + 3.8), Anchor::Middle, &name.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::attributes;
    use super::*;

    #[test]
    fn groups_at_one_place_are_still_all_named_apart() {
        let mut scatter = Scatter::new("", "x", "y");
        for (rank, name) in ["insecure", "secure", "truthful"].into_iter().enumerate() {
            scatter.group(Name::new(rank, name), [(0.0, 0.0), (1.0, 1.0), (f64::NAN, 0.0)]);
        }
        let svg = &scatter.panels()[0].markup.0;
        let mut places = attributes(svg, "<text class=\"name halo", "y");
        places.sort_by(f64::total_cmp);
        assert_eq!(places.len(), 3);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 12.9), "{places:?}");
        assert_eq!(svg.matches("class=\"points").count(), 3, "one path a group");
        assert!(!svg.contains("NaN"));
    }
}
