//! Sequences that begin with the same tokens: what they share goes through the model once.
//!
//! ```text
//! A  system question answer ✓        rows computed:  system question │ answer ✓ │ answer ✗
//! B  system question answer ✗        spans:          0..n             n..a        a..b
//!                                    before:         -                0..n        0..n
//! ```
//!
//! A token's states depend on the tokens before it and on nothing after it, so that the states of the shared rows are those of
//! either sequence, to the bit.

use std::ops::Range;

/// A shared beginning of fewer tokens is computed again: rows that lie together are faster.
const LEAST: usize = 8;

/// What is computed for some sequences, and where each of them finds its rows.
#[derive(Debug, Default, PartialEq)]
pub struct Shared {
    /// Where the token of each computed row stands: in which sequence, and at which position.
    pub tokens: Vec<(usize, usize)>,
    /// Of each sequence, the computed rows of its tokens.
    pub rows: Vec<Vec<Range<usize>>>,
    /// The computed rows, cut where sequences part.
    pub spans: Vec<Range<usize>>,
    /// Of each span, the rows of the tokens before it.
    pub before: Vec<Vec<Range<usize>>>,
}

impl Shared {
    /// Of sequences of tokens; only those of the same `kind` share rows.
    pub fn of<K: Ord>(sequences: &[&[u32]], kind: impl Fn(usize) -> K) -> Shared {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_cached_key(|i| (kind(*i), sequences[*i]));
        let mut shared = Shared { rows: vec![Vec::new(); sequences.len()], ..Shared::default() };
        for alike in order.chunk_by(|a, b| kind(*a) == kind(*b)) {
            shared.add(sequences, alike, 0, &[]);
        }
        shared
    }

    /// Adds sequences in ascending order, whose first `position` tokens are the same and lie in the rows `path`.
    fn add(&mut self, sequences: &[&[u32]], alike: &[usize], position: usize, path: &[Range<usize>]) {
        let (Some(first), Some(last)) = (alike.first(), alike.last()) else { return };
        let (first_ids, last_ids) = (sequences[*first], sequences[*last]);
        // In ascending order, what the first and the last have in common all have.
        let common = first_ids.iter().zip(last_ids).take_while(|(a, b)| a == b).count();
        let alone = alike.len() == 1;
        if alone || common - position >= LEAST || (first_ids.len() == common && last_ids.len() == common) {
            let path = self.span(*first, position..common, path);
            let (ended, longer) = alike.split_at(alike.partition_point(|i| sequences[*i].len() == common));
            ended.iter().for_each(|i| self.rows[*i].clone_from(&path));
            return self.children(sequences, longer, common, common, &path);
        }
        self.children(sequences, alike, common, position, path);
    }

    /// Adds sequences by their token at `common`.
    fn children(
        &mut self,
        sequences: &[&[u32]],
        alike: &[usize],
        common: usize,
        position: usize,
        path: &[Range<usize>],
    ) {
        let next = |i: &usize| sequences[*i].get(common);
        for alike in alike.chunk_by(|a, b| next(a) == next(b)) {
            self.add(sequences, alike, position, path);
        }
    }

    /// Adds the rows of these positions of a sequence, and returns all up to there.
    fn span(&mut self, sequence: usize, positions: Range<usize>, path: &[Range<usize>]) -> Vec<Range<usize>> {
        if positions.is_empty() {
            return path.to_vec();
        }
        let rows = self.tokens.len()..self.tokens.len() + positions.len();
        self.tokens.extend(positions.map(|position| (sequence, position)));
        self.spans.push(rows.clone());
        self.before.push(path.to_vec());
        path.iter().cloned().chain([rows]).collect()
    }
}

