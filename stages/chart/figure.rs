//! A figure: the question it answers, its panels, and what a reader needs to judge it. The page shows the panels
//! as a grid that folds to one column on a phone; the figure's own SVG file holds the same panels side by side.

use maud::html;

use super::panel::{Key, Panel};
use super::plot::Draw;
use super::svg::{Anchor, Markup, coordinate, fit, text_width, wrap};

/// The style shared by the page and the figures' own files.
pub const STYLE: &str = include_str!("figure.css");

#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// The name of its file and its anchor in the page: lower case, digits and hyphens.
    pub name: String,
    /// The title: what a reader wants to know.
    pub question: String,
    /// What is plotted, in a sentence or two.
    pub what: String,
    /// How many examples, pairs or tokens stand behind a point.
    pub n: String,
    /// What the band or whisker is; empty where there is none.
    pub interval: String,
    /// What chance would give; empty where nothing is compared with it.
    pub null: String,
    /// What the numbers say, computed from them.
    pub finding: String,
    /// The SQL that gives the figure's numbers.
    pub query: String,
    /// The table that the query reads.
    pub table: &'static str,
    pub legend: Vec<Key>,
    pub panels: Vec<Panel>,
    /// Shown closed, for variations on a figure above it.
    pub folded: bool,
}

/// A name as part of a file name and anchor; of a long one, such as a whole answer, the beginning.
pub fn slug(text: &str) -> String {
    // File systems take 255 bytes, and the store and the view add to them.
    const LONGEST: usize = 120;
    let mut out = String::new();
    for c in text.chars() {
        if out.len() == LONGEST {
            break;
        }
        match c.is_ascii_alphanumeric() {
            true => out.push(c.to_ascii_lowercase()),
            false if out.ends_with('-') || out.is_empty() => {}
            false => out.push('-'),
        }
    }
    out.trim_end_matches('-').to_string()
}

impl Figure {
    /// A figure that answers a question. `name` becomes the name of its file, cleaned of what files cannot be called.
    pub fn new(name: impl AsRef<str>, question: impl Into<String>) -> Figure {
        Figure { name: slug(name.as_ref()), question: question.into(), ..Figure::default() }
    }

    pub fn what(self, what: impl Into<String>) -> Figure {
        Figure { what: what.into(), ..self }
    }

    pub fn n(self, n: impl Into<String>) -> Figure {
        Figure { n: n.into(), ..self }
    }

    pub fn interval(self, interval: impl Into<String>) -> Figure {
        Figure { interval: interval.into(), ..self }
    }

    pub fn null(self, null: impl Into<String>) -> Figure {
        Figure { null: null.into(), ..self }
    }

    pub fn finding(self, finding: impl Into<String>) -> Figure {
        Figure { finding: finding.into(), ..self }
    }

    /// The SQL that gives the figure's numbers, which reads this table.
    pub fn query(self, table: &'static str, query: impl Into<String>) -> Figure {
        Figure { query: query.into(), table, ..self }
    }

    pub fn folded(self, folded: bool) -> Figure {
        Figure { folded, ..self }
    }

    /// Adds a plot's panels, and its legend where that says more.
    pub fn draw(mut self, plot: &impl Draw) -> Figure {
        self.panels.extend(plot.panels());
        for key in plot.legend() {
            if !self.legend.contains(&key) {
                self.legend.push(key);
            }
        }
        self
    }

