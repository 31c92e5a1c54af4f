//! Some columns of a matrix: the parts of a projection that one weight matrix makes.

use std::ops::Range;

use rayon::prelude::*;

/// The columns of these ranges of `x` [rows, width], beside each other.
pub fn columns(x: &[f32], width: usize, ranges: &[Range<usize>]) -> Vec<f32> {
    let narrow = ranges.iter().map(Range::len).sum::<usize>();
    let mut out = vec![0.0; x.len() / width * narrow];
    out.par_chunks_mut(narrow).zip(x.par_chunks(width)).with_min_len(16).for_each(|(out, x)| {
        let mut rest = out;
        for range in ranges {
            let (part, after) = rest.split_at_mut(range.len());
            part.copy_from_slice(&x[range.clone()]);
            rest = after;
        }
    });
    out
}

/// The reverse: `d`, the gradient at [`columns`], added to the same columns of `dx` [rows, width].
pub fn add_to_columns(d: &[f32], ranges: &[Range<usize>], dx: &mut [f32], width: usize) {
    let narrow = ranges.iter().map(Range::len).sum::<usize>();
    dx.par_chunks_mut(width).zip(d.par_chunks(narrow)).with_min_len(16).for_each(|(dx, d)| {
        let mut rest = d;
        for range in ranges {
            let (part, after) = rest.split_at(range.len());
            dx[range.clone()].iter_mut().zip(part).for_each(|(dx, d)| *dx += d);
            rest = after;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_taken_and_put_back() {
        let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
        let ranges = [3..5, 0..1];
        assert_eq!(columns(&x, 5, &ranges), [3.0, 4.0, 0.0, 8.0, 9.0, 5.0]);
        let mut dx = vec![1.0; 10];
        add_to_columns(&[10.0, 20.0, 30.0, 40.0, 50.0, 60.0], &ranges, &mut dx, 5);
        assert_eq!(dx, [31.0, 1.0, 1.0, 11.0, 21.0, 61.0, 1.0, 1.0, 41.0, 51.0]);
    }
}
