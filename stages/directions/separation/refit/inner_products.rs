//! Directions of exchanged states by the inner products of the examples' differences: for states of many dimensions. With
//! H the products of all differences and Y = signs H, a direction's product with difference i of its own fold is
//! C_k . delta_i + share (Y_i - what its own fold adds to Y_i), and its square follows from the same sums.

use crate::directions::separation::exchanges::{Exchanges, Fold, Sums};
use crate::linear_algebra::{combinations, dot, gram, products, transpose};
use crate::processor::vectorized;

pub fn sums(exchanges: &Exchanges, deltas: &[f64], width: usize, folds: &[Fold]) -> Sums {
    let examples = exchanges.folds.len();
    let all = gram(deltas, width);
    let fixed: Vec<f64> = folds.iter().flat_map(|fold| fold.fixed.iter().copied()).collect();
    // C_k . delta_j, row-major [folds, examples], and the same without the fold's own examples.
    let along = products(&fixed, deltas, width);
    let mut outside = along.clone();
    for (fold, row) in folds.iter().zip(outside.chunks_exact_mut(examples)) {
        row[fold.range.clone()].fill(0.0);
    }
    let inside: Vec<Vec<f64>> = folds
        .iter()
        .map(|fold| {
            let row = |row: usize| all[row * examples..(row + 1) * examples][fold.range.clone()].iter().copied();
            fold.range.clone().flat_map(row).collect()
        })
        .collect();
    let squares: Vec<f64> = folds.iter().map(|fold| dot(&fold.fixed, &fold.fixed)).collect();
    let mut found = Sums { sums: Vec::new(), squares: Vec::new() };
    for block in exchanges.blocks() {
        // What follows is [., rows of signs], so that sums over examples are sums of rows.
        let rows = block.len() / examples;
        let signs = transpose(&block, examples);
        let (summed, crossed) = (products(&all, &block, examples), products(&outside, &block, examples));
        let mut wholes = vec![0.0; rows];
        for (signs, summed) in signs.chunks_exact(rows).zip(summed.chunks_exact(rows)) {
            wholes.iter_mut().zip(signs).zip(summed).for_each(|((whole, sign), summed)| *whole += sign * summed);
        }
        let mut here = Sums { sums: vec![0.0; rows], squares: vec![0.0; rows] };
        for (k, fold) in folds.iter().enumerate() {
            let part = fold.range.start * rows..fold.range.end * rows;
            let own = combinations(&inside[k], &signs[part.clone()], rows);
            let mut fold_sums = FoldSums::new(rows);
            let examples = signs[part.clone()].chunks_exact(rows).zip(summed[part].chunks_exact(rows));
            let along = along[k * exchanges.folds.len()..][fold.range.clone()].iter();
            for (((signs, summed), own), along) in examples.zip(own.chunks_exact(rows)).zip(along) {
                fold_sums.add(*along, fold.share, signs, summed, own);
            }
            let FoldSums { sum, square, total, within } = fold_sums;
            for row in 0..rows {
                let length = squares[k]
                    + 2.0 * fold.share * crossed[k * rows + row]
                    + fold.share * fold.share * (wholes[row] - 2.0 * total[row] + within[row]);
                if length > 0.0 {
                    here.sums[row] += sum[row] / length.sqrt();
                    here.squares[row] += square[row] / length;
                }
            }
        }
        found.sums.extend(here.sums);
        found.squares.extend(here.squares);
    }
    found
}

/// Sums over a fold's examples, one of each for every row of signs.
struct FoldSums {
    /// Of the projected differences with their signs, before the direction is scaled to length 1.
    sum: Vec<f64>,
    /// Of their squares.
    square: Vec<f64>,
    /// sign_i Y_i
    total: Vec<f64>,
    /// The fold's own share of that.
    within: Vec<f64>,
}

impl FoldSums {
    fn new(rows: usize) -> FoldSums {
        let zeros = || vec![0.0; rows];
        FoldSums { sum: zeros(), square: zeros(), total: zeros(), within: zeros() }
    }

    /// Adds one example, for every row of signs.
    fn add(&mut self, along: f64, share: f64, signs: &[f64], summed: &[f64], own: &[f64]) {
        add(along, share, [signs, summed, own], [&mut self.sum, &mut self.square, &mut self.total, &mut self.within]);
    }
}

vectorized! {
    avx512:
    fn add(along: f64, share: f64, given: [&[f64]; 3], sums: [&mut [f64]; 4]) {
        let ([signs, summed, own], [sum, square, total, within]) = (given, sums);
        let rows = signs.len();
        let (summed, own) = (&summed[..rows], &own[..rows]);
        let (sum, square) = (&mut sum[..rows], &mut square[..rows]);
        let (total, within) = (&mut total[..rows], &mut within[..rows]);
        for row in 0..rows {
            let projected = along + share * (summed[row] - own[row]);
            sum[row] += signs[row] * projected;
            square[row] += projected * projected;
            total[row] += signs[row] * summed[row];
            within[row] += signs[row] * own[row];
        }
    }
}
