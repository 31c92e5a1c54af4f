//! The page: one HTML file that asks nothing of the network. Summary, table of contents in the paper's order,
//! and the sections with their figures.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::shelf::Dataset;
use crate::chart::figure::{Figure, STYLE, series_class};

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

/// The page asks nothing of the network, and the browser sees to it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

impl Page<'_> {
    pub fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width,initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) (PreEscaped(PAGE_STYLE)) }
                }
                body {
                    div.layout {
                        header {
                            h1 { (self.title) }
                            p {
                                "How fine-tuning moves a language model along its alignment directions, layer by layer. \
                                 Point at a figure for its numbers; each figure gives the query that returns them."
                            }
                            button #theme type="button" hidden { "Dark" }
                        }
                        nav {
                            h2 { "Contents" }
                            ol { @for section in self.sections { li { a href={ "#" (section.id) } { (section.title) } } } }
                        }
                        main {
                            (self.summary())
                            @for (i, section) in self.sections.iter().enumerate() { (section.html(i + 1)) }
                            footer {
                                "Sections follow Giordani 2025, arXiv:2507.03662. Every number here is in the tables \
                                 beside this page; colours can be told apart with any colour vision."
                            }
                        }
                    }
                    div #tip role="status" {}
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn summary(&self) -> Markup {
        let mut headlines = self.sections.iter().flat_map(|section| &section.headlines).peekable();
        html! {
            div.summary {
                @if headlines.peek().is_some() {
                    ul.headlines {
                        @for headline in headlines { li { b { (headline.value) } span { (headline.meaning) } } }
                    }
                }
                div.rosters {
                    div {
                        table {
                            tr { th { "Model" } }
                            @for (i, model) in self.models.iter().enumerate() {
                                tr { td { i class=(series_class(i)) {} (model) } }
                            }
                        }
                    }
                    div {
                        table {
                            tr { th { "Dataset" } th { "Label" } th.number { "Examples" } }
                            @for dataset in self.datasets {
                                @let examples = dataset.examples.map_or("–".to_string(), |n| n.to_string());
                                tr { td { (dataset.name) } td { (dataset.label) } td.number { (examples) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Section {
    fn html(&self, number: usize) -> Markup {
        html! {
            section id=(self.id) {
                h2 {
                    (number) ". " (self.title)
                    @if !self.source.is_empty() { " " small { (self.source) } }
                }
                p.intro { (self.intro) }
                @for figure in &self.figures { (figure.html()) }
            }
        }
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
