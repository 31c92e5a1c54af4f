//! Parts: how a dataset is cut so that one edited example changes one part.
//!
//! A part starts at an example whose hash is the least among its `least - 1` neighbours on either side. That
//! depends on nothing further away, so an edit moves no cut beyond its neighbourhood; the usual rule (walk
//! from the last cut, cut where a hash meets a mask or where the part is full) can pass an edit on from
//! part to part. Stretches longer than `greatest` are halved at their least hash, which depends on the
//! stretch alone.
//!
//! The hash is that of what comes before the response, and where that is the same, of the whole example: datasets of several answers
//! to the same prompts are cut at the same prompts, and parts that share theirs go through a model together.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Sizes in examples: parts hold at least `least` (but for a dataset smaller than that), at most
/// `greatest`, and about `2 * least` on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartSize {
    pub least: usize,
    pub greatest: usize,
}

impl Default for PartSize {
    fn default() -> Self {
        PartSize { least: 16, greatest: 64 }
    }
}

/// Cuts examples as they come. It holds those of one stretch.
pub struct Cutter<H, T> {
    size: PartSize,
    hashes: Vec<H>,
    stretch: Vec<T>,
}

impl<H: Ord + Copy, T> Cutter<H, T> {
    pub fn new(size: PartSize) -> Cutter<H, T> {
        Cutter { size, hashes: Vec::new(), stretch: Vec::new() }
    }

    /// Takes the next example, with its hash, and gives the parts that are thereby known.
    pub fn push(&mut self, hash: H, item: T) -> Vec<Vec<T>> {
        self.hashes.push(hash);
        self.stretch.push(item);
        // The last place whose whole neighbourhood has come. None lies within `least` of the last cut, whose hash is less.
        let least = self.size.least;
        let Some(at) = self.hashes.len().checked_sub(least).filter(|at| *at >= least) else { return Vec::new() };
        let reach = least - 1;
        let around = &self.hashes[at - reach..];
        if around.iter().enumerate().all(|(i, hash)| i == reach || *hash > self.hashes[at]) {
            return self.take(at);
        }
        Vec::new()
    }

    /// The parts of what is left at the end.
    pub fn finish(mut self) -> Vec<Vec<T>> {
        match self.hashes.len() {
            0 => Vec::new(),
            rest => self.take(rest),
        }
    }

    fn take(&mut self, end: usize) -> Vec<Vec<T>> {
        let mut parts = Vec::new();
        self.size.halve(&self.hashes, 0..end, &mut parts);
        self.hashes.drain(..end);
        let mut items = self.stretch.drain(..end);
        parts.into_iter().map(|part| items.by_ref().take(part.len()).collect()).collect()
    }
}