    /// The figure's own file: all panels with their titles, in both themes.
    pub fn svg(&self) -> String {
        const GAP: f64 = 24.0;
        const TITLE: f64 = 22.0;
        let width = self.panels.iter().map(|panel| panel.width).fold(0.0, f64::max);
        let across = ((1180.0 + GAP) / (width + GAP)).floor().clamp(1.0, self.panels.len().max(1) as f64) as usize;
        let total = (across as f64 * (width + GAP) - GAP + 2.0 * GAP).max(560.0);

        let mut body = Markup::default();
        let mut y = GAP - 8.0;
        // The title is set bold, which is wider.
        for line in wrap(&self.question, 1.08 * 17.0, total - 2.0 * GAP) {
            y += 22.0;
            body.text("figure-title", (GAP, y), Anchor::Start, &line);
        }
        y += 14.0;
        y = legend(&mut body, &self.legend, (GAP, y), total - 2.0 * GAP);
        for row in self.panels.chunks(across) {
            let height = row.iter().map(|panel| panel.height).fold(0.0, f64::max);
            for (column, panel) in row.iter().enumerate() {
                let x = GAP + column as f64 * (width + GAP);
                body.text("panel-title", (x, y + 14.0), Anchor::Start, &fit(&panel.title, 13.0, width));
                let (x, top) = (coordinate(x), coordinate(y + TITLE));
                body.raw(&format!(r#"<g transform="translate({x} {top})">{}</g>"#, panel.markup.0));
            }
            y += TITLE + height + GAP;
        }
        let (w, h) = (coordinate(total), coordinate(y));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\">\
             <style>{STYLE}</style><rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>{}</svg>\n",
            body.0
        )
    }

    /// The figure as part of the page.
    pub fn html(&self) -> maud::Markup {
        let width = self.panels.iter().map(|panel| panel.width).fold(0.0, f64::max);
        let body = html! {
            p.what { (self.what) }
            @if !self.finding.is_empty() { p.finding { (self.finding) } }
            @if !self.legend.is_empty() {
                ul.legend { @for key in &self.legend { li { i class=(key.class) {} (key.name) } } }
            }
            div.panels style={ "--panel:" (coordinate(width)) "px" } { @for panel in &self.panels { (panel.html()) } }
            dl.facts {
                @for (term, text) in [("n", &self.n), ("Interval", &self.interval), ("Null", &self.null)] {
                    @if !text.is_empty() { div { dt { (term) } dd { (text) } } }
                }
            }
            @if !self.query.is_empty() {
                div.query { code { (command(&self.query)) } button.copy type="button" { "Copy" } }
            }
            p.links {
                @if !self.table.is_empty() { "Table " a href={ "../tables/" (self.table) } { (self.table) } " · " }
                a href={ "figures/" (self.name) ".svg" } { "SVG" }
            }
        };
        html! {
            @if self.folded {
                details.figure id=(self.name) { summary { (self.question) } (body) }
            } @else {
                section.figure id=(self.name) { h3 { (self.question) } (body) }
            }
        }
    }
}

/// The query as a shell command, for a POSIX shell's double quotes.
fn command(query: &str) -> String {
    let mut quoted = String::new();
    for c in query.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    format!("strata query \"{quoted}\"")
}

/// A name as an SQL string literal.
pub fn sql(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

fn legend(body: &mut Markup, keys: &[Key], (left, top): (f64, f64), width: f64) -> f64 {
    if keys.is_empty() {
        return top + 8.0;
    }
    let (mut x, mut y) = (left, top + 10.0);
    for key in keys {
        let needed = text_width(&key.name, 12.0) + 34.0;
        if x + needed > left + width && x > left {
            (x, y) = (left, y + 18.0);
        }
        body.line(&format!("line {}", key.class), (x, y), (x + 14.0, y));
        body.text("tick", (x + 19.0, y + 4.0), Anchor::Start, &key.name);
        x += needed;
    }
    y + 18.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_shell_and_sql() {
        assert_eq!(sql("it's"), "'it''s'");
        assert_eq!(
            command(r#"SELECT "of" FROM t WHERE a = '$x`'"#),
            r#"strata query "SELECT \"of\" FROM t WHERE a = '\$x\`'""#
        );
    }

    #[test]
    fn slugs_are_file_names() {
        assert_eq!(slug("Projection: base → instruct (last)"), "projection-base-instruct-last");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug(&"word ".repeat(500)).len(), 119);
    }

    #[test]
    fn a_figure_without_a_null_does_not_speak_of_one() {
        let figure = Figure { name: "a".into(), question: "Why <b>?".into(), n: "3".into(), ..Figure::default() };
        let html = figure.html().into_string();
        assert!(html.contains("Why &lt;b&gt;?") && html.contains("<dt>n</dt>") && !html.contains("<dt>Null</dt>"));
    }
}
