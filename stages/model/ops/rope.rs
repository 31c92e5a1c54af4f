//! Rotary position embeddings (Su et al. 2021) in Hugging Face's layout: the first half of a head's
//! rotated dimensions is paired with the second half (`rotate_half`), not each with its neighbour.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Spans, vectorized};

/// cos and sin of position * frequency, [positions, frequencies] each.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    /// The width of a head, of which the first 2 * frequencies dimensions are rotated.
    pub head: usize,
    half: usize,
}

impl RotaryTable {
    /// For positions 0..positions and one frequency (radians a position) for each pair of dimensions of a head.
    /// The angle is rounded to f32 before its cosine is taken, as transformers does. Cosines and sines are multiplied
    /// by `factor`.
    pub fn new(frequencies: &[f32], head: usize, factor: f32, positions: usize) -> RotaryTable {
        assert!(2 * frequencies.len() <= head, "{} rotary frequencies in a head of {head}", frequencies.len());
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| (p as f32 * f) as f64));
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32 * factor, angle.sin() as f32 * factor)).unzip();
        RotaryTable { cos, sin, head, half: frequencies.len() }
    }

    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// The number of frequencies.
    pub fn half(&self) -> usize {
        self.half
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Rotates every head of `x` [tokens, width] by its token's position within its sequence, each sequence by its own
/// table; `inverse` is the transpose, which is what a gradient wants: it turns back.
///
/// # Panics
/// When a sequence is longer than its table.
pub fn rope(x: &mut [f32], width: usize, spans: Spans, tables: &[Arc<RotaryTable>], inverse: bool) {
    assert_eq!(spans.rows.len(), tables.len(), "rope: a table for each sequence");
    for (i, (rows, table)) in spans.rows.iter().zip(tables).enumerate() {
        let (first, positions) = (spans.position(i), table.positions());
        assert!(width.is_multiple_of(table.head), "rope: {width} columns in heads of {}", table.head);
        assert!(first + rows.len() <= positions, "rope: position {} of {positions}", first + rows.len());
        let part = &mut x[rows.start * width..rows.end * width];
        part.par_chunks_mut(width).with_min_len(32).enumerate().for_each(|(position, row)| {
            let (cos, sin) = table.at(first + position);
            rotate_row(row, table.head, cos, sin, if inverse { -1.0 } else { 1.0 });
        });
    }
}

vectorized! {
    avx512:
    /// All heads of one token.
    pub fn rotate_row(row: &mut [f32], head: usize, cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(head) {
            let (first, second) = head[..2 * half].split_at_mut(half);
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
        for (half, head, factor) in [(8, 16, 1.0), (3, 16, 1.0), (8, 16, 1.25)] {
            let width = 3 * head;
            let frequencies: Vec<f32> = (0..half).map(|i| 10f32.powi(-(i as i32))).collect();
            let table = Arc::new(RotaryTable::new(&frequencies, head, factor, 64));
            let sequences = [0..40, 40..41, 41..50];
            let tables = vec![table; 3];
            let x = values(50 * width, 1);
            let mut found = x.clone();
            rope(&mut found, width, Spans::whole(&sequences), &tables, false);
            let expected = reference(50, width, |row, column| {
                let position = row - sequences.iter().find(|s| s.contains(&row)).unwrap().start;
                let (first, i) = (row * width + column / head * head, column % head);
                if i >= 2 * half {
                    return x[first + i] as f64;
                }
                let angle = (position as f32 * frequencies[i % half]) as f64;
                let other = if i < half { -x[first + i + half] } else { x[first + i - half] };
                factor as f64 * (x[first + i] as f64 * angle.cos() + other as f64 * angle.sin())
            });
            assert!(worst_relative(&found, &expected, 1.0) < 5e-7);
            rope(&mut found, width, Spans::whole(&sequences), &tables, true);
            let back = |i: usize| if i % head < 2 * half { (factor * factor) as f64 } else { 1.0 };
            let expected: Vec<f64> = x.iter().enumerate().map(|(i, x)| *x as f64 * back(i % width)).collect();
            assert!(worst_relative(&found, &expected, 1.0) < 7e-7);
        }
    }
}
