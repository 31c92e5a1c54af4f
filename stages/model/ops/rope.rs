//! Rotary position embeddings (Su et al. 2021) in Hugging Face's layout: the first half of a head's
//! dimensions is paired with the second half (`rotate_half`), not each with its neighbour.

use std::ops::Range;

use rayon::prelude::*;

use super::vectorized;

/// cos and sin of position * frequency, [positions, head_dim / 2] each.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    half: usize,
}

impl RotaryTable {
    /// For positions 0..positions and one frequency (radians a position) for each pair of dimensions.
    /// The angle is rounded to f32 before its cosine is taken, as transformers does.
    pub fn new(frequencies: &[f32], positions: usize) -> RotaryTable {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| (p as f32 * f) as f64));
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        RotaryTable { cos, sin, half: frequencies.len() }
    }

    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Rotates every head of `x` [tokens, width] by its token's position within its sequence; `inverse` turns
/// back (the transpose, which is what a gradient wants). Columns are heads of 2 * frequencies each.
///
/// # Panics
/// When a sequence is longer than the table.
pub fn rope(x: &mut [f32], width: usize, sequences: &[Range<usize>], table: &RotaryTable, inverse: bool) {
    assert!(width.is_multiple_of(2 * table.half), "rope: {width} columns in heads of {}", 2 * table.half);
    for rows in sequences {
        assert!(rows.len() <= table.positions(), "rope: position {} of {}", rows.len(), table.positions());
        let part = &mut x[rows.start * width..rows.end * width];
        part.par_chunks_mut(width).with_min_len(32).enumerate().for_each(|(position, row)| {
            let (cos, sin) = table.at(position);
            rotate_row(row, cos, sin, if inverse { -1.0 } else { 1.0 });
        });
    }
}

vectorized! {
    /// All heads of one token.
    pub fn rotate_row(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let (x, y, sin) = (*a, *b, sin * sign);
                *a = x * cos - y * sin;
                *b = y * cos + x * sin;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agrees_with_f64_restarts_in_each_sequence_and_turns_back() {
        let (half, heads) = (8, 3);
        let width = 2 * half * heads;
        let frequencies: Vec<f32> = (0..half).map(|i| 10f32.powi(-(i as i32))).collect();
        let table = RotaryTable::new(&frequencies, 64);
        let sequences = [0..40, 40..41, 41..50];
        let x = values(50 * width, 1);
        let mut found = x.clone();
        rope(&mut found, width, &sequences, &table, false);
        let expected = reference(50, width, |row, column| {
            let position = row - sequences.iter().find(|s| s.contains(&row)).unwrap().start;
            let (head, i) = (column / (2 * half) * 2 * half, column % (2 * half));
            let angle = (position as f32 * frequencies[i % half]) as f64;
            let other = if i < half { -x[row * width + head + i + half] } else { x[row * width + head + i - half] };
            x[row * width + column] as f64 * angle.cos() + other as f64 * angle.sin()
        });
        assert!(worst_relative(&found, &expected, 1.0) < 3e-7);
        rope(&mut found, width, &sequences, &table, true);
        assert!(worst_relative(&found, &x.iter().map(|x| *x as f64).collect::<Vec<_>>(), 1.0) < 5e-7);
    }
}
