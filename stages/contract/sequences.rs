//! The tokenized examples of a part, packed: what goes through a model together.

use std::ops::Range;

/// Tokenized examples; sequence i holds the rows `span(i)` of every packed tensor.
#[derive(Debug, Clone, Default)]
pub struct Sequences {
    /// Example identities, one per sequence.
    pub examples: Vec<String>,
    /// Token ids, one list per sequence.
    pub ids: Vec<Vec<u32>>,
    /// [start, end) token span of the last assistant message's content.
    pub response: Vec<(u32, u32)>,
    /// The first token of that message's turn, its opening marker included.
    pub turn: Vec<u32>,
}

impl Sequences {
    /// The rows of sequence `i` in a packed tensor.
    pub fn span(&self, i: usize) -> Range<usize> {
        let start = self.ids[..i].iter().map(Vec::len).sum();
        start..start + self.ids[i].len()
    }

    /// The rows of every sequence in a packed tensor, in order.
    pub fn spans(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let rows = |ids: &Vec<u32>| {
            let rows = start..start + ids.len();
            start = rows.end;
            rows
        };
        self.ids.iter().map(rows).collect()
    }

    pub fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}
