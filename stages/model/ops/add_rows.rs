//! Rows that were picked from a matrix, put back in their places.

/// Row i of `x`, times `weights[i]` where there are weights, added to row `rows[i]` of `out`. Rows are named once each.
pub fn add_rows(out: &mut [f32], x: &[f32], rows: &[u32], weights: Option<&[f32]>) {
    let Some(width) = x.len().checked_div(rows.len()) else { return };
    for (i, (row, x)) in rows.iter().zip(x.chunks_exact(width)).enumerate() {
        let out = &mut out[*row as usize * width..(*row as usize + 1) * width];
        match weights {
            Some(weights) => out.iter_mut().zip(x).for_each(|(out, x)| *out += weights[i] * x),
            None => out.iter_mut().zip(x).for_each(|(out, x)| *out += x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_their_places() {
        let mut out = vec![1.0; 6];
        add_rows(&mut out, &[1.0, 2.0, 3.0, 4.0], &[2, 0], Some(&[10.0, 2.0]));
        assert_eq!(out, [7.0, 9.0, 1.0, 1.0, 11.0, 21.0]);
        add_rows(&mut out, &[], &[], None);
        add_rows(&mut out, &[5.0, 6.0], &[1], None);
        assert_eq!(out, [7.0, 9.0, 6.0, 7.0, 11.0, 21.0]);
    }
}
