//! The page: one HTML file that asks nothing of the network. Summary, table of contents in the paper's order,
//! and the sections with their figures.

use std::fmt::Write;

use super::shelf::Dataset;
use crate::chart::figure::{Figure, STYLE, series_class};
use crate::chart::svg::escape;

/// A number that belongs at the top of the page, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    pub value: String,
    pub meaning: String,
}

#[derive(Debug, Clone, Default)]
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    /// Where the paper has it.
    pub source: &'static str,
    pub intro: &'static str,
    pub headlines: Vec<Headline>,
    pub figures: Vec<Figure>,
}

pub struct Page<'a> {
    pub title: &'a str,
    pub models: &'a [String],
    pub datasets: &'a [Dataset],
    pub sections: &'a [Section],
}

const PAGE_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Page<'_> {
    pub fn html(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let title = escape(self.title);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
             style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
             <title>{title}</title>\n<style>\n{STYLE}{PAGE_STYLE}</style></head>\n<body><div class=\"layout\">\n"
        )?;
        write!(
            out,
            "<header><h1>{title}</h1><p>How fine-tuning moves a language model along its alignment directions, layer \
             by layer. Point at a figure for its numbers; each figure gives the query that returns them.</p>\
             <button id=\"theme\" type=\"button\" hidden>Dark</button></header>\n<nav><h2>Contents</h2><ol>"
        )?;
        for section in self.sections {
            write!(out, "<li><a href=\"#{}\">{}</a></li>", section.id, escape(section.title))?;
        }
        out.push_str("</ol></nav>\n<main>");
        self.write_summary(out)?;
        for (i, section) in self.sections.iter().enumerate() {
            write!(out, "<section id=\"{}\"><h2>{}. {}", section.id, i + 1, escape(section.title))?;
            if !section.source.is_empty() {
                write!(out, " <small>{}</small>", escape(section.source))?;
            }
            writeln!(out, "</h2><p class=\"intro\">{}</p>", escape(section.intro))?;
            for figure in &section.figures {
                writeln!(out, "{}", figure.html())?;
            }
            out.push_str("</section>\n");
        }
        write!(
            out,
            "<footer>Sections follow Giordani 2025, arXiv:2507.03662. Every number here is in the tables beside this \
             page; colours can be told apart with any colour vision.</footer></main></div>\
             <div id=\"tip\" role=\"status\"></div>\n<script>\n{SCRIPT}</script></body></html>\n"
        )
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        out.push_str("<div class=\"summary\">");
        let headlines: Vec<&Headline> = self.sections.iter().flat_map(|section| &section.headlines).collect();
        if !headlines.is_empty() {
            out.push_str("<ul class=\"headlines\">");
            for headline in headlines {
                let (value, meaning) = (escape(&headline.value), escape(&headline.meaning));
                write!(out, "<li><b>{value}</b><span>{meaning}</span></li>")?;
            }
            out.push_str("</ul>");
        }
        out.push_str("<div class=\"rosters\"><div><table><tr><th>Model</th></tr>");
        for (i, model) in self.models.iter().enumerate() {
            write!(out, "<tr><td><i class=\"{}\"></i>{}</td></tr>", series_class(i), escape(model))?;
        }
        out.push_str(
            "</table></div><div><table><tr><th>Dataset</th><th>Label</th><th class=\"number\">Examples</th></tr>",
        );
        for dataset in self.datasets {
            let examples = dataset.examples.map_or("–".to_string(), |n| n.to_string());
            let (name, label) = (escape(&dataset.name), escape(&dataset.label));
            write!(out, "<tr><td>{name}</td><td>{label}</td><td class=\"number\">{examples}</td></tr>")?;
        }
        out.push_str("</table></div></div></div>\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nothing_of_the_network_and_escapes_names() {
        let datasets = [Dataset { name: "<img src=x>".into(), label: "a&b".into(), examples: Some(3) }];
        let sections = [Section { id: "one", title: "One", ..Section::default() }];
        let page = Page { title: "A <b> title", models: &["m<".into()], datasets: &datasets, sections: &sections };
        let html = page.html();
        assert!(!html.contains("<img src=x>") && html.contains("&lt;img src=x&gt;") && html.contains("a&amp;b"));
        assert!(html.contains("<title>A &lt;b&gt; title</title>") && html.contains("m&lt;"));
        for far in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!html.contains(far), "the page refers to {far}");
        }
        assert!(html.contains("href=\"#one\"") && html.contains("id=\"one\""));
    }
}
