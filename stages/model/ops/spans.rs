//! Where sequences lie in packed rows, also those that begin with rows of others.

use std::ops::Range;

/// The rows of each sequence, or of the end of one whose first tokens are rows elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Spans<'a> {
    /// Ranges that do not overlap, ascending.
    pub rows: &'a [Range<usize>],
    /// Of each of them, the rows of the tokens before it in its sequence, in their order; empty where none has such rows.
    pub before: &'a [Vec<Range<usize>>],
}

impl<'a> Spans<'a> {
    /// Sequences that are all there.
    pub fn whole(rows: &'a [Range<usize>]) -> Spans<'a> {
        Spans { rows, before: &[] }
    }

    /// The rows of the tokens before those of span `i`.
    pub fn before(&self, i: usize) -> &'a [Range<usize>] {
        self.before.get(i).map_or(&[], Vec::as_slice)
    }

    /// The position of span `i`'s first token in its sequence.
    pub fn position(&self, i: usize) -> usize {
        self.before(i).iter().map(Range::len).sum()
    }

    /// All rows of the sequence up to span `i`'s last, in their order.
    pub fn all(&self, i: usize) -> impl Iterator<Item = Range<usize>> + 'a {
        self.before(i).iter().cloned().chain([self.rows[i].clone()])
    }
}
