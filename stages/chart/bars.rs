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
    /// Values are positive, and lengths are of their logarithms, from the domain's lower end.
    logarithmic: bool,
}

impl Plot<BarChart> {
    /// Bars in the colour of their panel, their rows named in a monospaced face.
    pub fn bars(x_label: &str) -> Self {
        Plot::of(BarChart { x_label: x_label.into(), logarithmic: false }, false)
    }

    /// Bars of positive values on a logarithmic scale from `low` to `high`; what is below is drawn as none.
    pub fn logarithmic_bars(x_label: &str, low: f64, high: f64) -> Self {
        Plot::of(BarChart { x_label: x_label.into(), logarithmic: true }, false).within(low, high)
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
        let (low, high) = facet.domain;
        let (domain, zero) = match self.logarithmic {
            true => ((low.log10(), high.log10()), low),
            false => ((low, high), 0.0),
        };
        let x = Linear { domain, range: (left, WIDTH - 46.0) };
        let at = |value: f64| if self.logarithmic { x.at(value.max(low).log10()) } else { x.at(value) };
        let bottom = 16.0 + ROW * facet.places.len() as f64;
        let mut markup = Markup::default();
        markup.text("axis-label", (left, 10.0), Anchor::Start, &self.x_label);
        markup.line("zero", (at(zero), 14.0), (at(zero), bottom + 2.0));
        let mut height = bottom + 6.0;
        if self.logarithmic {
            for power in low.log10().ceil() as i32..=high.log10().floor() as i32 {
                let here = at(10f64.powi(power));
                markup.line("grid", (here, 14.0), (here, bottom));
                markup.text("tick", (here, bottom + 14.0), Anchor::Middle, &power_of_ten(power));
            }
            height += 14.0;
        }
        let values = facet.series.iter().flat_map(|(_, values)| values);
        for (i, (place, value)) in facet.places.iter().zip(values).enumerate() {
            let y = 16.0 + ROW * i as f64;
            markup.text("mono", (left - 6.0, y + 12.5), Anchor::End, &fit(&place.text, MONO, left - 8.0));
            let Some(value) = value.copied().filter(|value| value.is_finite()) else { continue };
            let (a, b) = (at(value.min(zero)), at(value.max(zero)));
            let tip = format!("{}\n{} {}", place.text, self.x_label, number(value));
            let class = format!("bar {}", facet.title.class());
            markup.rect(&class, (a, y + 2.5), ((b - a).max(0.8), ROW - 6.0), Some(&tip));
            markup.text("tick", (b + 4.0, y + 12.5), Anchor::Start, &number(value));
        }
        Panel::new(facet.title, (WIDTH, height), markup)
    }
}

/// Short enough that the labels of neighbouring decades stand apart: `1`, `0.1`, `10⁻²`.
fn power_of_ten(power: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    match power {
        -1 => "0.1".into(),
        0 => "1".into(),
        _ => {
            let raised = power
                .to_string()
                .chars()
                .map(|c| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]))
                .collect::<String>();
            format!("10{raised}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plot::Draw;
    use super::super::svg::attributes;
    use super::*;

    #[test]
    fn a_tenth_is_one_step_shorter_on_a_logarithmic_scale() {
        let mut plot = Plot::logarithmic_bars("probability", 1e-3, 1.0);
        for (rank, value) in [1.0, 0.1, 0.01, 1e-9].into_iter().enumerate() {
            plot.bar("", Name::new(rank, format!("{rank}")), value);
        }
        let svg = &plot.panels()[0].markup.0;
        let width = attributes(svg, "<rect class=\"bar", "width");
        assert!((width[0] - width[1] - width[2]).abs() < 0.02 && (width[1] - 2.0 * width[2]).abs() < 0.02, "{width:?}");
        assert!(width[3] < 1.0, "below the scale: {width:?}");
        assert_eq!(svg.matches("class=\"tick\"").count(), 4 + 4, "a label for each bar and each power of ten");
    }

    #[test]
    fn a_negative_bar_ends_at_zero() {
        let mut plot = Plot::bars("effect");
        plot.bar("", Name::new(0, "up"), 2.0);
        plot.bar("", Name::new(1, "down"), -2.0);
        let svg = &plot.panels()[0].markup.0;
        let [x, width] = ["x", "width"].map(|name| attributes(svg, "<rect class=\"bar", name));
        assert!((x[0] - (x[1] + width[1])).abs() < 0.02 && (width[0] - width[1]).abs() < 0.02, "{x:?} {width:?}");
    }
    #[test]
    fn decades_are_named_shortly() {
        assert_eq!([-12, -1, 0, 2].map(power_of_ten), ["10⁻¹²", "0.1", "1", "10²"]);
    }
}
