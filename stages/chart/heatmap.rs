//! Heatmaps of one figure: panels that share their rows, their columns and their colours. A panel is a PNG of one pixel
//! for each value, so that a matrix of 800 x 800 opens at once; the values travel beside it and are shown on hover.

use super::axes::{FONT, NamesBelow, widest};
use super::colour::{Colours, Scale};
use super::name::Name;
use super::panel::{Cells, Panel};
use super::plot::Draw;
use super::raster::{encode_png, pack_values};
use super::scale::{extent, fixed, number};
use super::svg::{Anchor, Markup, coordinate, fit, text_width};

/// Where the cells begin.
const TOP: f64 = 26.0;

/// Rows or columns that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub len: usize,
}

/// An axis of a heatmap: what each row is, and the groups they form, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Axis {
    pub labels: Vec<String>,
    pub groups: Vec<Group>,
}

impl Axis {
    /// An axis whose rows are named and not grouped.
    pub fn of(labels: Vec<String>) -> Axis {
        let groups = labels.iter().map(|name| Group { name: name.clone(), len: 1 }).collect();
        Axis { labels, groups }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    /// Each group's first and last edge along an axis of this length.
    fn edges(&self, length: f64) -> impl Iterator<Item = (f64, f64, &Group)> {
        let unit = length / self.labels.len().max(1) as f64;
        self.groups.iter().scan(0, move |end, group| {
            let start = *end;
            *end += group.len;
            Some((start as f64 * unit, *end as f64 * unit, group))
        })
    }

    /// The groups' middles, thinned out where their names would touch.
    fn middles(&self, length: f64) -> Vec<(f64, &str)> {
        let mut named: Vec<(f64, &str)> = Vec::new();
        for (start, end, group) in self.edges(length) {
            let middle = (start + end) / 2.0;
            if named.last().is_none_or(|(last, _)| middle - last >= FONT) {
                named.push((middle, &group.name));
            }
        }
        named
    }

    /// The lines between groups of several rows.
    fn boundaries(&self, length: f64) -> Vec<f64> {
        match self.groups.iter().all(|group| group.len == 1) {
            true => Vec::new(),
            false => self.edges(length).skip(1).map(|(start, ..)| start).collect(),
        }
    }
}

/// Values of one panel, row-major; `NaN` where there is none.
#[derive(Debug, Clone)]
pub struct Matrix {
    title: String,
    columns: usize,
    symmetric: bool,
    values: Vec<f32>,
}

impl Matrix {
    /// Sets a value, and in a square the one opposite.
    pub fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.columns + column] = value;
        if self.symmetric {
            self.values[column * self.columns + row] = value;
        }
    }
}

#[derive(Debug, Clone)]
pub struct Heatmaps {
    rows: Axis,
    columns: Axis,
    colours: Colours,
    width: f64,
    symmetric: bool,
    panels: Vec<Matrix>,
}

impl Heatmaps {
    pub fn new(rows: Axis, columns: Axis, colours: Colours, width: f64) -> Heatmaps {
        Heatmaps { rows, columns, colours, width, symmetric: false, panels: Vec::new() }
    }

    /// Of everything on the axis with everything on it.
    pub fn square(axis: Axis, colours: Colours, width: f64) -> Heatmaps {
        Heatmaps { symmetric: true, ..Heatmaps::new(axis.clone(), axis, colours, width) }
    }

    /// A new panel, whose cells are empty but for the diagonal of a square.
    pub fn panel(&mut self, title: impl Into<String>) -> &mut Matrix {
        let (rows, columns) = (self.rows.labels.len(), self.columns.labels.len());
        let values = vec![f32::NAN; rows * columns];
        let mut matrix = Matrix { title: title.into(), columns, symmetric: self.symmetric, values };
        if self.symmetric {
            (0..rows).for_each(|i| matrix.set(i, i, self.colours.diagonal()));
        }
        let last = self.panels.len();
        self.panels.push(matrix);
        &mut self.panels[last]
    }

