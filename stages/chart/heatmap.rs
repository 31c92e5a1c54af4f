//! A matrix as an image with axes and group boundaries. The image is a PNG of one pixel for each value, so that a
//! matrix of 800 x 800 opens at once; the values travel beside it and are shown on hover.

use anyhow::{Result, ensure};

use super::colour::ColourScale;
use super::figure::Panel;
use super::raster::{encode_png, pack_values};
use super::scale::{fixed, number};
use super::svg::{Anchor, Markup, coordinate, fit, text_width};

const FONT: f64 = 11.0;

/// Rows or columns that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub len: usize,
}

/// An axis of a heatmap: what each row is, and the groups they form, in order.
#[derive(Debug, Clone, Default)]
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
}

#[derive(Debug, Clone)]
pub struct Heatmap {
    pub title: String,
    pub rows: Axis,
    pub columns: Axis,
    /// Row-major; `NaN` where there is no value.
    pub values: Vec<f32>,
    pub scale: ColourScale,
    pub width: f64,
}

/// What the page's script needs to name the cell under the pointer.
#[derive(Debug, Clone)]
pub struct Cells {
    at: (f64, f64),
    size: (f64, f64),
    rows: Vec<String>,
    columns: Vec<String>,
    domain: (f64, f64),
    /// Only the values on and right of the diagonal are packed.
    pub symmetric: bool,
    pub packed: String,
}

