//! Small multiples: one panel for each dataset, one series in it for each model, places along an axis for layers. Values
//! are added in any order, each under three names, and the plot sorts them, gives the panels one scale and the series
//! their colours.

use std::collections::{BTreeMap, BTreeSet};

use super::bars::{Bars, Dots};
use super::boxes::{Boxes, Summary};
use super::figure::{Key, Panel, series_class};
use super::lines::{Lines, Point, Series};
use super::scale::Linear;

/// How a series is drawn; the order in which they are drawn over each other and listed in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Style {
    /// A thin background line, without a name or a tip.
    Faint,
    /// In the colour of its rank.
    #[default]
    Solid,
    /// In the colour of its rank, for what the others are held against.
    Dashed,
    /// In the colour of the text.
    Ink,
    /// What chance gives, grey; a mark across the row among dots.
    Null,
    /// What chance gives in another sense.
    DottedNull,
}

/// What a panel, a series or a place on an axis is called. Names are drawn in the order of their ranks, and a
/// series has the colour of its rank, so that a model has one colour in every figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    style: Style,
    rank: usize,
    text: String,
}

impl Name {
    pub fn new(rank: usize, text: impl Into<String>) -> Name {
        Name { style: Style::Solid, rank, text: text.into() }
    }

    pub fn style(self, style: Style) -> Name {
        Name { style, ..self }
    }

    /// The same rank and style with another text.
    pub fn with(self, text: impl FnOnce(&str) -> String) -> Name {
        Name { text: text(&self.text), ..self }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, and the class that colours it.
    pub(super) fn drawn(self) -> (String, String) {
        let class = self.class();
        (self.text, class)
    }

    fn class(&self) -> String {
        let colour = series_class(self.rank);
        match self.style {
            Style::Solid => colour,
            Style::Faint => colour + " faint",
            Style::Dashed => colour + " dashed",
            Style::Ink => "ink".into(),
            Style::Null => "null".into(),
            Style::DottedNull => "null dotted".into(),
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name::new(0, text)
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Name {
        name.clone()
    }
}

/// What a figure is drawn of: panels and, where they do not name their series, a legend.
pub trait Draw {
    fn panels(&self) -> Vec<Panel>;

    fn legend(&self) -> Vec<Key> {
        Vec::new()
    }
}

/// The scale of the values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Shared,
    FromZero,
    Own,
    Within(f64, f64),
}

/// By panel, series and place.
type Values<V> = BTreeMap<Name, BTreeMap<Name, BTreeMap<Name, V>>>;

/// Small multiples of one kind of chart.
#[derive(Debug, Clone)]
pub struct Plot<C: Chart> {
    chart: C,
    values: Values<C::Value>,
    scale: Scale,
    legend: bool,
}

/// One panel's share of a plot: its places, and a value for each series and place that has one.
pub struct Facet<'a, V> {
    pub title: &'a Name,
    pub places: Vec<&'a Name>,
    pub series: Vec<(&'a Name, Vec<Option<&'a V>>)>,
    pub domain: (f64, f64),
    /// The series are named in a legend and not in the panel.
    pub legend: bool,
}

/// A kind of chart that is drawn in small multiples.
pub trait Chart {
    type Value;
    /// Whether all panels have the places of any of them.
    const SHARED_PLACES: bool = true;

    /// All that is drawn of a value, for the scale.
    fn extent(value: &Self::Value) -> Vec<f64>;
    fn panel(&self, facet: &Facet<Self::Value>) -> Panel;
}

impl<C: Chart> Plot<C> {
    fn of(chart: C, legend: bool) -> Plot<C> {
        Plot { chart, values: BTreeMap::new(), scale: Scale::Shared, legend }
    }

    /// Adds a value; one that was there under the same names is replaced.
    pub fn add(
        &mut self,
        panel: impl Into<Name>,
        series: impl Into<Name>,
        place: impl Into<Name>,
        value: C::Value,
    ) -> &mut Plot<C> {
        let panel = self.values.entry(panel.into()).or_default();
        panel.entry(series.into()).or_default().insert(place.into(), value);
        self
    }

    /// A scale for each panel, where panels show different things.
    pub fn own_scales(self) -> Plot<C> {
        Plot { scale: Scale::Own, ..self }
    }

    pub fn from_zero(self) -> Plot<C> {
        Plot { scale: Scale::FromZero, ..self }
    }

    pub fn within(self, low: f64, high: f64) -> Plot<C> {
        Plot { scale: Scale::Within(low, high), ..self }
    }

    /// Names the series in a legend, not at the ends of their lines: for names that are long, or many.
    pub fn with_legend(self) -> Plot<C> {
        Plot { legend: true, ..self }
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn domain(&self, panel: &Name) -> (f64, f64) {
        let drawn = self.values.iter().filter(|(name, _)| self.scale != Scale::Own || *name == panel);
        let values = drawn.flat_map(|(_, series)| series.values()).flat_map(BTreeMap::values).flat_map(C::extent);
        match self.scale {
            Scale::Within(low, high) => (low, high),
            Scale::FromZero => (0.0, Linear::over(values, (0.0, 1.0)).domain.1),
            Scale::Own | Scale::Shared => Linear::over(values, (0.0, 1.0)).domain,
        }
    }
}

impl<C: Chart> Draw for Plot<C> {
    fn panels(&self) -> Vec<Panel> {
        let all: BTreeSet<&Name> = self.values.values().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).collect();
        let panel = |(title, series): (&Name, &BTreeMap<Name, BTreeMap<Name, C::Value>>)| {
            let own = || series.values().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>();
            let places: Vec<&Name> = if C::SHARED_PLACES { all.clone() } else { own() }.into_iter().collect();
            let series =
                series.iter().map(|(name, at)| (name, places.iter().map(|place| at.get(*place)).collect())).collect();
            let facet = Facet { title, series, domain: self.domain(title), legend: self.legend, places };
            self.chart.panel(&facet)
        };
        self.values.iter().map(panel).collect()
    }

