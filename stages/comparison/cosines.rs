//! Cosines of all vectors of some groups of a comparison, raw or centred.

use std::ops::Range;

use rayon::prelude::*;

use crate::comparison::fill::Filled;
use crate::linear_algebra::{norm, products, scale_to_unit};
use crate::states::state_table::States;

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
        Vectors::centred_with(filled, groups, groups, centred, least)
    }

    /// The vectors of the groups `wanted`; where `centred`, without the mean over all vectors of `groups`.
    pub fn centred_with(filled: &Filled, groups: &[usize], wanted: &[usize], centred: bool, least: usize) -> Vectors {
        let chosen = |of: &[usize]| of.iter().map(|&group| &filled.groups[group]).collect::<Vec<_>>();
        let (all, wanted_groups) = (chosen(groups), chosen(wanted));
        let mut starts = vec![0];
        wanted_groups.iter().for_each(|group| starts.push(starts[starts.len() - 1] + group.examples.len()));
        let width = all.first().map_or(1, |group| group.width).max(1);
        let total: f64 = all.iter().flat_map(|group| &group.values).map(|value| value * value).sum();
        let share = |along: f64| if total > 0.0 { along / total } else { 0.0 };
        let mut values: Vec<f64> = Vec::with_capacity(starts[starts.len() - 1] * width);
        wanted_groups.iter().for_each(|group| values.extend_from_slice(&group.values));
        let Some(present) = &filled.present else {
            let mean = mean_of(&all, width);
            let rows: usize = all.iter().map(|group| group.examples.len()).sum();
            let mean_share = share(rows as f64 * mean.iter().map(|value| value * value).sum::<f64>());
            for vector in values.chunks_exact_mut(width) {
                let length = norm(vector);
                if centred {
                    vector.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
                }
                if scale_to_unit(vector) <= LEFT * length {
                    vector.fill(0.0);
                }
            }
            return Vectors { width, starts, values: Values::Complete(values), mean_share };
        };
        let (mut sums, mut counts) = (vec![0.0; width], vec![0.0; width]);
        for &group in groups {
            let rows = filled.groups[group].values.chunks_exact(width).zip(present[group].chunks_exact(width));
            for (row, present) in rows {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                counts.iter_mut().zip(present).for_each(|(count, present)| *count += present);
            }
        }
        let present: Vec<f64> = wanted.iter().flat_map(|&group| present[group].iter().copied()).collect();
        let means: Vec<f64> = sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect();
        let mean_share = share(means.iter().zip(&counts).map(|(mean, count)| mean * mean * count).sum());
        if centred {
            for (row, present) in values.chunks_exact_mut(width).zip(present.chunks_exact(width)) {
                let each = row.iter_mut().zip(present).zip(&means);
                each.for_each(|((value, present), mean)| *value -= present * mean);
            }
        }
        let squares = values.iter().map(|value| value * value).collect();
        let values = Values::Pairwise { values, squares, present, least: least.min(width) as f64 };
        Vectors { width, starts, values, mean_share }
    }

    /// The rows of one of the groups, by its place among those chosen.
    pub fn rows(&self, group: usize) -> Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// The vectors of some of the groups, by their places among those chosen.
    pub fn of_groups(&self, groups: &[usize]) -> Vectors {
        let mut starts = vec![0];
        groups.iter().for_each(|&group| starts.push(starts[starts.len() - 1] + self.rows(group).len()));
        let of = |values: &[f64]| -> Vec<f64> {
            groups.iter().flat_map(|&group| part(values, &self.rows(group), self.width)).copied().collect()
        };
        let values = match &self.values {
            Values::Complete(units) => Values::Complete(of(units)),
            Values::Pairwise { values, squares, present, least } => {
                Values::Pairwise { values: of(values), squares: of(squares), present: of(present), least: *least }
            }
        };
        Vectors { width: self.width, starts, values, mean_share: self.mean_share }
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

fn part<'a>(values: &'a [f64], rows: &Range<usize>, width: usize) -> &'a [f64] {
    &values[rows.start * width..rows.end * width]
}

fn mean_of(groups: &[&States], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    let rows = groups.iter().flat_map(|group| group.values.chunks_exact(width));
    rows.for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value));
    let rows: usize = groups.iter().map(|group| group.values.len() / width).sum();
    mean.iter_mut().for_each(|mean| *mean /= rows.max(1) as f64);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::compared::Fill;
    use crate::comparison::fill::filled;
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
    fn some_groups_alone_have_the_cosines_that_they_have_among_all() {
        for fill in [Fill::Common, Fill::Pairwise] {
            let groups = vec![states(3, 6, |i| 4 + i, 1), states(4, 6, |_| 5, 2), states(2, 6, |i| 4 + i, 3)];
            let filled = filled(groups, fill, 1);
            for centred in [false, true] {
                let all = Vectors::of(&filled, &[0, 1, 2], centred, 1);
                let some = Vectors::centred_with(&filled, &[0, 1, 2], &[2, 0], centred, 1);
                assert_eq!(some.between(some.rows(0), some.rows(1)), all.between(all.rows(2), all.rows(0)));
                assert_eq!(some.mean_share, all.mean_share);
            }
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
