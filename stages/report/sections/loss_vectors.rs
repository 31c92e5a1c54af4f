//! Loss vectors (Fig. 3): examples compared by how hard each of their first tokens is to predict.

use anyhow::Result;

use super::super::page::Section;
use super::super::shelf::Shelf;
use super::similarity::{Subject, figures};

pub fn section(shelf: &Shelf) -> Result<Section> {
    Ok(Section {
        id: "loss-vectors",
        title: "Loss vectors",
        source: "Fig. 3",
        intro: "The losses of a response's first tokens, as one vector for each example: examples that a model finds hard in the \
                same places point the same way.",
        figures: figures(shelf, &Subject { of: "loss", name: "loss vectors" })?,
        ..Section::default()
    })
}
