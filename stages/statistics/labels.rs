//! Group labels permuted so that pairing is respected: an example that occurs in several groups, as one dataset does under
//! two models, exchanges its own labels among them, and the examples that occur in one group are shuffled among themselves.
//! Under the hypothesis that the groups have one distribution both leave the joint distribution as it is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};

use super::random::Random;

/// Which rows are in which group under each permutation. Every permutation leaves the groups their sizes.
pub struct Labels {
    rows: usize,
    /// Row-major [permutations, rows]: the rows of group 0 in ascending order, then those of group 1, and so on.
    grouped: Vec<u32>,
    /// Where each group's rows begin, and the number of all.
    starts: Vec<usize>,
}

impl Labels {
    /// `permutations` of the rows' `groups`, which are numbered from 0; `examples` are the rows' identities.
    pub fn permuted(groups: &[u16], examples: &[&str], permutations: usize, seed: u64, stream: u64) -> Labels {
        Draws::new(groups, examples, seed, stream).next(groups, permutations)
    }

    /// As [`Labels::permuted`], made once for the tasks of a run that permute the same labels: the datasets of a pipeline are compared
    /// under each of its models.
    fn shared(groups: &[u16], examples: &[&str], permutations: usize, seed: u64, stream: u64) -> Arc<Labels> {
        let make = || Arc::new(Labels::permuted(groups, examples, permutations, seed, stream));
        let bytes = size_of::<u32>() * permutations * groups.len();
        let mut hasher = blake3::Hasher::new();
        for number in [permutations as u64, seed, stream, groups.len() as u64] {
            hasher.update(&number.to_le_bytes());
        }
        for group in groups {
            hasher.update(&group.to_le_bytes());
        }
        for example in examples {
            hasher.update(&(example.len() as u64).to_le_bytes()).update(example.as_bytes());
        }
        let labels = match SHARED.lock() {
            Ok(mut shared) => shared.of(hasher.finalize(), bytes),
            Err(_) => return make(),
        };
        // Another task that wants them meanwhile waits for them.
        Arc::clone(labels.get_or_init(make))
    }

    /// The labels as they are, alone.
    pub fn observed(groups: &[u16]) -> Labels {
        let mut observed = Labels::with_room(groups, 1);
        observed.push(groups);
        observed
    }

    fn with_room(groups: &[u16], permutations: usize) -> Labels {
        let count = groups.iter().max().map_or(0, |largest| usize::from(*largest) + 1);
        let mut starts = vec![0; count + 1];
        groups.iter().for_each(|&group| starts[usize::from(group) + 1] += 1);
        (0..count).for_each(|group| starts[group + 1] += starts[group]);
        Labels { rows: groups.len(), grouped: Vec::with_capacity(permutations * groups.len()), starts }
    }

    fn push(&mut self, labels: &[u16]) {
        let first = self.grouped.len();
        self.grouped.resize(first + self.rows, 0);
        let mut next = self.starts.clone();
        for (row, &label) in labels.iter().enumerate() {
            let place = &mut next[usize::from(label)];
            self.grouped[first + *place] = row as u32;
            *place += 1;
        }
    }

    /// The number of permutations.
    pub fn len(&self) -> usize {
        self.grouped.len() / self.rows.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.grouped.is_empty()
    }

    /// The rows of a group under a permutation, in ascending order.
    pub fn rows(&self, permutation: usize, group: u16) -> &[u32] {
        let first = permutation * self.rows;
        &self.grouped[first + self.starts[usize::from(group)]..first + self.starts[usize::from(group) + 1]]
    }
}

/// Where the permutations of some labels are.
struct Draws {
    blocks: Vec<Vec<usize>>,
    random: Random,
}

impl Draws {
    fn new(groups: &[u16], examples: &[&str], seed: u64, stream: u64) -> Draws {
        Draws { blocks: blocks(groups, examples), random: Random::new(seed, stream) }
    }

