//! What a stage shows in the report: which tables it reads, and how they are drawn.
//!
//! A stage's figures stand in `figure.rs` in the stage's own folder, and the stage names them in its
//! [`Stage::figures`](super::stage::Stage). The engine gives the report the tables that the figures read, the report
//! calls `draw` and puts the figures on its page.

pub mod columns_read;
pub mod rows;
pub mod section;
pub mod tables;
pub mod words;

pub use columns_read::columns_read;
pub use rows::{Row, Rows};
pub use section::Section;
pub use tables::Tables;

use anyhow::Result;

use crate::chart::figure::Figure;

/// The figures of one stage in one section of the report.
pub struct Figures {
    pub section: &'static Section,
    pub level: Level,
    /// The tables that the figures are drawn from, this stage's own first.
    pub reads: &'static [Reads],
    /// Draws what the tables hold; nothing where they hold none of this stage.
    pub draw: fn(&Tables) -> Result<Drawn>,
}

/// The columns that are read of a stage's table, so that a change in the others does not reach the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reads {
    pub stage: &'static str,
    pub columns: &'static [&'static str],
}

/// Where in its section a stage's figures stand; those of one level are in the registry's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// About whole datasets.
    Overview,
    /// About single examples, or what stands behind the overview.
    Detail,
}

#[derive(Debug, Default)]
pub struct Drawn {
    /// Numbers that belong at the top of the page.
    pub headlines: Vec<Headline>,
    pub figures: Vec<Figure>,
}

/// A number, and the rest of the sentence that it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    pub value: String,
    pub meaning: String,
}

impl From<Vec<Figure>> for Drawn {
    fn from(figures: Vec<Figure>) -> Drawn {
        Drawn { headlines: Vec::new(), figures }
    }
}
