//! Cosines of all vectors of some groups of a comparison, raw or centred.

use std::ops::Range;

use rayon::prelude::*;

use crate::comparison::fill::Filled;
use crate::linear_algebra::{centre, norm, products, scale_to_unit};

/// Rows whose products with all others a thread computes at a time.
const TILE: usize = 128;

/// A vector whose length falls below this share when it is centred has no direction: what is left is rounding.
const LEFT: f64 = 1e-7;

/// The vectors of some groups, one group after the other, of which cosines are taken.
pub struct Vectors {
    width: usize,
    /// Where each group's rows begin, and the number of all.
    starts: Vec<usize>,
    values: Values,
    /// Of the squared length of the vectors, the share that centring takes or would take: the mean vector's.
    pub mean_share: f64,
}

enum Values {
    /// Unit vectors, row-major; a vector without direction is 0.
    Complete(Vec<f64>),
    /// Vectors with 0 where a number is missing, their squares, and 1 where it is there. Row-major.
    Pairwise { values: Vec<f64>, squares: Vec<f64>, present: Vec<f64>, least: f64 },
}

/// Cosines of every vector with every other.
pub struct Cosines {
    pub rows: usize,
    /// Symmetric, row-major [rows, rows]; 0 on the diagonal and where two vectors have too little in common.
    pub values: Vec<f64>,
    /// 1 where there is a cosine, where not all pairs have one.
    pub known: Option<Vec<f64>>,
}

impl Vectors {
    /// The vectors of the groups of these numbers; where `centred`, without the mean over all of them.
    pub fn of(filled: &Filled, groups: &[usize], centred: bool, least: usize) -> Vectors {
        let chosen = || groups.iter().map(|&group| &filled.groups[group]);
        let mut starts = vec![0];
        chosen().for_each(|group| starts.push(starts[starts.len() - 1] + group.examples.len()));
        let width = chosen().map(|group| group.width).next().unwrap_or(1).max(1);
        let mut values: Vec<f64> = chosen().flat_map(|group| group.values.iter().copied()).collect();
        let total: f64 = values.iter().map(|value| value * value).sum();
        let share = |along: f64| if total > 0.0 { along / total } else { 0.0 };
        let Some(present) = &filled.present else {
            let lengths: Vec<f64> = values.chunks_exact(width).map(norm).collect();
            let mut whole = values;
            let mean = if centred { centre(&mut whole, width) } else { mean_of(&whole, width) };
            let mean_share = share(lengths.len() as f64 * mean.iter().map(|value| value * value).sum::<f64>());
            for (vector, length) in whole.chunks_exact_mut(width).zip(lengths) {
                if scale_to_unit(vector) <= LEFT * length {
                    vector.fill(0.0);
                }
            }
            return Vectors { width, starts, values: Values::Complete(whole), mean_share };
        };
        let present: Vec<f64> = groups.iter().flat_map(|&group| present[group].iter().copied()).collect();
        let (mut sums, mut counts) = (vec![0.0; width], vec![0.0; width]);
        for (i, (value, present)) in values.iter().zip(&present).enumerate() {
            sums[i % width] += value;
            counts[i % width] += present;
        }
        let means: Vec<f64> = sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect();
        let mean_share = share(means.iter().zip(&counts).map(|(mean, count)| mean * mean * count).sum());
        if centred {
            let each = values.iter_mut().zip(&present).enumerate();
            each.for_each(|(i, (value, present))| *value -= present * means[i % width]);
        }
        let squares = values.iter().map(|value| value * value).collect();
        let values = Values::Pairwise { values, squares, present, least: least.min(width) as f64 };
        Vectors { width, starts, values, mean_share }
    }

    /// The rows of one of the groups, by its place among those chosen.
    pub fn rows(&self, group: usize) -> Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// The unit vectors and their width, where all numbers are there. A vector without direction is 0.
    pub fn units(&self) -> Option<(&[f64], usize)> {
        match &self.values {
            Values::Complete(units) => Some((units, self.width)),
            Values::Pairwise { .. } => None,
        }
    }

    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// The cosines [rows of a, rows of b]; NaN where two vectors have too little in common.
    pub fn between(&self, a: Range<usize>, b: Range<usize>) -> Vec<f64> {
        let width = self.width;
        let of = |values: &[f64], other: &[f64]| products(part(values, &a, width), part(other, &b, width), width);
        match &self.values {
            Values::Complete(units) => of(units, units),
            Values::Pairwise { values, squares, present, least } => {
                let (dots, common) = (of(values, values), of(present, present));
                let (of_a, of_b) = (of(squares, present), of(present, squares));
                let lengths = of_a.iter().zip(&of_b).map(|(a, b)| (a * b).sqrt());
                let cosine = |(dot, length): (&f64, f64)| if length > 0.0 { dot / length } else { 0.0 };
                let cosines = dots.iter().zip(lengths).map(cosine);
                cosines.zip(&common).map(|(cosine, common)| if common < least { f64::NAN } else { cosine }).collect()
            }
        }
    }

