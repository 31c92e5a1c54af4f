//! What panels, series and places are called, and how a series is drawn.

/// How a series is drawn; the order in which they are drawn over each other and listed in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Style {
    /// A thin background line, without a name or a tip.
    Faint,
    /// In the colour of its rank.
    #[default]
    Solid,
    /// In the colour of its rank, for what the others are held against.
    Dashed,
    /// Datasets and pairs of them side by side: in the colour of its rank among other eight than the models'.
    Group,
    /// In the colour of the text.
    Ink,
    /// What chance gives, grey; a mark across the row among dots.
    Null,
    /// What chance gives in another sense.
    DottedNull,
}

/// What a panel, a series or a place on an axis is called. Names are drawn in the order of their ranks, and a
/// series has the colour of its rank, so that a model has one colour in every figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub(super) style: Style,
    pub(super) rank: usize,
    pub(super) text: String,
}

impl Name {
    pub fn new(rank: usize, text: impl Into<String>) -> Name {
        Name { style: Style::Solid, rank, text: text.into() }
    }

    pub fn style(self, style: Style) -> Name {
        Name { style, ..self }
    }

    /// The same rank and style with another text.
    pub fn with(self, text: impl FnOnce(&str) -> String) -> Name {
        Name { text: text(&self.text), ..self }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn class(&self) -> String {
        let colour = series_class(self.rank);
        match self.style {
            Style::Solid => colour,
            Style::Faint => colour + " faint",
            Style::Dashed => colour + " dashed",
            Style::Group => format!("of-group {colour}"),
            Style::Ink => "ink".into(),
            Style::Null => "null".into(),
            Style::DottedNull => "null dotted".into(),
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name::new(0, text)
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Name {
        name.clone()
    }
}

/// The colour class of the i-th model or dataset: eight colours, then the same again dashed.
pub fn series_class(index: usize) -> String {
    let dash = if index >= 8 { " dashed" } else { "" };
    format!("s{}{dash}", index % 8)
}
