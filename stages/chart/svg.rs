//! The few SVG elements that the figures are made of, written as text: numbers short, every name escaped.
//!
//! Elements carry classes and no colours, so that one style sheet gives the light and the dark theme.

use std::borrow::Cow;
use std::fmt::Write;

/// Text that is safe in HTML and XML, as content and inside quoted attributes. Control characters, which XML
/// cannot hold in any form, become U+FFFD; line breaks become references, since attributes would lose them.
pub fn escape(text: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || c.is_control();
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A coordinate with at most two decimals and no trailing zeros.
pub fn coordinate(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" || text.is_empty() { "0".into() } else { text.into() }
}

/// Where a text's x stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// SVG markup under construction.
#[derive(Debug, Clone, Default)]
pub struct Markup(pub String);

impl Markup {
    pub fn raw(&mut self, text: &str) -> &mut Markup {
        self.0.push_str(text);
        self
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) -> &mut Markup {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(coordinate);
        self.push(format_args!(r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#))
    }

    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, content: &str) -> &mut Markup {
        let (x, y) = (coordinate(at.0), coordinate(at.1));
        let anchor = anchor.attribute();
        self.push(format_args!(r#"<text class="{class}" x="{x}" y="{y}"{anchor}>{}</text>"#, escape(content)))
    }

    /// Text turned by `degrees` clockwise about its own anchor point.
    pub fn turned_text(
        &mut self,
        class: &str,
        at: (f64, f64),
        degrees: i32,
        anchor: Anchor,
        content: &str,
    ) -> &mut Markup {
        let (x, y) = (coordinate(at.0), coordinate(at.1));
        let anchor = anchor.attribute();
        self.push(format_args!(
            r#"<text class="{class}" transform="translate({x} {y}) rotate({degrees})"{anchor}>{}</text>"#,
            escape(content)
        ))
    }

    /// A rectangle; with a `tip`, one that says so when pointed at.
    pub fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), tip: Option<&str>) -> &mut Markup {
        let [x, y, w, h] = [at.0, at.1, size.0.max(0.0), size.1.max(0.0)].map(coordinate);
        self.push(format_args!(r#"<rect class="{class}" x="{x}" y="{y}" width="{w}" height="{h}""#));
        self.close_with_tip("rect", tip)
    }

    pub fn circle(&mut self, class: &str, at: (f64, f64), radius: f64, tip: Option<&str>) -> &mut Markup {
        let [x, y, r] = [at.0, at.1, radius].map(coordinate);
        self.push(format_args!(r#"<circle class="{class}" cx="{x}" cy="{y}" r="{r}""#));
        self.close_with_tip("circle", tip)
    }

    /// A PNG in base64, stretched to the size.
    pub fn image(&mut self, class: &str, at: (f64, f64), size: (f64, f64), png: &str) -> &mut Markup {
        let [x, y, w, h] = [at.0, at.1, size.0, size.1].map(coordinate);
        self.push(format_args!(
            r#"<image class="{class}" x="{x}" y="{y}" width="{w}" height="{h}" preserveAspectRatio="none" href="data:image/png;base64,{png}"/>"#
        ))
    }

    /// A path through the points; several runs where `NaN` interrupts them.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) -> &mut Markup {
        let mut data = String::new();
        let mut pen_down = false;
        for &(x, y) in points {
            if x.is_finite() && y.is_finite() {
                let _ = write!(data, "{}{} {}", if pen_down { 'L' } else { 'M' }, coordinate(x), coordinate(y));
            }
            pen_down = x.is_finite() && y.is_finite();
        }
        self.push(format_args!(r#"<path class="{class}" d="{data}"/>"#))
    }

    fn close_with_tip(&mut self, element: &str, tip: Option<&str>) -> &mut Markup {
        match tip {
            None => self.raw("/>"),
            // A <title> works without a script and in the figure's own file; the page's script turns it into a tip.
            Some(tip) => self.push(format_args!("><title>{}</title></{element}>", escape(tip))),
        }
    }

    fn push(&mut self, text: std::fmt::Arguments) -> &mut Markup {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(text);
        self
    }
}

impl Anchor {
    fn attribute(self) -> &'static str {
        match self {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        }
    }
}

/// About how wide a text is set in a sans-serif face of this size. SVG has no layout of its own, so margins are
/// made from this estimate; it errs on the wide side, being about that of DejaVu Sans.
pub fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.30,
            'f' | 't' | 'r' | ' ' | '(' | ')' | '[' | ']' | '/' | '-' | '·' => 0.40,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.95,
            'A'..='Z' | '−' | '+' | '=' | '<' | '>' | '␣' | '⏎' | '⇥' => 0.72,
            c if (c as u32) >= 0x2e80 => 1.0,
            _ => 0.62,
        })
        .sum();
    em * size
}

/// The text, cut with an ellipsis where it would be wider than `width`.
pub fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if text_width(&kept, size) + text_width(&c.to_string(), size) + size * 0.9 > width {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

/// The text in lines no wider than `width`, broken at spaces; a word that is wider has a line of its own, cut.
pub fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(" ", size) + text_width(word, size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines.iter().map(|line| fit(line, size, width)).collect()
}

/// An attribute of each element that begins so, for tests.
#[cfg(test)]
pub fn attributes(svg: &str, begins: &str, name: &str) -> Vec<f64> {
    let value = |element: &str| element.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
    svg.split(begins).skip(1).filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escape("plain name"), "plain name");
        assert_eq!(escape(r#"<b a="1">&'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(escape("a\nb\u{1}"), "a&#10;b\u{fffd}");
        let mut markup = Markup::default();
        markup.text("label", (0.0, 0.0), Anchor::Start, "</text><script>");
        assert!(!markup.0.contains("<script>"), "{}", markup.0);
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!(coordinate(1.0), "1");
        assert_eq!(coordinate(-0.001), "0");
        assert_eq!(coordinate(12.3456), "12.35");
        assert_eq!(coordinate(100.0), "100");
    }

    #[test]
    fn a_missing_point_interrupts_the_line() {
        let mut markup = Markup::default();
        markup.polyline("line", &[(0.0, 0.0), (1.0, f64::NAN), (2.0, 2.0), (3.0, 3.0)]);
        assert_eq!(markup.0, r#"<path class="line" d="M0 0M2 2L3 3"/>"#);
    }

    #[test]
    fn titles_are_broken_and_not_cut() {
        let text = "How far does each model lie along instruct − base (mean difference)?";
        let lines = wrap(text, 10.0, 200.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| text_width(line, 10.0) <= 200.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert!(wrap("", 10.0, 200.0).is_empty());
    }

    #[test]
    fn long_texts_are_cut_to_fit() {
        assert_eq!(fit("short", 10.0, 100.0), "short");
        let cut = fit("a_rather_long_dataset_name", 10.0, 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, 10.0) <= 66.0, "{cut}");
    }
}
