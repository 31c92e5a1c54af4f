//! The rows that go through a model for some parts' sequences, and which of them are whose.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Tensor;

use super::block::Packing;
use super::prefixes::Shared;
use super::transformer::Transformer;
use crate::contract::sequences::Sequences;

/// A pass is laid out by what sequences share if that saves one row of so many: it costs a copy of the states wherever they are
/// shown.
const WORTHWHILE: usize = 32;

pub struct Passing<'a> {
    pub parts: Vec<&'a Sequences>,
    pub packing: Packing,
    /// Without, the rows are those of the one part.
    shared: Option<Layout>,
}

struct Layout {
    /// Part, sequence and position of the token of each computed row.
    tokens: Vec<(usize, usize, usize)>,
    /// Of each part, the computed row of each of its own, and as an index on the model's device.
    rows: Vec<(Vec<u32>, Tensor)>,
}

/// Rows that go through the output head together.
pub struct Chunk {
    /// Of the rows that are computed.
    pub computed: Vec<usize>,
    pub runs: Vec<Run>,
}

/// Rows of a part that a chunk has one after the other.
pub struct Run {
    pub part: usize,
    /// Among the chunk's rows.
    pub first: usize,
    /// Among the part's own rows.
    pub rows: Vec<usize>,
}

impl<'a> Passing<'a> {
    /// Every row of one part.
    pub fn whole(model: &Transformer, sequences: &'a Sequences) -> Passing<'a> {
        Passing { parts: vec![sequences], packing: model.pack(sequences), shared: None }
    }

    /// What is distinct in the rows of these parts.
    ///
    /// # Errors
    /// When the device fails.
    pub fn together(model: &Transformer, parts: &[&'a Sequences]) -> Result<Passing<'a>> {
        let sequences: Vec<(usize, usize)> = parts
            .iter()
            .enumerate()
            .flat_map(|(part, sequences)| (0..sequences.ids.len()).map(move |i| (part, i)))
            .collect();
        let ids: Vec<&[u32]> = sequences.iter().map(|(part, i)| parts[*part].ids[*i].as_slice()).collect();
        let lengths: Vec<usize> = ids.iter().map(|ids| ids.len()).collect();
        let rotary = model.rotary(&lengths);
        // A long sequence may have other rotations than a short one.
        let kinds = rotary.choices();
        let kind =
            |i: usize| -> Vec<_> { kinds.iter().map(|tables| tables.as_ref().map(|t| Arc::as_ptr(&t[i]))).collect() };
        let shared = Shared::of(&ids, kind);
        let all: usize = lengths.iter().sum();
        if let [sequences] = parts
            && (all - shared.tokens.len()) * WORTHWHILE < all
        {
            return Ok(Passing::whole(model, sequences));
        }
        let of_span = |span: &Range<usize>| shared.tokens[span.start].0;
        let rotary = rotary.map(|tables| {
            let tables = tables.as_ref()?;
            Some(shared.spans.iter().map(|span| tables[of_span(span)].clone()).collect())
        });
        let mut rows = vec![Vec::new(); parts.len()];
        for ((part, _), of_sequence) in sequences.iter().zip(&shared.rows) {
            rows[*part].extend(of_sequence.iter().flat_map(|rows| rows.start as u32..rows.end as u32));
        }
        let indexed = |rows: Vec<u32>| -> Result<(Vec<u32>, Tensor)> {
            let index = Tensor::new(rows.as_slice(), &model.device)?;
            Ok((rows, index))
        };
        let rows = rows.into_iter().map(indexed).collect::<Result<_>>()?;
        let token = |(sequence, position): &(usize, usize)| {
            let (part, i) = sequences[*sequence];
            (part, i, *position)
        };
        let tokens = shared.tokens.iter().map(token).collect();
        let packing = Packing { sequences: shared.spans, before: shared.before, rotary };
        Ok(Passing { parts: parts.to_vec(), packing, shared: Some(Layout { tokens, rows }) })
    }

    /// The residual stream at layer 0, [computed rows, D].
    ///
    /// # Errors
    /// When there are no tokens or a token id lies outside the vocabulary.
    pub fn embed(&self, model: &Transformer) -> Result<Tensor> {
        let count = self.packing.tokens();
        match &self.shared {
            Some(Layout { tokens, .. }) => model.embed(
                count,
                tokens.iter().map(|(part, i, position)| {
                    let Sequences { ids, examples, .. } = self.parts[*part];
                    (ids[*i][*position], examples[*i].as_str())
                }),
            ),
            None => {
                let Sequences { ids, examples, .. } = self.parts[0];
                let of_example =
                    |(ids, example): (&'a Vec<u32>, &'a String)| ids.iter().map(|id| (*id, example.as_str()));
                model.embed(count, ids.iter().zip(examples).flat_map(of_example))
            }
        }
    }

    /// A part's own rows [tokens, D] of those that were computed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn states_of(&self, part: usize, states: &Tensor) -> Result<Tensor> {
        match &self.shared {
            None => Ok(states.clone()),
            Some(Layout { rows, .. }) => Ok(states.index_select(&rows[part].1, 0)?),
        }
    }

    /// The example and the index in it of a computed row's token.
    pub fn place(&self, row: usize) -> (&str, usize) {
        match &self.shared {
            Some(Layout { tokens, .. }) => {
                let (part, i, position) = tokens[row];
                (&self.parts[part].examples[i], position)
            }
            None => {
                let i = self.packing.sequences.iter().position(|rows| rows.contains(&row)).unwrap_or(0);
                (&self.parts[0].examples[i], row - self.packing.sequences[i].start)
            }
        }
    }

    /// The wanted rows of each part, ascending, as chunks of at most `size` rows to compute. Those of a part come in their order;
    /// the parts' sequences go side by side.
    pub fn chunks_of(&self, wanted: &[Vec<usize>], size: usize) -> Vec<Chunk> {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (part, rows) in wanted.iter().enumerate() {
            let mut rows = rows.iter().copied().peekable();
            for (i, span) in self.parts[part].spans().into_iter().enumerate() {
                while let Some(row) = rows.next_if(|row| *row < span.end) {
                    order.push((i, part, row));
                }
            }
        }
        order.sort_unstable();
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut places = HashMap::new();
        for (_, part, row) in order {
            let computed = self.shared.as_ref().map_or(row, |layout| layout.rows[part].0[row] as usize);
            let full = chunks.last().is_none_or(|chunk| chunk.computed.len() == size);
            if full && !places.contains_key(&computed) {
                chunks.push(Chunk { computed: Vec::new(), runs: Vec::new() });
                places.clear();
            }
            let Some(Chunk { computed: rows, runs }) = chunks.last_mut() else { continue };
            let place = match places.entry(computed) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(place) => {
                    rows.push(computed);
                    *place.insert(rows.len() - 1)
                }
            };
            match runs.last_mut() {
                Some(run) if run.part == part && run.first + run.rows.len() == place => run.rows.push(row),
                _ => runs.push(Run { part, first: place, rows: vec![row] }),
            }
        }
        chunks
    }
}
