//! The numbers of a box plot (Tukey): the box holds the middle half, and the whiskers reach the furthest values within
//! 1.5 of its height.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};

use super::moments::quantile;
use crate::table::{Column, Kind, column};

/// The columns of [`arrays`], in their order.
pub const BOX_COLUMNS: [Column; 7] = [
    column("min", Kind::F64, "the least value"),
    column("whisker_low", Kind::F64, "the least value within 1.5 (q3 - q1) of q1"),
    column("q1", Kind::F64, "first quartile, between order statistics (Hyndman and Fan's type 7)"),
    column("median", Kind::F64, "median"),
    column("q3", Kind::F64, "third quartile"),
    column("whisker_high", Kind::F64, "the greatest value within 1.5 (q3 - q1) of q3"),
    column("max", Kind::F64, "the greatest value"),
];

/// The numbers of [`BOX_COLUMNS`] for the finite ones of some values; `None` where there are none.
pub fn box_plot(values: &[f64]) -> Option<[f64; 7]> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let [q1, median, q3] = [0.25, 0.5, 0.75].map(|probability| quantile(&sorted, probability));
    let reach = 1.5 * (q3 - q1);
    let inside = |value: &&f64| **value >= q1 - reach && **value <= q3 + reach;
    let low = sorted.iter().find(inside).copied().unwrap_or(q1);
    let high = sorted.iter().rev().find(inside).copied().unwrap_or(q3);
    Some([min, low, q1, median, q3, high, max])
}

/// An array for each of [`BOX_COLUMNS`] with a row for each group of values; null where a group has none.
pub fn arrays<'a>(groups: impl IntoIterator<Item = &'a [f64]>) -> [ArrayRef; 7] {
    let plots: Vec<Option<[f64; 7]>> = groups.into_iter().map(box_plot).collect();
    std::array::from_fn(|i| {
        let column: Float64Array = plots.iter().map(|plot| plot.map(|plot| plot[i])).collect();
        Arc::new(column) as ArrayRef
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_as_numpy_has_them() {
        // numpy.percentile([1, 2, 3, 4, 100], [25, 50, 75]) = [2, 3, 4]; the whisker ends at 4 + 1.5 * 2 = 7.
        let plot = box_plot(&[100.0, 3.0, 1.0, f64::NAN, 4.0, 2.0]).unwrap();
        assert_eq!(plot, [1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 100.0]);
        // numpy.percentile([1, 2, 3, 4], [25, 50, 75]) = [1.75, 2.5, 3.25]
        assert_eq!(box_plot(&[1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 1.0, 1.75, 2.5, 3.25, 4.0, 4.0]);
        assert_eq!(box_plot(&[f64::NAN]), None);
    }
}
