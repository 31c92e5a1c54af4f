//! The test of source or target against another model, along a direction that is found from the same two models' states.
//!
//! If an example's states under models a and b can be exchanged, so can the states that the direction is found from. With
//! delta_i = b_i - a_i, an exchange (sign -1) of example j moves the mean of which fold k's direction is made:
//!
//! m_k(signs) = C_k + moved / n_k * sum over j outside k of sign_j delta_j, and C_k is what no exchange changes.
//!
//! Along directions that stay as they are, the projections of two examples depend on each other through the direction
//! that each helped to find for the other: where there is no difference at all, the variance of their sum is 1.25 times
//! (source against a third model) or twice (source against target) what sign flips give it.

mod coordinates;
mod inner_products;

use std::ops::Range;

use crate::directions::direction_table::{Fitted, Folds};
use crate::directions::resampled::signed_sums;
use crate::directions::separation::exchanges::{Exchanges, Fold, Sums};
use crate::linear_algebra::{combinations, products};

/// Of the mean difference: the direction is computed again for every row of signs. `deltas` is row-major [examples, width],
/// in the order of the folds. An example of a fold without a direction takes part in the directions of the others alone.
pub fn mean_difference(
    exchanges: &Exchanges,
    deltas: &[f64],
    width: usize,
    fitted: &Folds<Fitted>,
    moved: f64,
) -> Sums {
    let (examples, ranges) = (exchanges.folds.len(), exchanges.ranges());
    let sum = |range: &Range<usize>| {
        combinations(&vec![1.0; range.len()], &deltas[range.start * width..range.end * width], width)
    };
    let total = sum(&(0..examples));
    let folds = ranges.into_iter().filter_map(|(fold, range)| {
        let (fitted, inside) = (fitted.get(&fold)?, sum(&range));
        let share = moved / (examples - range.len()) as f64;
        // Between source and target themselves nothing stays.
        let stays = |x: usize| match moved.abs() == 1.0 {
            true => 0.0,
            false => fitted.mean_along * fitted.vector[x] - share * (total[x] - inside[x]),
        };
        Some(Fold { fixed: (0..width).map(stays).collect(), range, share })
    });
    let folds: Vec<Fold> = folds.collect();
    // Products with the examples' inner products take `examples` numbers each, those with their coordinates twice `width`.
    match examples <= 2 * width {
        true => inner_products::sums(exchanges, deltas, width, &folds),
        false => coordinates::sums(exchanges, deltas, width, &folds),
    }
}

/// Of a singular vector: its axis stays, and the mean difference gives it its sign again for every row of signs. The axis
/// comes from the products of differences, which an exchange changes little where there is no difference between the
/// models, and not at all but for the centring between source and target.
pub fn singular_vector(
    exchanges: &Exchanges,
    deltas: &[f64],
    width: usize,
    fitted: &Folds<Fitted>,
    moved: f64,
) -> Sums {
    let examples = exchanges.folds.len();
    let ranges = exchanges.ranges();
    let known: Vec<(&Range<usize>, &Fitted)> =
        ranges.iter().filter_map(|(fold, range)| Some((range, fitted.get(fold)?))).collect();
    let axes: Vec<f64> = known.iter().flat_map(|(_, fitted)| fitted.vector.iter().copied()).collect();
    let along = products(&axes, deltas, width);
    // For each fold the differences of its own examples, then those of the others, 0 elsewhere.
    let mut columns = along.clone();
    for (fold, (range, _)) in known.iter().enumerate() {
        let here = &mut columns[fold * examples..(fold + 1) * examples];
        here[..range.start].fill(0.0);
        here[range.end..].fill(0.0);
    }
    let others: Vec<f64> = along.iter().zip(&columns).map(|(all, inside)| all - inside).collect();
    let squares: f64 = columns.iter().map(|value| value * value).sum();
    let fixed: Vec<(f64, f64)> = known
        .iter()
        .zip(others.chunks_exact(examples.max(1)))
        .map(|((range, fitted), others)| {
            let share = moved / (examples - range.len()) as f64;
            let stays = fitted.mean_along - share * others.iter().sum::<f64>();
            (if moved.abs() == 1.0 { 0.0 } else { stays }, share)
        })
        .collect();
    columns.extend(others);
    let folds = known.len();
    let sums = signed_sums(&exchanges.signs, &columns, examples);
    let of_row = |row: &[f64]| -> f64 {
        let signed = |fold: usize| {
            let (stays, share) = fixed[fold];
            if stays + share * row[folds + fold] < 0.0 { -row[fold] } else { row[fold] }
        };
        (0..folds).map(signed).sum()
    };
    let sums: Vec<f64> = match folds {
        0 => vec![0.0; exchanges.rows()],
        _ => sums.chunks_exact(2 * folds).map(of_row).collect(),
    };
    Sums { squares: vec![squares; sums.len()], sums }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear_algebra::scale_to_unit;
    use crate::statistics::random::Random;

    #[test]
    fn coordinates_and_inner_products_give_the_same_sums() {
        let (examples, width, rows) = (17, 5, 300);
        let mut random = Random::new(6, 0);
        let signs = (0..rows * examples).map(|_| if random.coin() { 1 } else { -1 }).collect();
        let exchanges = Exchanges { signs, folds: (0..examples).map(|i| 1 + i as u32 / 4).collect() };
        let deltas: Vec<f64> = (0..examples * width).map(|_| 0.3 + random.normal()).collect();
        // Fold 3 has no direction.
        let folds: Vec<Fold> = [0..4, 4..8, 12..16, 16..17]
            .map(|range| {
                let mut fixed: Vec<f64> = (0..width).map(|_| random.normal()).collect();
                scale_to_unit(&mut fixed);
                Fold { share: 0.5 / (examples - range.len()) as f64, fixed, range }
            })
            .into();
        let one = coordinates::sums(&exchanges, &deltas, width, &folds);
        let other = inner_products::sums(&exchanges, &deltas, width, &folds);
        assert_eq!((one.sums.len(), other.squares.len()), (rows, rows));
        for (one, other) in one.sums.iter().zip(&other.sums).chain(one.squares.iter().zip(&other.squares)) {
            assert!((one - other).abs() < 1e-10, "{one} {other}");
        }
    }
}