    /// The next so many.
    fn next(&mut self, groups: &[u16], permutations: usize) -> Labels {
        let mut permuted = Labels::with_room(groups, permutations);
        let (mut labels, mut of_block) = (groups.to_vec(), Vec::new());
        for _ in 0..permutations {
            for block in &self.blocks {
                of_block.clear();
                of_block.extend(block.iter().map(|&row| groups[row]));
                self.random.shuffle(&mut of_block);
                block.iter().zip(&of_block).for_each(|(&row, &label)| labels[row] = label);
            }
            permuted.push(&labels);
        }
        permuted
    }
}

/// Permutations of labels that are gone through more than once, a layer at a time. Few are kept; of many examples they are too many and
/// drawn anew, some at a time.
pub struct Permutations {
    groups: Vec<u16>,
    examples: Vec<String>,
    count: usize,
    seed: u64,
    stream: u64,
    kept: Option<Arc<Labels>>,
}

impl Permutations {
    /// As [`Labels::permuted`].
    pub fn new(groups: Vec<u16>, examples: &[&str], count: usize, seed: u64, stream: u64) -> Permutations {
        let few = size_of::<u32>() * count * groups.len() <= MOST_OF_ONE;
        let kept = few.then(|| Labels::shared(&groups, examples, count, seed, stream));
        let examples = if few { Vec::new() } else { examples.iter().map(|example| example.to_string()).collect() };
        Permutations { groups, examples, count, seed, stream, kept }
    }

    /// What `of` makes of the permutations, in order: it gets some at a time, and gives as many values for each.
    pub fn each<T>(&self, mut of: impl FnMut(&Labels) -> Vec<T>) -> Vec<T> {
        if let Some(labels) = &self.kept {
            return of(labels);
        }
        let at_once = (MOST_OF_ONE / size_of::<u32>() / self.groups.len().max(1)).max(1);
        let examples: Vec<&str> = self.examples.iter().map(String::as_str).collect();
        let mut draws = Draws::new(&self.groups, &examples, self.seed, self.stream);
        let mut found = Vec::new();
        let mut left = self.count;
        while left > 0 {
            let count = at_once.min(left);
            found.extend(of(&draws.next(&self.groups, count)));
            left -= count;
        }
        found
    }
}

/// Bytes of labels that are kept for other tasks, of all and of one.
const MOST: usize = 48 << 20;
const MOST_OF_ONE: usize = MOST / 4;
/// Bytes that the permutations of one set of labels take at most.
pub const LABELS_KEPT: f64 = MOST_OF_ONE as f64;

static SHARED: Mutex<Shared> = Mutex::new(Shared { made: VecDeque::new(), bytes: 0 });

/// Labels by what they were made from, those that were asked for last at the end.
struct Shared {
    made: VecDeque<(blake3::Hash, Arc<OnceLock<Arc<Labels>>>, usize)>,
    bytes: usize,
}

impl Shared {
    fn of(&mut self, from: blake3::Hash, bytes: usize) -> Arc<OnceLock<Arc<Labels>>> {
        let known = self.made.iter().position(|(known, ..)| *known == from).and_then(|at| self.made.remove(at));
        let (_, labels, _) = known.unwrap_or_else(|| {
            self.bytes += bytes;
            while self.bytes > MOST
                && let Some((.., bytes)) = self.made.pop_front()
            {
                self.bytes -= bytes;
            }
            (from, Arc::default(), bytes)
        });
        self.made.push_back((from, Arc::clone(&labels), bytes));
        labels
    }
}