impl PartSize {
    fn halve<H: Ord + Copy>(&self, hashes: &[H], stretch: Range<usize>, parts: &mut Vec<Range<usize>>) {
        if stretch.len() <= self.greatest {
            parts.push(stretch);
            return;
        }
        let inner = stretch.start + self.least..stretch.end - self.least + 1;
        let at = inner.min_by_key(|&at| hashes[at]).expect("greatest is at least 2 * least");
        self.halve(hashes, stretch.start..at, parts);
        self.halve(hashes, at..stretch.end, parts);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    fn hashes(seed: u64, n: usize) -> Vec<u64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.next_u64()).collect()
    }

    fn parts(size: PartSize, hashes: &[u64]) -> Vec<Vec<u64>> {
        let mut cutter = Cutter::new(size);
        let mut parts: Vec<Vec<u64>> = hashes.iter().flat_map(|hash| cutter.push(*hash, *hash)).collect();
        parts.extend(cutter.finish());
        parts
    }

    impl PartSize {
        /// The rule on all hashes at once.
        fn cut(&self, hashes: &[u64]) -> Vec<Range<usize>> {
            let mut parts = Vec::new();
            let mut start = 0;
            for at in self.least..(hashes.len() + 1).saturating_sub(self.least) {
                let reach = self.least - 1;
                let around = &hashes[at - reach..at + self.least];
                if around.iter().enumerate().all(|(i, hash)| i == reach || *hash > hashes[at]) {
                    self.halve(hashes, start..at, &mut parts);
                    start = at;
                }
            }
            if start < hashes.len() {
                self.halve(hashes, start..hashes.len(), &mut parts);
            }
            parts
        }
    }

    #[test]
    fn parts_are_cut_as_they_come_as_they_are_of_all() {
        for (least, greatest) in [(1, 2), (2, 4), (3, 17), (16, 64)] {
            let size = PartSize { least, greatest };
            for n in (0..150).chain([1000, 3000]) {
                // Small hashes are often alike.
                for hashes in [hashes(n as u64, n), hashes(n as u64, n).iter().map(|hash| hash % 50).collect()] {
                    let whole: Vec<Vec<u64>> =
                        size.cut(&hashes).into_iter().map(|part| hashes[part].to_vec()).collect();
                    assert_eq!(parts(size, &hashes), whole, "{n} examples, {size:?}");
                }
            }
        }
    }

    #[test]
    fn parts_cover_everything_within_their_sizes() {
        let size = PartSize::default();
        let mut sizes = Vec::new();
        for n in (0..200).chain([1000, 5000]) {
            let cut = size.cut(&hashes(n as u64, n));
            let covered: Vec<usize> = cut.iter().cloned().flatten().collect();
            assert_eq!(covered, (0..n).collect::<Vec<_>>());
            for part in &cut {
                assert!(part.len() <= size.greatest && part.len() >= size.least.min(n), "{n} examples: {cut:?}");
            }
            if n >= 1000 {
                sizes.extend(cut.iter().map(|part| part.len()));
            }
        }
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        assert!((26.0..36.0).contains(&mean), "mean part size {mean}");
    }

    #[test]
    fn an_edit_changes_one_part() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let size = PartSize::default();
        let mut changed = [0usize; 8];
        for dataset in 0..60 {
            let before = hashes(100 + dataset, 200 + (dataset as usize * 13) % 700);
            let old: HashSet<Vec<u64>> = parts(size, &before).into_iter().collect();
            for edit in 0..60 {
                let mut after = before.clone();
                let at = (rng.next_u64() % after.len() as u64) as usize;
                match edit % 3 {
                    0 => after.insert(at, rng.next_u64()),
                    1 => drop(after.remove(at)),
                    _ => after[at] = rng.next_u64(),
                }
                let new = parts(size, &after);
                changed[new.iter().filter(|part| !old.contains(*part)).count()] += 1;
            }
        }
        let total: usize = changed.iter().sum();
        // A cut itself is hit by one edit in about 2 * least; three parts need a cut hit beside a halved stretch.
        assert!(changed[1] as f64 > 0.92 * total as f64, "{changed:?}");
        assert!((changed[1] + changed[2]) as f64 > 0.99 * total as f64, "{changed:?}");
        assert_eq!(changed[4..].iter().sum::<usize>(), 0, "{changed:?}");
    }

    #[test]
    fn appending_keeps_all_but_the_last_two_parts() {
        let size = PartSize::default();
        let all = hashes(3, 900);
        for n in 100..800 {
            let (before, after) = (size.cut(&all[..n]), size.cut(&all[..n + 1]));
            let kept = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
            assert!(kept + 2 >= before.len(), "{n}: {before:?} {after:?}");
        }
    }

    #[test]
    fn repeated_hashes_do_not_break_it() {
        let cut = PartSize { least: 2, greatest: 4 }.cut(&[5; 50]);
        assert!(cut.iter().all(|part| (2..=4).contains(&part.len())), "{cut:?}");
        let cut = PartSize { least: 1, greatest: 2 }.cut(&[5; 50]);
        assert!(cut.iter().all(|part| (1..=2).contains(&part.len())), "{cut:?}");
    }
}
