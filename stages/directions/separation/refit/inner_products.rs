//! Directions of exchanged states by the inner products of the examples' differences: for states of many dimensions. With
//! H the products of all differences and Y = signs H, a direction's product with difference i of its own fold is
//! C_k . delta_i + share (Y_i - what its own fold adds to Y_i), and its square follows from the same sums.

use crate::directions::separation::exchanges::{Exchanges, Fold, ROWS, Sums};
use crate::linear_algebra::{dot, gram, products};

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
    for block in exchanges.signs.chunks(ROWS * examples) {
        let rows = block.len() / examples;
        let (summed, crossed) = (products(block, &all, examples), products(block, &outside, examples));
        let wholes: Vec<f64> =
            block.chunks_exact(examples).zip(summed.chunks_exact(examples)).map(|(signs, y)| dot(signs, y)).collect();
        let mut here = Sums { sums: vec![0.0; rows], squares: vec![0.0; rows] };
        for (k, fold) in folds.iter().enumerate() {
            let (range, n) = (&fold.range, fold.range.len());
            let signs: Vec<f64> =
                block.chunks_exact(examples).flat_map(|row| row[range.clone()].iter().copied()).collect();
            let own = products(&signs, &inside[k], n);
            let along = &along[k * examples..(k + 1) * examples][range.clone()];
            for row in 0..rows {
                let (signs, own) = (&signs[row * n..(row + 1) * n], &own[row * n..(row + 1) * n]);
                let summed = &summed[row * examples..(row + 1) * examples][range.clone()];
                let (mut sum, mut square, mut total, mut within) = (0.0, 0.0, 0.0, 0.0);
                for (((sign, own), summed), along) in signs.iter().zip(own).zip(summed).zip(along) {
                    let projected = along + fold.share * (summed - own);
                    sum += sign * projected;
                    square += projected * projected;
                    total += sign * summed;
                    within += sign * own;
                }
                let length = squares[k]
                    + 2.0 * fold.share * crossed[row * folds.len() + k]
                    + fold.share * fold.share * (wholes[row] - 2.0 * total + within);
                if length > 0.0 {
                    here.sums[row] += sum / length.sqrt();
                    here.squares[row] += square / length;
                }
            }
        }
        found.sums.extend(here.sums);
        found.squares.extend(here.squares);
    }
    found
}
