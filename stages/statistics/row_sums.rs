//! Sums of chosen rows of a matrix, many choices of the same matrix: what permuted labels need. A product with weights of
//! 0 and 1 does the same and multiplies by them.

use crate::processor::vectorized;

/// Columns that are summed together: few enough to stay in registers.
pub const LANES: usize = 32;

/// A matrix in panels of `LANES` columns, so that a panel's rows stay in the cache from one choice to the next.
pub struct Panels {
    rows: usize,
    /// [panels, rows], with 0 after the last column.
    values: Vec<[f64; LANES]>,
}

impl Panels {
    /// Of a row-major matrix with this many columns.
    pub fn new(matrix: &[f64], columns: usize) -> Panels {
        let rows = matrix.len() / columns.max(1);
        let mut values = vec![[0.0; LANES]; rows * columns.div_ceil(LANES)];
        for (row, of_row) in matrix.chunks_exact(columns.max(1)).enumerate() {
            for (panel, part) in of_row.chunks(LANES).enumerate() {
                values[panel * rows + row][..part.len()].copy_from_slice(part);
            }
        }
        Panels { rows, values }
    }

    /// The first column of each panel, with the panel's rows.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[[f64; LANES]])> {
        self.values.chunks_exact(self.rows.max(1)).enumerate().map(|(panel, rows)| (panel * LANES, rows))
    }
}

vectorized! {
    avx512:
    /// The sum of these rows of a panel. They are added in the order given, so that all instruction sets give the same bits.
    pub fn sum_rows(panel: &[[f64; LANES]], rows: &[u32]) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for &row in rows {
            let row = &panel[row as usize];
            for lane in 0..LANES {
                sums[lane] += row[lane];
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_panels_are_summed() {
        let columns = LANES + 3;
        let matrix: Vec<f64> = (0..4 * columns).map(|i| i as f64).collect();
        let panels = Panels::new(&matrix, columns);
        let mut found = vec![f64::NAN; 2 * LANES];
        for (first, panel) in panels.iter() {
            found[first..first + LANES].copy_from_slice(&sum_rows(panel, &[0, 2, 3]));
        }
        let expected = |column: usize| [0, 2, 3].iter().map(|row| matrix[row * columns + column]).sum::<f64>();
        assert!((0..columns).all(|column| found[column] == expected(column)));
        assert!(found[columns..].iter().all(|value| *value == 0.0), "no column, no sum");
        assert_eq!(Panels::new(&[], 0).iter().count(), 0);
    }
}
