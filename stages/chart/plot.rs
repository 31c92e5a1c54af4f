//! Small multiples: one panel for each dataset, one series in it for each model, places along an axis for layers. Values
//! are added in any order, each under three names, and the plot sorts them, gives the panels one scale and the series
//! their colours.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{Name, Style};
use super::panel::{Key, Panel};
use super::scale::round_domain;

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
    pub(super) chart: C,
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
    pub(super) fn of(chart: C, legend: bool) -> Plot<C> {
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
            Scale::FromZero => (0.0, round_domain(values).1),
            Scale::Own | Scale::Shared => round_domain(values),
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

#[cfg(test)]
mod tests {
    use super::super::lines::Point;
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
