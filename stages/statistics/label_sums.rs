//! Sums over the rows of each group under all permutations of the labels.

use std::ops::Range;

use rayon::prelude::*;

use super::labels::Labels;
use super::row_sums::{LANES, PanelRow, Panels, add_rows};

/// Permutations that a thread takes together, each panel of the matrix once for all of them.
const BLOCK: usize = 64;
/// Rows of a panel that all these permutations add before the next ones: 32 KiB, which the nearest cache holds.
const ROWS: usize = 64;

/// Sums of a symmetric matrix over all ordered pairs of rows within a group, row-major [permutations, groups].
pub fn within(matrix: &Panels, labels: &Labels, permutations: Range<usize>, groups: Range<u16>) -> Vec<f64> {
    of_groups(matrix, labels, permutations, groups, |first, rows, sums| {
        let start = rows.partition_point(|&row| (row as usize) < first);
        let own = rows[start..].iter().map(|&row| row as usize - first).take_while(|column| *column < LANES);
        own.map(|column| sums[column]).sum()
    })
}

/// Squared lengths of the sums of the groups' vectors, row-major [permutations, groups].
pub fn squared_sums(vectors: &Panels, labels: &Labels, permutations: Range<usize>, groups: Range<u16>) -> Vec<f64> {
    of_groups(vectors, labels, permutations, groups, |_, _, sums| sums.iter().map(|sum| sum * sum).sum())
}

/// Sums of one number for each row, row-major [permutations, groups].
pub fn sums(values: &[f64], labels: &Labels, permutations: Range<usize>, groups: Range<u16>) -> Vec<f64> {
    let of = |(permutation, group)| labels.rows(permutation, group).iter().map(|&row| values[row as usize]).sum();
    permutations.flat_map(|permutation| groups.clone().map(move |group| (permutation, group))).map(of).collect()
}

/// For each permutation and group, what `part` makes of the panels, added up: it gets the first of `LANES` columns, the
/// group's rows in ascending order and their sum.
fn of_groups(
    matrix: &Panels,
    labels: &Labels,
    permutations: Range<usize>,
    groups: Range<u16>,
    part: impl Fn(usize, &[u32], &[f64]) -> f64 + Sync,
) -> Vec<f64> {
    let mut found = vec![0.0; permutations.len() * groups.len()];
    let chosen = |at: usize| {
        let (permutation, group) = (permutations.start + at / groups.len(), at % groups.len());
        labels.rows(permutation, groups.start + group as u16)
    };
    let block = (BLOCK * groups.len()).max(1);
    found.par_chunks_mut(block).enumerate().for_each(|(i, found)| {
        let mut sums = vec![(0, PanelRow::ZERO); found.len()];
        for (first, panel) in matrix.iter() {
            sums.fill((0, PanelRow::ZERO));
            for end in (0..panel.len()).step_by(ROWS).map(|start| (start + ROWS) as u32) {
                for (at, (added, sum)) in sums.iter_mut().enumerate() {
                    *added += add_rows(panel, &chosen(i * block + at)[*added..], end, sum);
                }
            }
            for (at, (found, (added, sum))) in found.iter_mut().zip(&sums).enumerate() {
                let rows = chosen(i * block + at);
                assert_eq!(*added, rows.len(), "a group's rows ascend");
                for (half, sum) in sum.halves().enumerate() {
                    *found += part(first + half * LANES, rows, sum);
                }
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn sums_are_those_of_the_rows_one_by_one() {
        // More rows than a panel has columns and than are added at a time, more permutations than a block.
        let (rows, width) = (4 * LANES + 9, 5);
        let mut random = Random::new(2, 0);
        let vectors: Vec<f64> = (0..rows * width).map(|_| random.normal()).collect();
        let vector = |row: usize| &vectors[row * width..(row + 1) * width];
        let pairs = (0..rows).flat_map(|i| (0..rows).map(move |j| (i, j)));
        let gram: Vec<f64> = pairs.map(|(i, j)| vector(i).iter().zip(vector(j)).map(|(a, b)| a * b).sum()).collect();
        let groups: Vec<u16> = (0..rows).map(|row| (row % 7 / 3) as u16).collect();
        let names: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let labels = Labels::permuted(&groups, &names, 150, 5, 0);
        let of_pairs = within(&Panels::new(&gram, rows), &labels, 0..150, 0..3);
        let of_vectors = squared_sums(&Panels::new(&vectors, width), &labels, 20..150, 1..3);
        let lengths = sums(&vectors[..rows], &labels, 0..150, 1..2);
        assert_eq!((of_pairs.len(), of_vectors.len(), lengths.len()), (450, 260, 150));
        for permutation in [0, 20, 63, 64, 149] {
            for group in 0..3_u16 {
                let chosen = labels.rows(permutation, group);
                let cells = chosen.iter().flat_map(|i| chosen.iter().map(move |j| (*i as usize, *j as usize)));
                let sum: f64 = cells.map(|(i, j)| gram[i * rows + j]).sum();
                assert!((of_pairs[3 * permutation + usize::from(group)] - sum).abs() < 1e-9);
                if permutation >= 20 && group > 0 {
                    let found = of_vectors[2 * (permutation - 20) + usize::from(group) - 1];
                    assert!((found - sum).abs() < 1e-9, "{found} {sum}");
                }
            }
            let sum: f64 = labels.rows(permutation, 1).iter().map(|&row| vectors[row as usize]).sum();
            assert!((lengths[permutation] - sum).abs() < 1e-12);
        }
    }
}
