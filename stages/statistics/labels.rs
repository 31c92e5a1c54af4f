//! Group labels permuted so that pairing is respected: an example that occurs in several groups, as one dataset does under
//! two models, exchanges its own labels among them, and the examples that occur in one group are shuffled among themselves.
//! Under the hypothesis that the groups have one distribution both leave the joint distribution as it is.

use std::collections::HashMap;

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
        let blocks = blocks(groups, examples);
        let mut random = Random::new(seed, stream);
        let mut permuted = Labels::with_room(groups, permutations);
        let (mut labels, mut of_block) = (groups.to_vec(), Vec::new());
        for _ in 0..permutations {
            for block in &blocks {
                of_block.clear();
                of_block.extend(block.iter().map(|&row| groups[row]));
                random.shuffle(&mut of_block);
                block.iter().zip(&of_block).for_each(|(&row, &label)| labels[row] = label);
            }
            permuted.push(&labels);
        }
        permuted
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
    fn an_example_in_three_groups_keeps_one_label_of_each() {
        let labels = Labels::permuted(&[0, 1, 2, 2], &["a", "a", "a", "b"], 60, 1, 0);
        for permutation in 0..60 {
            let of_a = |group| labels.rows(permutation, group).iter().filter(|row| **row < 3).count();
            assert!((0..3).all(|group| of_a(group) == 1));
            assert!(labels.rows(permutation, 2).contains(&3));
        }
    }
}
