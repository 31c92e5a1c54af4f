//! Group labels permuted so that pairing is respected: an example that occurs in several groups, as one dataset does under
//! two models, exchanges its own labels among them, and the examples that occur in one group are shuffled among themselves.
//! Under the hypothesis that the groups have one distribution both leave the joint distribution as it is.

use std::collections::HashMap;
use std::ops::Range;

use super::random::Random;

/// The group of every row under each permutation.
pub struct Labels {
    rows: usize,
    /// Row-major [permutations, rows].
    permuted: Vec<u16>,
}

impl Labels {
    /// `permutations` of the rows' `groups`; `examples` are the rows' identities.
    pub fn permuted(groups: &[u16], examples: &[&str], permutations: usize, seed: u64, stream: u64) -> Labels {
        let blocks = blocks(groups, examples);
        let mut random = Random::new(seed, stream);
        let mut permuted = Vec::with_capacity(permutations * groups.len());
        let mut labels = Vec::new();
        for _ in 0..permutations {
            let start = permuted.len();
            permuted.extend_from_slice(groups);
            for block in &blocks {
                labels.clear();
                labels.extend(block.iter().map(|&row| groups[row]));
                random.shuffle(&mut labels);
                block.iter().zip(&labels).for_each(|(&row, &label)| permuted[start + row] = label);
            }
        }
        Labels { rows: groups.len(), permuted }
    }

    /// The labels as they are, alone.
    pub fn observed(groups: &[u16]) -> Labels {
        Labels { rows: groups.len(), permuted: groups.to_vec() }
    }

    /// The number of permutations.
    pub fn len(&self) -> usize {
        self.permuted.len() / self.rows.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.permuted.is_empty()
    }

    /// Row-major [permutations in the range, rows]: 1 for a row that is in the group, 0 for another. So the sums over a
    /// group under all permutations are one product of matrices.
    pub fn weights(&self, permutations: Range<usize>, group: u16) -> Vec<f64> {
        let labels = &self.permuted[permutations.start * self.rows..permutations.end * self.rows];
        labels.iter().map(|&label| f64::from(u8::from(label == group))).collect()
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
        let first = labels.weights(0..400, 0);
        let (mut exchanged, mut mixed) = (0, 0);
        for row in first.chunks_exact(8) {
            assert_eq!((row[0] + row[5], row[1] + row[4], row[2] + row[3] + row[6] + row[7]), (1.0, 1.0, 2.0));
            exchanged += usize::from(row[0] == 0.0);
            mixed += usize::from(row[2] + row[3] == 1.0);
        }
        assert!((150..250).contains(&exchanged), "{exchanged} of 400 at one half");
        assert!((220..310).contains(&mixed), "{mixed} of 400 at two thirds");
        let second = labels.weights(7..9, 1);
        assert!(first[7 * 8..9 * 8].iter().zip(&second).all(|(a, b)| a + b == 1.0));
    }

    #[test]
    fn an_example_in_three_groups_keeps_one_label_of_each() {
        let labels = Labels::permuted(&[0, 1, 2, 2], &["a", "a", "a", "b"], 60, 1, 0);
        for permutation in 0..60 {
            let of = |group| labels.weights(permutation..permutation + 1, group);
            assert!((0..3).all(|group| of(group)[..3].iter().sum::<f64>() == 1.0));
            assert_eq!(of(2)[3], 1.0);
        }
    }
}