/// How many of the tokens of `more` some sequence of `some` begins with too, at most.
pub fn shared_tokens(some: &[&[u32]], more: &[&[u32]]) -> usize {
    let mut sorted = some.to_vec();
    sorted.sort_unstable();
    let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let most = |ids: &&[u32]| {
        let at = sorted.partition_point(|other| other < ids);
        let neighbours = &sorted[at.saturating_sub(1)..(at + 1).min(sorted.len())];
        neighbours.iter().map(|other| common(ids, other)).max().unwrap_or(0)
    };
    more.iter().map(most).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[Vec<u32>], kinds: &[u8]) -> Shared {
        let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let shared = Shared::of(&slices, |i| kinds[i]);
        for (ids, rows) in sequences.iter().zip(&shared.rows) {
            let found: Vec<u32> = rows
                .iter()
                .cloned()
                .flatten()
                .map(|row| {
                    let (sequence, position) = shared.tokens[row];
                    sequences[sequence][position]
                })
                .collect();
            assert_eq!(&found, ids);
        }
        assert_eq!(shared.spans.len(), shared.before.len());
        assert_eq!(shared.spans.iter().map(Range::len).sum::<usize>(), shared.tokens.len());
        for (rows, before) in shared.spans.iter().zip(&shared.before) {
            let position: usize = before.iter().map(Range::len).sum();
            assert_eq!(shared.tokens[rows.start].1, position);
        }
        shared
    }

    fn with_ends(start: &[u32], ends: &[&[u32]]) -> Vec<Vec<u32>> {
        ends.iter().map(|end| [start, end].concat()).collect()
    }

    #[test]
    fn a_prompt_and_its_responses_are_three_spans() {
        let prompt: Vec<u32> = (0..20).collect();
        let shared = check(&with_ends(&prompt, &[&[30, 31], &[40]]), &[0, 0]);
        assert_eq!(shared.spans, [0..20, 20..22, 22..23]);
        let before = vec![shared.spans[0].clone()];
        assert_eq!(shared.before, [vec![], before.clone(), before]);
    }

    #[test]
    fn sequences_that_are_the_same_or_begin_others_share_their_rows() {
        let long: Vec<u32> = (0..40).collect();
        let shared = check(&[long[..20].to_vec(), long.clone(), long.clone(), long[..30].to_vec()], &[0; 4]);
        assert_eq!(shared.tokens.len(), 40);
        // Too short to be shared, and yet the same.
        assert_eq!(check(&[vec![1, 2], vec![1, 2], vec![1, 3]], &[0; 3]).tokens.len(), 4);
    }

    #[test]
    fn what_is_shared_nests() {
        let (system, question): (Vec<u32>, Vec<u32>) = ((0..10).collect(), (50..65).collect());
        let first = [system.clone(), question].concat();
        let sequences = [with_ends(&first, &[&[1], &[2, 3]]), with_ends(&system, &[&[7; 30]])].concat();
        let shared = check(&sequences, &[0; 3]);
        assert_eq!(shared.tokens.len(), 10 + 15 + 3 + 30);
        assert_eq!(shared.rows[0].len(), 3);
    }

    #[test]
    fn short_beginnings_and_other_kinds_are_not_shared() {
        let prompt: Vec<u32> = (0..20).collect();
        let sequences = with_ends(&prompt, &[&[30], &[40]]);
        assert_eq!(check(&sequences, &[0, 1]).tokens.len(), 42);
        let short = with_ends(&prompt[..LEAST - 1], &[&[30], &[40]]);
        assert_eq!(check(&short, &[0, 0]).tokens.len(), 2 * LEAST);
        // The next branch begins where the last one that is shared ended.
        let nested = with_ends(&prompt, &[&[30, 31, 32, 1], &[30, 31, 32, 2], &[5]]);
        assert_eq!(check(&nested, &[0; 3]).tokens.len(), 20 + 4 + 4 + 1);
    }

    #[test]
    fn any_sequences_are_laid_out() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{RngCore, SeedableRng};
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..300 {
            let mut sequences: Vec<Vec<u32>> = Vec::new();
            for _ in 0..12 {
                let start = match sequences.is_empty() {
                    true => Vec::new(),
                    false => {
                        let other = &sequences[rng.next_u32() as usize % sequences.len()];
                        other[..rng.next_u32() as usize % (other.len() + 1)].to_vec()
                    }
                };
                let more = (rng.next_u32() as usize % 30).max(usize::from(start.is_empty()));
                sequences.push(start.into_iter().chain((0..more).map(|_| rng.next_u32() % 3)).collect());
            }
            check(&sequences, &std::array::from_fn::<u8, 12, _>(|_| (rng.next_u32() % 2) as u8));
        }
    }

    #[test]
    fn counts_what_is_there_already() {
        let some: [&[u32]; 2] = [&[1, 2, 3, 4], &[5, 6]];
        assert_eq!(shared_tokens(&some, &[&[1, 2, 9], &[5, 6, 7], &[8]]), 4);
        assert_eq!(shared_tokens(&[], &[&[1]]), 0);
    }
}
