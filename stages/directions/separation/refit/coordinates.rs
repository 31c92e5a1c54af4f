//! Directions of exchanged states, number by number: for many examples of few dimensions.

use crate::directions::separation::exchanges::{Exchanges, Fold, Sums};
use crate::linear_algebra::{combinations, dot, products};

pub fn sums(exchanges: &Exchanges, deltas: &[f64], width: usize, folds: &[Fold]) -> Sums {
    let examples = exchanges.folds.len();
    let mut found = Sums { sums: Vec::new(), squares: Vec::new() };
    for block in exchanges.blocks() {
        let rows = block.len() / examples;
        let all = combinations(&block, deltas, width);
        let mut here = Sums { sums: vec![0.0; rows], squares: vec![0.0; rows] };
        for fold in folds {
            let signs: Vec<f64> =
                block.chunks_exact(examples).flat_map(|row| row[fold.range.clone()].iter().copied()).collect();
            let own = &deltas[fold.range.start * width..fold.range.end * width];
            // The sums inside the fold, which become the directions.
            let mut directions = combinations(&signs, own, width);
            for (direction, all) in directions.chunks_exact_mut(width).zip(all.chunks_exact(width)) {
                for ((x, all), fixed) in direction.iter_mut().zip(all).zip(&fold.fixed) {
                    *x = fixed + fold.share * (all - *x);
                }
            }
            let projected = products(&directions, own, width);
            let projected = projected.chunks_exact(fold.range.len()).zip(signs.chunks_exact(fold.range.len()));
            for (row, (direction, (projected, signs))) in directions.chunks_exact(width).zip(projected).enumerate() {
                let square = dot(direction, direction);
                if square > 0.0 {
                    here.sums[row] += dot(projected, signs) / square.sqrt();
                    here.squares[row] += dot(projected, projected) / square;
                }
            }
        }
        found.sums.extend(here.sums);
        found.squares.extend(here.squares);
    }
    found
}