    fn legend(&self) -> Vec<Key> {
        if !self.legend {
            return Vec::new();
        }
        let names: BTreeSet<&Name> = self.values.values().flat_map(BTreeMap::keys).collect();
        let named = names.into_iter().filter(|name| name.style != Style::Faint && !name.text.is_empty());
        named.map(|name| Key { name: name.text.clone(), class: name.class() }).collect()
    }
}

/// Lines over layers, with the band of each point's interval.
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    x_label: String,
    y_label: String,
    marks: BTreeMap<Name, Vec<(Name, String)>>,
}

impl Plot<LineChart> {
    /// Lines named at their ends.
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
        let series = facet.series.iter().map(|(name, points)| Series {
            name: name.text.clone(),
            class: name.class(),
            points: points.iter().map(|point| point.copied().unwrap_or(Point::NONE)).collect(),
            labelled: !facet.legend && name.style != Style::Faint,
        });
        let marks =
            self.marks.get(facet.title).into_iter().flatten().filter_map(|(place, word)| {
                Some((facet.places.iter().position(|known| *known == place)?, word.clone()))
            });
        let lines = Lines {
            title: facet.title.text.clone(),
            x_label: self.x_label.clone(),
            y_label: self.y_label.clone(),
            x: facet.places.iter().map(|place| place.text.clone()).collect(),
            series: series.collect(),
            marks: marks.collect(),
            y_domain: Some(facet.domain),
        };
        lines.panel()
    }
}

/// Box plots side by side.
#[derive(Debug, Clone, Default)]
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
        let series = facet.series.iter().map(|(name, boxes)| {
            (name.text.clone(), name.class(), boxes.iter().map(|summary| summary.cloned()).collect())
        });
        let boxes = Boxes {
            title: facet.title.text.clone(),
            x_label: self.x_label.clone(),
            y_label: self.y_label.clone(),
            x: facet.places.iter().map(|place| place.text.clone()).collect(),
            series: series.collect(),
            y_domain: Some(facet.domain),
        };
        boxes.panel()
    }
}

/// Estimates with whiskers, places down, a dot for each series.
#[derive(Debug, Clone, Default)]
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
        let series = facet.series.iter().map(|(name, points)| {
            let points = points.iter().map(|point| point.copied().unwrap_or(Point::NONE)).collect();
            (name.text.clone(), name.class(), points)
        });
        let dots = Dots {
            title: facet.title.text.clone(),
            x_label: self.x_label.clone(),
            rows: facet.places.iter().map(|place| place.text.clone()).collect(),
            series: series.collect(),
            domain: Some(facet.domain),
        };
        dots.panel()
    }
}

/// Horizontal bars of single values, in the colour of the panel.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    x_label: String,
}

impl Plot<BarChart> {
    /// Bars whose rows are tokens, in a monospaced face.
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
        let (_, values) = &facet.series[0];
        let rows = facet.places.iter().zip(values);
        let bars = Bars {
            title: facet.title.text.clone(),
            x_label: self.x_label.clone(),
            rows: rows.map(|(place, value)| (place.text.clone(), value.copied().unwrap_or(f64::NAN))).collect(),
            class: facet.title.class(),
            domain: Some(facet.domain),
            mono: true,
        };
        bars.panel()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_come_in_the_order_of_their_ranks_on_one_scale() {
        let mut plot = Plot::lines("layer", "projection");
        let base = Name::new(1, "base");
        plot.add(Name::new(1, "b"), &base, Name::new(0, "0"), Point::bare(8.0));
        plot.add(Name::new(0, "z"), &base, Name::new(1, "1"), Point::bare(0.0));
        let panels = plot.panels();
        assert_eq!(panels.iter().map(|panel| panel.title.as_str()).collect::<Vec<_>>(), ["z", "b"]);
        for panel in &panels {
            assert!(panel.markup.0.contains(">8</text>") && panel.markup.0.contains("class=\"line s1\""));
        }
        let own = plot.own_scales().panels();
        assert!(!own[0].markup.0.contains(">8</text>"));
    }

    #[test]
    fn what_has_no_name_is_not_in_the_legend() {
        let mut plot = Plot::dots("mean cosine").own_scales();
        plot.add("", Name::new(0, "groups"), "a", Point::bare(1.0));
        plot.add("", Name::new(0, "shuffled").style(Style::Null), "a", Point::bare(0.0));
        plot.add("", Name::new(0, "pair").style(Style::Faint), "a", Point::bare(0.0));
        let legend: Vec<String> = plot.legend().into_iter().map(|key| format!("{} {}", key.name, key.class)).collect();
        assert_eq!(legend, ["groups s0", "shuffled null"]);
    }
}
