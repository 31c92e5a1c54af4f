//! Sums of chosen rows of a matrix, many choices of the same matrix: what permuted labels need. A product with weights of
//! 0 and 1 does the same and multiplies by them.

use crate::processor::vectorized;

/// Columns of half a panel.
pub const LANES: usize = 32;
/// Numbers that an instruction adds, where it adds as many as it can.
const VECTOR: usize = 8;

/// A row of a panel, or a sum of such rows: two times `LANES` columns, as many as registers hold while others are added.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct PanelRow([[f64; VECTOR]; 2 * LANES / VECTOR]);

impl PanelRow {
    pub const ZERO: PanelRow = PanelRow([[0.0; VECTOR]; 2 * LANES / VECTOR]);

    /// Its halves, `LANES` columns each.
    pub fn halves(&self) -> impl Iterator<Item = &[f64]> {
        self.0.as_flattened().chunks_exact(LANES)
    }
}

/// A matrix in panels of some columns, so that a panel's rows stay in the cache from one choice to the next.
pub struct Panels {
    rows: usize,
    /// [panels, rows], with 0 after the last column.
    values: Vec<PanelRow>,
}

impl Panels {
    /// Of a row-major matrix with this many columns.
    pub fn new(matrix: &[f64], columns: usize) -> Panels {
        let rows = matrix.len() / columns.max(1);
        let mut values = vec![PanelRow::ZERO; rows * columns.div_ceil(2 * LANES)];
        for (row, of_row) in matrix.chunks_exact(columns.max(1)).enumerate() {
            for (panel, part) in of_row.chunks(2 * LANES).enumerate() {
                values[panel * rows + row].0.as_flattened_mut()[..part.len()].copy_from_slice(part);
            }
        }
        Panels { rows, values }
    }

    /// The first column of each panel, with the panel's rows.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[PanelRow])> {
        self.values.chunks_exact(self.rows.max(1)).enumerate().map(|(panel, rows)| (panel * 2 * LANES, rows))
    }
}

vectorized! {
    avx512:
    /// Adds these rows of a panel, ascending, to `sum` as long as they are below `end`; returns how many those were. They
    /// are added in the order given, so that all instruction sets give the same bits.
    pub fn add_rows(panel: &[PanelRow], rows: &[u32], end: u32, sum: &mut PanelRow) -> usize {
        let mut sums = sum.0;
        let mut added = 0;
        for &row in rows {
            if row >= end {
                break;
            }
            let row = &panel[row as usize].0;
            for part in 0..sums.len() {
                for lane in 0..VECTOR {
                    sums[part][lane] += row[part][lane];
                }
            }
            added += 1;
        }
        sum.0 = sums;
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_panels_are_summed() {
        let columns = 2 * LANES + 3;
        let matrix: Vec<f64> = (0..4 * columns).map(|i| i as f64).collect();
        let panels = Panels::new(&matrix, columns);
        let mut found = vec![f64::NAN; 4 * LANES];
        for (first, panel) in panels.iter() {
            let mut sum = PanelRow::ZERO;
            // In two steps, the first of which ends before the row at which it stops.
            assert_eq!(add_rows(panel, &[0, 2, 3], 2, &mut sum), 1);
            assert_eq!(add_rows(panel, &[2, 3], 4, &mut sum), 2);
            found[first..first + 2 * LANES].copy_from_slice(&sum.halves().collect::<Vec<_>>().concat());
        }
        let expected = |column: usize| [0, 2, 3].iter().map(|row| matrix[row * columns + column]).sum::<f64>();
        assert!((0..columns).all(|column| found[column] == expected(column)));
        assert!(found[columns..].iter().all(|value| *value == 0.0), "no column, no sum");
        assert_eq!(Panels::new(&[], 0).iter().count(), 0);
    }
}
