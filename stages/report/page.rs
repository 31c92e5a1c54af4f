//! The page: one HTML file that asks nothing of the network. Summary, table of contents in the paper's order,
//! and the sections with their figures.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::chart::figure::{Figure, STYLE};
use crate::chart::name::series_class;
use crate::contract::figures::tables::Dataset;
use crate::contract::figures::{self, Drawn, Headline};

/// A section with what the stages drew for it.
pub struct Section {
    pub section: &'static figures::Section,
    pub headlines: Vec<Headline>,
    pub figures: Vec<Figure>,
}

/// A short name for what files hold.
#[derive(Debug, Clone)]
pub struct Content(String);

impl Content {
    /// The first 16 digits of a single file's blake3; of several files, of the blake3 of their hashes joined.
    pub fn of(hashes: &[String]) -> Content {
        let hash = match hashes {
            [] => "–".into(),
            [one] => one.clone(),
            several => blake3::hash(several.concat().as_bytes()).to_hex().to_string(),
        };
        Content(hash.chars().take(16).collect())
    }
}

pub struct Page<'a> {
    pub title: &'a str,
    /// Of the program.
    pub version: &'a str,
    pub models: Vec<(&'a str, Content)>,
    pub datasets: Vec<(&'a Dataset, Content)>,
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
                            ol {
                                @for Section { section, .. } in self.sections {
                                    li { a href={ "#" (section.id) } { (section.title) } }
                                }
                            }
                        }
                        main {
                            (self.summary())
                            @for (i, section) in self.sections.iter().enumerate() { (section.html(i + 1)) }
                            footer {
                                "Made by Strata " (self.version) " from the models and datasets at the top, named by the blake3 \
                                 of their files. Sections follow Giordani 2025, arXiv:2507.03662. Every number here is in the tables \
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
                            tr { th { "Model" } th { "Content" } }
                            @for (i, (model, content)) in self.models.iter().enumerate() {
                                tr { td { i class=(series_class(i)) {} (model) } td { code { (content.0) } } }
                            }
                        }
                    }
                    div {
                        table {
                            tr { th { "Dataset" } th { "Label" } th.number { "Examples" } th { "Content" } }
                            @for (dataset, content) in &self.datasets {
                                @let examples = dataset.examples.map_or("–".to_string(), |n| n.to_string());
                                tr {
                                    td { (dataset.name) } td { (dataset.label) } td.number { (examples) }
                                    td { code { (content.0) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Section {
    pub fn new(section: &'static figures::Section, drawn: Drawn) -> Section {
        Section { section, headlines: drawn.headlines, figures: drawn.figures }
    }

    pub fn add(&mut self, drawn: Drawn) {
        self.headlines.extend(drawn.headlines);
        self.figures.extend(drawn.figures);
    }

    fn html(&self, number: usize) -> Markup {
        let section = self.section;
        html! {
            section id=(section.id) {
                h2 {
                    (number) ". " (section.title)
                    @if !section.source.is_empty() { " " small { (section.source) } }
                }
                p.intro { (section.intro) }
                @for figure in &self.figures { (figure.html()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::figures::section::PATCHING;

    #[test]
    fn the_page_asks_nothing_of_the_network_and_escapes_names() {
        let dataset = Dataset { name: "<img src=x>".into(), label: "a&b".into(), examples: Some(3) };
        let page = Page {
            title: "A <b> title",
            version: "1.2.3",
            models: vec![("m<", Content::of(&["0123456789abcdef0123".into()]))],
            datasets: vec![(&dataset, Content::of(&[]))],
            sections: &[Section::new(&PATCHING, Drawn::default())],
        };
        let html = page.html();
        assert!(!html.contains("<img src=x>") && html.contains("&lt;img src=x&gt;") && html.contains("a&amp;b"));
        assert!(html.contains("<title>A &lt;b&gt; title</title>") && html.contains("m&lt;"));
        for far in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!html.contains(far), "the page refers to {far}");
        }
        assert!(html.contains("href=\"#patching\"") && html.contains("id=\"patching\""));
        assert!(html.contains("Strata 1.2.3") && html.contains("<code>0123456789abcdef</code>"));
    }
}
