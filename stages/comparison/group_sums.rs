//! Means of cosines within groups and between them, under all permutations of the labels at once.

use std::ops::Range;

use crate::statistics::label_sums::{sums, within};
use crate::statistics::labels::Labels;
use crate::statistics::row_sums::Panels;

/// Means over pairs within a group and between two, of one labelling of the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairMeans {
    pub within_a: f64,
    pub within_b: f64,
    pub between: f64,
}

/// The means for each permutation of two groups (labels 0 and 1). `values` [rows, rows] is symmetric with 0 for each pair
/// that does not count; `counted` has 1 for those that do.
pub fn permuted_means(values: &[f64], counted: &[f64], labels: &Labels, same_counts: bool) -> Vec<PairMeans> {
    let sums = pair_sums(values, labels, 0..labels.len());
    // Where all pairs of a labelling count, or the same are always left out, the numbers of pairs do not change.
    let counts = match same_counts {
        true => pair_sums(counted, labels, 0..labels.len().min(1)),
        false => pair_sums(counted, labels, 0..labels.len()),
    };
    let counts = counts.iter().cycle();
    let mean = |(sums, counts): (&[f64; 3], &[f64; 3])| {
        let [within_a, within_b, between] = std::array::from_fn(|i| sums[i] / counts[i]);
        PairMeans { within_a, within_b, between }
    };
    sums.iter().zip(counts).map(mean).collect()
}

/// Sums over ordered pairs within group 0, within group 1, and over pairs between the two.
fn pair_sums(matrix: &[f64], labels: &Labels, permutations: Range<usize>) -> Vec<[f64; 3]> {
    let rows = matrix.len().isqrt();
    let of_rows: Vec<f64> = matrix.chunks_exact(rows.max(1)).map(|row| row.iter().sum()).collect();
    let total: f64 = of_rows.iter().sum();
    let own = within(&Panels::new(matrix, rows), labels, permutations.clone(), 0..1);
    let of_first = sums(&of_rows, labels, permutations, 0..1);
    own.iter().zip(of_first).map(|(own, all)| [*own, total - 2.0 * all + own, all - own]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn means_are_those_of_the_pairs_one_by_one() {
        let rows = 9;
        let mut random = Random::new(2, 0);
        let (mut values, mut counted) = (vec![0.0; 81], vec![0.0; 81]);
        for i in 0..rows {
            for j in (0..i).filter(|j| (i + j) % 5 != 0) {
                let value = random.normal();
                (values[i * rows + j], values[j * rows + i]) = (value, value);
                (counted[i * rows + j], counted[j * rows + i]) = (1.0, 1.0);
            }
        }
        let groups = [0, 0, 0, 0, 1, 1, 1, 1, 1];
        let names: Vec<String> = (0..rows).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let labels = Labels::permuted(&groups, &names, 300, 5, 0);
        let found = permuted_means(&values, &counted, &labels, false);
        assert_eq!(found.len(), 300);
        for permutation in [0, 1, 127, 128, 299] {
            let first: Vec<f64> =
                (0..rows as u32).map(|row| f64::from(u8::from(labels.rows(permutation, 0).contains(&row)))).collect();
            let sum = |matrix: &[f64], of: &dyn Fn(f64, f64) -> bool| -> f64 {
                let pairs = (0..rows).flat_map(|i| (0..rows).map(move |j| (i, j)));
                pairs.filter(|&(i, j)| of(first[i], first[j])).map(|(i, j)| matrix[i * rows + j]).sum()
            };
            let mean = |of: &dyn Fn(f64, f64) -> bool| sum(&values, of) / sum(&counted, of);
            let PairMeans { within_a, within_b, between } = found[permutation];
            assert!((within_a - mean(&|a, b| a + b == 2.0)).abs() < 1e-12);
            assert!((within_b - mean(&|a, b| a + b == 0.0)).abs() < 1e-12);
            assert!((between - mean(&|a, b| a > b)).abs() < 1e-12);
        }
    }
}
