//! Which parts go through a model together: those whose examples have prompts in common, as datasets of aligned and
//! misaligned answers do.

use std::collections::HashMap;

use super::prefixes::shared_tokens;
use super::token_part::read_sequences;
use crate::contract::node::Part;
use crate::contract::sequences::Sequences;

/// Tokens of the parts that go together, or twice the first part's where that is more.
const MOST_TOKENS: usize = 1 << 15;

/// A part goes with others if so much of it is there already.
const LEAST_SHARED: f64 = 0.1;

/// The parts in groups, each part once, by their indices. A part that cannot be read is alone.
pub fn groups(parts: &[&Part]) -> Vec<Vec<usize>> {
    if parts.len() < 2 {
        return (0..parts.len()).map(|i| vec![i]).collect();
    }
    let prompts: Vec<Vec<u64>> = parts.iter().map(|part| read(part).map_or_else(Vec::new, |s| prompts(&s))).collect();
    let mut with = HashMap::<u64, Vec<usize>>::new();
    for (part, prompts) in prompts.iter().enumerate() {
        for prompt in prompts {
            let parts = with.entry(*prompt).or_default();
            if parts.last() != Some(&part) {
                parts.push(part);
            }
        }
    }
    let mut grouped = vec![false; parts.len()];
    let mut groups = Vec::new();
    for first in 0..parts.len() {
        if grouped[first] {
            continue;
        }
        grouped[first] = true;
        let mut common = HashMap::<usize, usize>::new();
        let others = prompts[first].iter().flat_map(|prompt| &with[prompt]).filter(|part| !grouped[**part]);
        others.for_each(|part| *common.entry(*part).or_default() += 1);
        let mut candidates: Vec<(usize, usize)> = common.into_iter().map(|(part, common)| (common, part)).collect();
        candidates.sort_unstable_by_key(|(common, part)| (std::cmp::Reverse(*common), *part));
        let group = grown(first, candidates.into_iter().map(|(_, part)| part), parts);
        group.iter().for_each(|part| grouped[*part] = true);
        groups.push(group);
    }
    groups
}

/// The first part and those candidates that share enough with what is there before them.
fn grown(first: usize, candidates: impl Iterator<Item = usize>, parts: &[&Part]) -> Vec<usize> {
    let mut group = vec![first];
    let mut candidates = candidates.peekable();
    if candidates.peek().is_none() {
        return group;
    }
    let Some(sequences) = read(parts[first]) else { return group };
    let most = MOST_TOKENS.max(2 * sequences.tokens());
    let mut computed = sequences.tokens();
    let mut there = sequences.ids;
    for candidate in candidates {
        let Some(sequences) = read(parts[candidate]) else { continue };
        let shared = shared_tokens(&slices(&there), &slices(&sequences.ids));
        let tokens = sequences.tokens();
        if (shared as f64) < LEAST_SHARED * tokens as f64 || computed + tokens - shared > most {
            continue;
        }
        computed += tokens - shared;
        there.extend(sequences.ids);
        group.push(candidate);
    }
    group
}

fn slices(ids: &[Vec<u32>]) -> Vec<&[u32]> {
    ids.iter().map(Vec::as_slice).collect()
}

fn read(part: &Part) -> Option<Sequences> {
    read_sequences(std::slice::from_ref(part)).ok()
}

/// A hash of each example's tokens up to its last message, each once.
fn prompts(sequences: &Sequences) -> Vec<u64> {
    let hash = |(ids, turn): (&Vec<u32>, &u32)| {
        let mut hasher = blake3::Hasher::new();
        ids.iter().take(*turn as usize).for_each(|id| {
            hasher.update(&id.to_le_bytes());
        });
        let hash = hasher.finalize();
        u64::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i]))
    };
    let mut hashes: Vec<u64> = sequences.ids.iter().zip(&sequences.turn).map(hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}