/// Rows among which labels are exchanged: those of one example, and those of all examples that are in one group only.
fn blocks(groups: &[u16], examples: &[&str]) -> Vec<Vec<usize>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut of_example: Vec<Vec<usize>> = Vec::new();
    for (row, example) in examples.iter().enumerate() {
        let place = *places.entry(example).or_insert(of_example.len());
        if place == of_example.len() {
            of_example.push(Vec::new());
        }
        of_example[place].push(row);
    }
    let one_group = |rows: &Vec<usize>| rows.iter().all(|&row| groups[row] == groups[rows[0]]);
    let (single, mut blocks): (Vec<_>, Vec<_>) = of_example.into_iter().partition(one_group);
    let single: Vec<usize> = single.into_iter().flatten().collect();
    if !single.is_empty() {
        blocks.push(single);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_keeps_its_labels_and_the_others_are_shuffled() {
        // a and b occur in both groups, c to f in one.
        let groups = [0, 0, 0, 0, 1, 1, 1, 1];
        let examples = ["a", "b", "c", "d", "b", "a", "e", "f"];
        let labels = Labels::permuted(&groups, &examples, 400, 3, 0);
        assert_eq!(labels.len(), 400);
        let (mut exchanged, mut mixed) = (0, 0);
        for permutation in 0..400 {
            let first = labels.rows(permutation, 0);
            let of = |rows: [u32; 2]| rows.iter().filter(|row| first.contains(row)).count();
            assert_eq!((of([0, 5]), of([1, 4]), of([2, 3]) + of([6, 7])), (1, 1, 2));
            exchanged += usize::from(first.contains(&5));
            mixed += usize::from(of([2, 3]) == 1);
            let mut all = [first, labels.rows(permutation, 1)].concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7], "each row is in one group");
        }
        assert!((150..250).contains(&exchanged), "{exchanged} of 400 at one half");
        assert!((220..310).contains(&mixed), "{mixed} of 400 at two thirds");
        let own = Labels::observed(&groups);
        assert_eq!((own.len(), own.rows(0, 1)), (1, &[4, 5, 6, 7][..]));
    }

    #[test]
    fn labels_that_are_asked_for_again_are_the_same() {
        let of = |seed: u64, examples: &[&str]| Labels::shared(&[0, 0, 1, 1], examples, 50, seed, 0);
        let first = of(3, &["a", "b", "c", "d"]);
        assert!(Arc::ptr_eq(&first, &of(3, &["a", "b", "c", "d"])));
        assert_eq!(first.grouped, Labels::permuted(&[0, 0, 1, 1], &["a", "b", "c", "d"], 50, 3, 0).grouped);
        assert_ne!(first.grouped, of(4, &["a", "b", "c", "d"]).grouped);
        assert_ne!(first.grouped, of(3, &["a", "b", "a", "b"]).grouped);
        // Too many to be kept are drawn again, the same ones.
        let names: Vec<String> = (0..MOST_OF_ONE / 600).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let groups: Vec<u16> = (0..names.len()).map(|row| (row % 2) as u16).collect();
        let many = Permutations::new(groups.clone(), &names, 200, 1, 0);
        let first = |labels: &Labels| (0..labels.len()).map(|at| labels.rows(at, 0)[..9].to_vec()).collect::<Vec<_>>();
        assert!(many.kept.is_none());
        let found = many.each(first);
        assert!(found.len() == 200 && found == first(&Labels::permuted(&groups, &names, 200, 1, 0)));
        let mut shared = Shared { made: VecDeque::new(), bytes: 0 };
        for i in 0..9_u8 {
            shared.of(blake3::hash(&[i]), MOST_OF_ONE);
        }
        assert_eq!((shared.made.len(), shared.bytes), (4, MOST));
    }

    #[test]
    fn an_example_in_three_groups_keeps_one_label_of_each() {
        let labels = Labels::permuted(&[0, 1, 2, 2], &["a", "a", "a", "b"], 60, 1, 0);
        for permutation in 0..60 {
            let of_a = |group| labels.rows(permutation, group).iter().filter(|row| **row < 3).count();
            assert!((0..3).all(|group| of_a(group) == 1));
            assert!(labels.rows(permutation, 2).contains(&3));
        }
    }
}