    fn drawn(&self, matrix: &Matrix, scale: Scale) -> Panel {
        let (rows, columns) = (self.rows.labels.len(), self.columns.labels.len());
        let left = (widest(self.rows.names(), FONT) + 8.0).clamp(16.0, self.width * 0.34);
        let plot = self.width - left - 4.0;
        let height = if rows == columns { plot } else { (17.0 * rows as f64).min(3.0 * plot) };
        let cell = (plot / columns as f64, height / rows as f64);
        let bottom = TOP + height;

        let mut markup = Markup::default();
        colour_bar(&mut markup, scale, self.width - 4.0);
        // The image and what is printed on it share a group, so that a theme that turns its colours keeps contrast.
        markup.raw(&format!(r#"<g class="{}">"#, scale.class()));
        markup.image("cells", (left, TOP), (plot, height), &encode_png(&matrix.values, columns, scale));
        if cell.0 >= 25.0 && cell.1 >= 12.0 {
            matrix.print(&mut markup, scale, left, cell);
        }
        markup.raw("</g>");
        markup.rect("frame", (left, TOP), (plot, height), None);
        for x in self.columns.boundaries(plot) {
            markup.line("boundary", (left + x, TOP), (left + x, bottom));
        }
        for y in self.rows.boundaries(height) {
            markup.line("boundary", (left, TOP + y), (left + plot, TOP + y));
        }
        for (middle, name) in self.rows.middles(height) {
            markup.text("tick", (left - 6.0, TOP + middle + 3.8), Anchor::End, &fit(name, FONT, left - 6.0));
        }
        let narrowest = self.columns.edges(plot).map(|(start, end, _)| end - start).fold(f64::INFINITY, f64::min);
        let names = NamesBelow::new(self.columns.names(), narrowest);
        for (middle, name) in self.columns.middles(plot) {
            names.draw(&mut markup, name, left + middle, bottom);
        }
        let cells = Cells::new(self, matrix, [left, TOP, plot, height]);
        let panel = Panel::new(&Name::new(0, &matrix.title), (self.width, bottom + names.drop), markup);
        Panel { cells: Some(cells), ..panel }
    }
}

impl Draw for Heatmaps {
    fn panels(&self) -> Vec<Panel> {
        let panels = self.panels.iter().filter(|matrix| !matrix.values.is_empty());
        let values = panels.clone().flat_map(|matrix| &matrix.values);
        let scale = Scale::over(self.colours, values.map(|value| f64::from(*value)));
        panels.map(|matrix| self.drawn(matrix, scale)).collect()
    }
}

impl Matrix {
    fn print(&self, markup: &mut Markup, scale: Scale, left: f64, (width, height): (f64, f64)) {
        for (i, value) in self.values.iter().map(|value| f64::from(*value)).enumerate() {
            if !value.is_finite() {
                continue;
            }
            let class = if scale.is_light(value) { "cell dark-text" } else { "cell light-text" };
            let mut text = fixed(value, if value.abs() >= 10.0 { 0 } else { 2 });
            if width < 34.0 && value.abs() < 1.0 {
                // Where cells are narrow, without the zero before the point, as correlations are often printed.
                text = text.replacen("0.", ".", 1);
            }
            let x = left + ((i % self.columns) as f64 + 0.5) * width;
            let y = TOP + ((i / self.columns) as f64 + 0.5) * height + 3.2;
            markup.text(class, (x, y), Anchor::Middle, &text);
        }
    }
}

fn colour_bar(markup: &mut Markup, scale: Scale, end: f64) {
    const STEPS: usize = 64;
    let (lo, hi) = scale.domain;
    let ramp: Vec<f32> = (0..STEPS).map(|i| (lo + (hi - lo) * i as f64 / (STEPS - 1) as f64) as f32).collect();
    let (low, high) = (short(lo), short(hi));
    let right = end - text_width(&high, FONT) - 5.0;
    let left = right - 96.0;
    markup.text("tick", (left - 5.0, 11.0), Anchor::End, &low);
    markup.raw(&format!(r#"<g class="{}">"#, scale.class()));
    markup.image("", (left, 3.0), (96.0, 9.0), &encode_png(&ramp, STEPS, scale)).raw("</g>");
    markup.text("tick", (right + 5.0, 11.0), Anchor::Start, &high);
}

/// An end of the colour bar: `1` and not `1.00`.
fn short(value: f64) -> String {
    let text = number(value);
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

impl Cells {
    fn new(maps: &Heatmaps, Matrix { columns, symmetric, values, .. }: &Matrix, place: [f64; 4]) -> Cells {
        let (lo, hi) = extent(values.iter().map(|value| f64::from(*value)));
        let rows = values.chunks(*columns).enumerate();
        let packed: Vec<f32> = rows.flat_map(|(i, row)| &row[if *symmetric { i } else { 0 }..]).copied().collect();
        Cells {
            place: place.map(coordinate).join(" "),
            domain: format!("{lo} {hi}"),
            rows: maps.rows.labels.join("\n"),
            columns: (maps.columns.labels != maps.rows.labels).then(|| maps.columns.labels.join("\n")),
            symmetric: *symmetric,
            packed: pack_values(&packed, (lo, hi)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(side: usize) -> Axis {
        Axis::of((0..side).map(|i| format!("e{i}")).collect())
    }

    #[test]
    fn a_large_matrix_is_one_image_and_few_elements() {
        let groups = ["a", "b"].map(|name| Group { name: name.into(), len: 400 }).to_vec();
        let mut maps = Heatmaps::square(Axis { groups, ..numbered(800) }, Colours::Cosine, 460.0);
        maps.panel("cosines");
        let panel = maps.panels().remove(0);
        assert_eq!(panel.markup.0.matches("<image").count(), 2, "the cells and the colour bar");
        assert!(panel.markup.0.matches('<').count() < 40);
        assert_eq!(panel.markup.0.matches(r#"class="boundary""#).count(), 2, "one boundary each way");
        let cells = panel.cells.unwrap();
        assert!(cells.rows.starts_with("e0\ne1\n") && cells.columns.is_none());
    }

    #[test]
    fn a_small_matrix_prints_its_values() {
        let mut maps = Heatmaps::square(numbered(3), Colours::Cosine, 460.0);
        maps.panel("cosines").set(0, 1, -1.0);
        let svg = &maps.panels()[0].markup.0;
        assert_eq!((svg.matches(">−1.00</text>").count(), svg.matches(">1.00</text>").count()), (2, 3), "{svg}");
        assert!(!svg.contains("boundary"));
    }

    #[test]
    fn half_of_a_square_is_carried() {
        let carried = |maps: &mut Heatmaps| {
            maps.panel("values");
            maps.panels()[0].cells.as_ref().map(|cells| (cells.symmetric, cells.packed.len()))
        };
        let mut all = Heatmaps::new(numbered(30), numbered(30), Colours::Amount, 460.0);
        assert_eq!(carried(&mut all), Some((false, 30 * 30 * 2 * 4 / 3)));
        let mut half = Heatmaps::square(numbered(30), Colours::Amount, 460.0);
        assert_eq!(carried(&mut half), Some((true, 30 * 31 / 2 * 2 * 4 / 3)));
    }

    #[test]
    fn no_rows_make_no_panel() {
        let mut maps = Heatmaps::square(Axis::default(), Colours::Cosine, 460.0);
        maps.panel("nothing");
        assert!(maps.panels().is_empty());
    }
}