    pub fn cosines(&self) -> Cosines {
        let rows = self.len();
        let mut values = vec![0.0; rows * rows];
        values.par_chunks_mut((TILE * rows).max(1)).enumerate().for_each(|(tile, into)| {
            let first = tile * TILE;
            let found = self.between(first..first + into.len() / rows, first..rows);
            for (into, found) in into.chunks_exact_mut(rows).zip(found.chunks_exact(rows - first)) {
                into[first..].copy_from_slice(found);
            }
        });
        for i in 0..rows {
            values[i * rows + i] = 0.0;
            for j in 0..i {
                values[i * rows + j] = values[j * rows + i];
            }
        }
        let mut known = None;
        if values.iter().any(|value| value.is_nan()) {
            let flag = |(i, value): (usize, &f64)| f64::from(u8::from(!value.is_nan() && i % (rows + 1) != 0));
            known = Some(values.iter().enumerate().map(flag).collect());
            values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = 0.0);
        }
        Cosines { rows, values, known }
    }
}

impl Cosines {
    /// The same among the rows of two ranges that follow each other.
    pub fn among(&self, a: Range<usize>, b: Range<usize>) -> Cosines {
        let chosen: Vec<usize> = a.chain(b).collect();
        let pick = |matrix: &[f64]| -> Vec<f64> {
            chosen.iter().flat_map(|&i| chosen.iter().map(move |&j| i * self.rows + j)).map(|at| matrix[at]).collect()
        };
        Cosines { rows: chosen.len(), values: pick(&self.values), known: self.known.as_deref().map(pick) }
    }
}

fn part<'a>(values: &'a [f64], rows: &Range<usize>, width: usize) -> &'a [f64] {
    &values[rows.start * width..rows.end * width]
}

fn mean_of(values: &[f64], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    values.chunks_exact(width).for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value));
    let rows = (values.len() / width).max(1) as f64;
    mean.iter_mut().for_each(|mean| *mean /= rows);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::compared::Fill;
    use crate::comparison::fill::filled;
    use crate::states::state_table::States;
    use crate::statistics::random::Random;

    fn states(rows: usize, width: usize, lengths: impl Fn(usize) -> usize, seed: u64) -> States {
        let mut random = Random::new(seed, 0);
        let value = |i: usize, x: f64| if i % width < lengths(i / width) { 1.0 + x } else { f64::NAN };
        States {
            examples: (0..rows).map(|i| i.to_string()).collect(),
            width,
            values: (0..rows * width).map(|i| value(i, random.normal())).collect(),
        }
    }

    #[test]
    fn pairwise_cosines_are_over_what_both_have() {
        let groups = vec![states(3, 6, |i| 3 + i, 1), states(2, 6, |i| 2 + 4 * i, 2)];
        let all: Vec<f64> = groups.iter().flat_map(|group| group.values.clone()).collect();
        let filled = filled(groups, Fill::Pairwise, 1);
        for centred in [false, true] {
            let found = Vectors::of(&filled, &[0, 1], centred, 3).cosines();
            let mean = |c: usize| {
                let column = || (0..5).map(|i| all[i * 6 + c]).filter(|value| !value.is_nan());
                column().sum::<f64>() / column().count() as f64
            };
            for (i, j) in [(0, 1), (1, 2), (2, 4), (0, 4)] {
                let both = (0..6).filter(|c| !all[i * 6 + c].is_nan() && !all[j * 6 + c].is_nan());
                let values: Vec<[f64; 2]> =
                    both.map(|c| [i, j].map(|row| all[row * 6 + c] - if centred { mean(c) } else { 0.0 })).collect();
                let sum = |a: usize, b: usize| values.iter().map(|value| value[a] * value[b]).sum::<f64>();
                let expected = sum(0, 1) / (sum(0, 0) * sum(1, 1)).sqrt();
                assert!((found.values[i * 5 + j] - expected).abs() < 1e-12);
            }
            // Row 3 has two numbers, which is less than three.
            let known = found.known.unwrap();
            assert_eq!((known[3], known[3 * 5 + 4], known[1], known[0]), (0.0, 0.0, 1.0, 0.0));
        }
    }

    #[test]
    fn tiles_make_one_symmetric_matrix() {
        let filled = filled(vec![states(300, 3, |_| 3, 5)], Fill::Common, 1);
        let vectors = Vectors::of(&filled, &[0], true, 1);
        let found = vectors.cosines();
        for (i, j) in [(0, 299), (129, 3), (128, 127), (299, 130)] {
            let expected = vectors.between(i..i + 1, j..j + 1)[0];
            assert!((found.values[i * 300 + j] - expected).abs() < 1e-15);
        }
        assert_eq!(found.values[301 * 7], 0.0);
    }

    #[test]
    fn equal_vectors_have_no_direction_when_centred() {
        let equal = States { examples: vec!["a".into(), "b".into()], width: 2, values: vec![0.1, 0.7, 0.1, 0.7] };
        let filled = filled(vec![equal], Fill::Common, 1);
        let vectors = Vectors::of(&filled, &[0], true, 1);
        assert_eq!(vectors.cosines().values, [0.0; 4]);
        assert!((vectors.mean_share - 1.0).abs() < 1e-12);
    }
}
