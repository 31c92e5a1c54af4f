//! A mistake in what the user wrote, shown with its file, line and source text.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Printed as `error: …` with the place it points at. Errors of this type end the program with exit code 2.
#[derive(Debug)]
pub struct Diagnostic {
    message: String,
    help: Option<String>,
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    text: String,
    span: Range<usize>,
}

impl Diagnostic {
    pub fn plain(message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), help: None, place: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Points at bytes of a file; at its beginning where no span is known.
    pub fn in_file(mut self, path: &Path, text: &str, span: Option<Range<usize>>) -> Diagnostic {
        let end = text.len();
        let span = span.unwrap_or(0..0);
        let span = span.start.min(end)..span.end.min(end);
        self.place = Some(Place { path: path.to_path_buf(), text: text.to_string(), span });
        self
    }
}

impl Diagnostic {
    /// With colours, for a terminal.
    pub fn styled(&self) -> String {
        self.render(&Renderer::styled())
    }

    /// As a warning, without colours.
    pub fn doubt(&self) -> String {
        self.render_as(Level::WARNING, &Renderer::plain())
    }

    fn render(&self, renderer: &Renderer) -> String {
        self.render_as(Level::ERROR, renderer)
    }

    fn render_as(&self, level: Level, renderer: &Renderer) -> String {
        let mut group = level.primary_title(&self.message).elements(Vec::<annotate_snippets::Element<'_>>::new());
        let path = self.place.as_ref().map(|place| place.path.display().to_string());
        if let (Some(place), Some(path)) = (&self.place, &path) {
            let annotation = AnnotationKind::Primary.span(place.span.clone());
            group = group.element(Snippet::source(&place.text).path(path).annotation(annotation));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Diagnostic {}
