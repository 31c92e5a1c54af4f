//! Means of cosines within groups and between them, under all permutations of the labels at once.

use std::ops::Range;

use crate::linear_algebra::{combinations, dot, products};
use crate::statistics::label_sums::{squared_sums, sums, within};
use crate::statistics::labels::Labels;
use crate::statistics::pair_mean_of_vectors::VectorPairs;
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

/// The same of inner products, from the vectors and without the matrix.
pub fn means_of_vectors(of: &VectorPairs, labels: &Labels) -> Vec<PairMeans> {
    let &VectorPairs { vectors, width, first, partner, same_example } = of;
    let rows = partner.len();
    let row = |row: usize| &vectors[row * width..(row + 1) * width];
    let squares: Vec<f64> = vectors.chunks_exact(width).map(|row| dot(row, row)).collect();
    let left_out = |of: usize| partner[of].filter(|_| !same_example);
    let mut of_rows = products(vectors, &combinations(&vec![1.0; rows], vectors, width), width);
    for (at, (sum, square)) in of_rows.iter_mut().zip(&squares).enumerate() {
        *sum -= square + left_out(at).map_or(0.0, |partner| dot(row(at), row(partner)));
    }
    let total: f64 = of_rows.iter().sum();
    let all = 0..labels.len();
    let own = squared_sums(&Panels::new(vectors, width), labels, all.clone(), 0..1);
    let (lengths, of_first) = (sums(&squares, labels, all.clone(), 0..1), sums(&of_rows, labels, all, 0..1));
    let (n, m, same) = (first, rows - first, (0..first).filter(|&at| left_out(at).is_some()).count());
    let pairs = [n * n.saturating_sub(1), m * m.saturating_sub(1), n * m - same].map(|pairs| pairs as f64);
    let means = own.iter().zip(lengths).zip(of_first).map(|((own, lengths), of_first)| {
        let own = own - lengths;
        let [within_a, within_b, between] = [own, total - 2.0 * of_first + own, of_first - own];
        PairMeans { within_a: within_a / pairs[0], within_b: within_b / pairs[1], between: between / pairs[2] }
    });
    means.collect()
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

    #[test]
    fn means_of_vectors_are_those_of_their_products() {
        let (rows, first, width) = (9, 4, 3);
        let mut random = Random::new(3, 0);
        let vectors: Vec<f64> = (0..rows * width).map(|_| random.normal()).collect();
        let mut partner = vec![None; rows];
        (partner[1], partner[6]) = (Some(6), Some(1));
        let groups: Vec<u16> = (0..rows).map(|row| u16::from(row >= first)).collect();
        let labels = Labels::permuted(&groups, &["a", "b", "c", "d", "e", "f", "b", "g", "h"], 40, 5, 0);
        for same_example in [false, true] {
            let mut values = products(&vectors, &vectors, width);
            let mut counted = vec![1.0; rows * rows];
            for row in 0..rows {
                for other in [Some(row), partner[row].filter(|_| !same_example)].into_iter().flatten() {
                    (values[row * rows + other], counted[row * rows + other]) = (0.0, 0.0);
                }
            }
            let expected = permuted_means(&values, &counted, &labels, true);
            let found = means_of_vectors(
                &VectorPairs { vectors: &vectors, width, first, partner: &partner, same_example },
                &labels,
            );
            assert_eq!(found.len(), 40);
            for (found, expected) in found.iter().zip(&expected) {
                let pairs = [
                    (found.within_a, expected.within_a),
                    (found.within_b, expected.within_b),
                    (found.between, expected.between),
                ];
                pairs.iter().for_each(|(found, expected)| assert!((found - expected).abs() < 1e-12));
            }
        }
    }
}