impl Heatmap {
    /// # Errors
    /// When the values are not one for each row and column.
    pub fn panel(&self) -> Result<Panel> {
        let (rows, columns) = (self.rows.labels.len(), self.columns.labels.len());
        ensure!(rows * columns == self.values.len(), "{} values for {rows} x {columns} cells", self.values.len());
        let widest = |axis: &Axis| axis.groups.iter().map(|group| text_width(&group.name, FONT)).fold(0.0, f64::max);
        let left = (widest(&self.rows) + 8.0).clamp(16.0, self.width * 0.34);
        let plot = self.width - left - 4.0;
        let cell = plot / columns as f64;
        let height = if rows == columns { plot } else { (17.0 * rows as f64).min(3.0 * plot) };
        let top = 26.0;
        let narrowest = self.columns.groups.iter().map(|group| group.len as f64 * cell).fold(f64::INFINITY, f64::min);
        let turned = widest(&self.columns) + 4.0 > narrowest;
        let drop = if turned { (widest(&self.columns) * 0.72 + 14.0).min(84.0) } else { 20.0 };

        let mut markup = Markup::default();
        self.colour_bar(&mut markup);
        let png = encode_png(&self.values, columns, self.scale)?;
        // The image and what is printed on it share a group, so that a theme that turns its colours keeps contrast.
        markup.raw(&format!(r#"<g class="{}">"#, self.scale.class()));
        markup.raw(&format!(
            r#"<image class="cells" x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" href="data:image/png;base64,{png}"/>"#,
            coordinate(left),
            coordinate(top),
            coordinate(plot),
            coordinate(height)
        ));
        if cell >= 25.0 && height / rows as f64 >= 12.0 {
            self.print_values(&mut markup, (left, top), (cell, height / rows as f64));
        }
        markup.raw("</g>");
        self.boundaries(&mut markup, (left, top), (plot, height));
        self.row_names(&mut markup, (left, top), height);
        self.column_names(&mut markup, (left, top + height), plot, turned);
        let symmetric = self.is_symmetric();
        let packed: Vec<f32> = match symmetric {
            true => (0..rows).flat_map(|row| &self.values[row * columns + row..(row + 1) * columns]).copied().collect(),
            false => self.values.clone(),
        };
        let cells = Cells {
            at: (left, top),
            size: (plot, height),
            rows: self.rows.labels.clone(),
            columns: self.columns.labels.clone(),
            domain: value_range(&self.values),
            symmetric,
            packed: pack_values(&packed, value_range(&self.values)),
        };
        let height = top + height + drop;
        Ok(Panel { title: self.title.clone(), width: self.width, height, markup, cells: Some(cells) })
    }

    fn is_symmetric(&self) -> bool {
        let side = self.columns.labels.len();
        let same = |row: usize, column: usize| {
            let (a, b) = (self.values[row * side + column], self.values[column * side + row]);
            a == b || a.is_nan() && b.is_nan()
        };
        self.rows.labels == self.columns.labels && (0..side).all(|row| (0..row).all(|column| same(row, column)))
    }

    fn colour_bar(&self, markup: &mut Markup) {
        const STEPS: usize = 64;
        let (lo, hi) = self.scale.domain();
        let ramp: Vec<f32> = (0..STEPS).map(|i| (lo + (hi - lo) * i as f64 / (STEPS - 1) as f64) as f32).collect();
        let Ok(png) = encode_png(&ramp, STEPS, self.scale) else { return };
        let (low, high) = (short(lo), short(hi));
        let right = self.width - 4.0 - text_width(&high, FONT) - 5.0;
        let left = right - 96.0;
        markup.text("tick", (left - 5.0, 11.0), Anchor::End, &low);
        markup.raw(&format!(
            r#"<g class="{}"><image x="{}" y="3" width="96" height="9" preserveAspectRatio="none" href="data:image/png;base64,{}"/></g>"#,
            self.scale.class(),
            coordinate(left),
            png
        ));
        markup.text("tick", (right + 5.0, 11.0), Anchor::Start, &high);
    }

    fn print_values(&self, markup: &mut Markup, (left, top): (f64, f64), (width, height): (f64, f64)) {
        let columns = self.columns.labels.len();
        for (i, &value) in self.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let class = if self.scale.is_light(value as f64) { "cell dark-text" } else { "cell light-text" };
            let mut text = fixed(value as f64, if value.abs() >= 10.0 { 0 } else { 2 });
            if width < 34.0 && value.abs() < 1.0 {
                // Where cells are narrow, without the zero before the point, as correlations are often printed.
                text = text.replacen("0.", ".", 1);
            }
            let x = left + ((i % columns) as f64 + 0.5) * width;
            let y = top + ((i / columns) as f64 + 0.5) * height + 3.2;
            markup.text(class, (x, y), Anchor::Middle, &text);
        }
    }

    fn boundaries(&self, markup: &mut Markup, (left, top): (f64, f64), (width, height): (f64, f64)) {
        markup.rect("frame", (left, top), (width, height), None);
        let inner = |axis: &Axis, length: f64| -> Vec<f64> {
            if axis.groups.iter().all(|group| group.len == 1) {
                return Vec::new();
            }
            let total = axis.labels.len().max(1) as f64;
            let ends = axis.groups.iter().scan(0, |sum, group| {
                *sum += group.len;
                Some(*sum as f64 / total * length)
            });
            ends.take(axis.groups.len().saturating_sub(1)).collect()
        };
        for x in inner(&self.columns, width) {
            markup.line("boundary", (left + x, top), (left + x, top + height));
        }
        for y in inner(&self.rows, height) {
            markup.line("boundary", (left, top + y), (left + width, top + y));
        }
    }

    fn row_names(&self, markup: &mut Markup, (left, top): (f64, f64), height: f64) {
        for (middle, group) in middles(&self.rows, height) {
            let name = fit(&group.name, FONT, left - 6.0);
            markup.text("tick", (left - 6.0, top + middle + 3.8), Anchor::End, &name);
        }
    }

    fn column_names(&self, markup: &mut Markup, (left, bottom): (f64, f64), width: f64, turned: bool) {
        for (middle, group) in middles(&self.columns, width) {
            match turned {
                true => {
                    // A name that is turned reaches to the left of its cell: no further than the panel's edge.
                    let room = ((left + middle) / 0.74).min(100.0);
                    let name = fit(&group.name, FONT, room);
                    markup.turned_text("tick", (left + middle + 4.0, bottom + 11.0), -42, Anchor::End, &name)
                }
                false => markup.text("tick", (left + middle, bottom + 14.0), Anchor::Middle, &group.name),
            };
        }
    }
}

/// The groups' middles along an axis of this length, thinned out where their names would touch.
fn middles(axis: &Axis, length: f64) -> Vec<(f64, &Group)> {
    let total = axis.labels.len().max(1) as f64;
    let mut before = 0;
    let mut named: Vec<(f64, &Group)> = Vec::new();
    for group in &axis.groups {
        let middle = (before as f64 + group.len as f64 / 2.0) / total * length;
        before += group.len;
        if named.last().is_none_or(|(last, _)| middle - last >= FONT) {
            named.push((middle, group));
        }
    }
    named
}

/// An end of the colour bar: `1` and not `1.00`.
fn short(value: f64) -> String {
    let text = number(value);
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

fn value_range(values: &[f32]) -> (f64, f64) {
    super::scale::extent(values.iter().map(|&value| value as f64))
}

/// The attributes from which the page's script reads the values.
impl Cells {
    /// Left, top, width and height of the cells in the panel.
    pub fn place(&self) -> String {
        [self.at.0, self.at.1, self.size.0, self.size.1].map(coordinate).join(" ")
    }

    pub fn domain(&self) -> String {
        format!("{} {}", self.domain.0, self.domain.1)
    }

    pub fn rows(&self) -> String {
        self.rows.join("\n")
    }

    /// `None` where they are named as the rows are.
    pub fn columns(&self) -> Option<String> {
        (self.columns != self.rows).then(|| self.columns.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heatmap(side: usize, groups: Vec<Group>) -> Heatmap {
        let axis = Axis { labels: (0..side).map(|i| format!("e{i}")).collect(), groups };
        Heatmap {
            title: "cosines".into(),
            rows: axis.clone(),
            columns: axis,
            values: (0..side * side).map(|i| ((i * 37 % 200) as f32 - 100.0) / 100.0).collect(),
            scale: ColourScale::Diverging { limit: 1.0 },
            width: 460.0,
        }
    }

    #[test]
    fn a_large_matrix_is_one_image_and_few_elements() {
        let groups = ["a", "b"].map(|name| Group { name: name.into(), len: 400 }).to_vec();
        let panel = heatmap(800, groups).panel().unwrap();
        assert_eq!(panel.markup.0.matches("<image").count(), 2, "the cells and the colour bar");
        assert!(panel.markup.0.matches('<').count() < 40);
        assert_eq!(panel.markup.0.matches(r#"class="boundary""#).count(), 2, "one boundary each way");
        let cells = panel.cells.unwrap();
        assert!(cells.rows().starts_with("e0\ne1\n") && cells.columns().is_none());
    }

    #[test]
    fn a_small_matrix_prints_its_values() {
        let labels = ["x", "y", "z"].map(String::from).to_vec();
        let map = Heatmap { rows: Axis::of(labels.clone()), columns: Axis::of(labels), ..heatmap(3, vec![]) };
        let panel = map.panel().unwrap();
        assert!(panel.markup.0.contains(">−1.00</text>"));
        assert!(!panel.markup.0.contains("boundary"));
    }

    #[test]
    fn half_of_a_symmetric_matrix_is_carried() {
        let carried = |map: &Heatmap| {
            let cells = map.panel().unwrap().cells.unwrap();
            (cells.symmetric, cells.packed.len())
        };
        let mut map = heatmap(30, vec![]);
        assert_eq!(carried(&map), (false, 30 * 30 * 2 * 4 / 3));
        for row in 0..30 {
            for column in 0..row {
                map.values[row * 30 + column] = map.values[column * 30 + row];
            }
        }
        assert_eq!(carried(&map), (true, 30 * 31 / 2 * 2 * 4 / 3));
    }

    #[test]
    fn a_value_too_many_is_an_error() {
        let mut map = heatmap(3, vec![]);
        map.values.push(0.0);
        assert!(map.panel().is_err());
    }
}
