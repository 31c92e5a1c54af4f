//! Which numbers of a table moved beyond their intervals.
//!
//! A table with intervals declares it: a column `P_low` whose description speaks of an interval or a band, with `P_high` beside it. Its
//! number is the column `P`, or one that ends with `_P`; of `ci_low` the nearest number before it that is no standard deviation.

use std::collections::HashMap;

use anyhow::Result;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use strata_stages::table::{Column, Kind, Table};

/// A number's column and those of its interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub value: &'static str,
    pub low: &'static str,
    pub high: &'static str,
}

/// A number that lies outside of the other's interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The names and values that tell its row from the others.
    pub row: Vec<(String, String)>,
    pub column: &'static str,
    pub before: Interval,
    pub now: Interval,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// What two tables have in common and what moved.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Numbers that both have with an interval.
    pub compared: usize,
    pub moved: Vec<Moved>,
    /// Rows that only one of them has.
    pub only_before: usize,
    pub only_now: usize,
}

/// The numbers of a table that have an interval.
pub fn estimates(table: &Table) -> Vec<Estimate> {
    let columns = table.columns;
    let mut found = Vec::new();
    for (place, low) in columns.iter().enumerate() {
        let Some(stem) = low.name.strip_suffix("_low") else { continue };
        let says = ["interval", "band"].iter().any(|word| low.about.contains(word));
        let Some(high) = columns.iter().find(|high| high.name.strip_suffix("_high") == Some(stem)) else { continue };
        if !says {
            continue;
        }
        let is_number = |column: &&Column| matches!(column.kind, Kind::F32 | Kind::F64);
        let named = |column: &&Column| {
            column.name == stem || column.name.strip_suffix(stem).is_some_and(|before| before.ends_with('_'))
        };
        let spread = |column: &&Column| column.about.starts_with("standard deviation");
        let before = columns[..place].iter().rev().filter(is_number);
        let value = before.clone().find(named).or_else(|| before.clone().find(|column| !spread(column)));
        found.extend(value.map(|value| Estimate { value: value.name, low: low.name, high: high.name }));
    }
    found
}

/// The columns that tell rows apart: words, and numbers that count nothing.
fn keys(table: &Table) -> Vec<&'static str> {
    let counts =
        |about: &str| ["number", "how many", "pairs", "examples of"].iter().any(|word| about.starts_with(word));
    let is_key = |column: &&Column| match column.kind {
        Kind::Text | Kind::Bool => true,
        Kind::U32 => !counts(column.about),
        _ => false,
    };
    table.columns.iter().filter(is_key).map(|column| column.name).collect()
}

/// Compares the rows that two tables have in common.
///
/// # Errors
/// When a table lacks a column.
pub fn compare(table: &Table, before: &RecordBatch, now: &RecordBatch) -> Result<Numbers> {
    let keys = keys(table);
    let (old, new) = (rows(before, &keys)?, rows(now, &keys)?);
    let places: HashMap<&Vec<String>, usize> = old.iter().enumerate().map(|(place, row)| (row, place)).collect();
    let mut numbers = Numbers { only_before: old.len(), ..Numbers::default() };
    for estimate in estimates(table) {
        let (old_values, new_values) = (Interval::column(before, estimate)?, Interval::column(now, estimate)?);
        for (place, row) in new.iter().enumerate() {
            let (Some(then), Some(now)) = (places.get(row).and_then(|place| old_values[*place]), new_values[place])
            else {
                continue;
            };
            numbers.compared += 1;
            if !then.holds(now.value) || !now.holds(then.value) {
                let telling = keys.iter().zip(row).filter(|(_, value)| !value.is_empty());
                let row = telling.map(|(key, value)| (key.to_string(), value.clone())).collect();
                numbers.moved.push(Moved { row, column: estimate.value, before: then, now });
            }
        }
    }
    let common = new.iter().filter(|row| places.contains_key(row)).count();
    numbers.only_now = new.len() - common;
    numbers.only_before -= common.min(numbers.only_before);
    Ok(numbers)
}

/// The key columns of each row; where several rows have the same, their place among these too.
fn rows(batch: &RecordBatch, keys: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut taken: HashMap<Vec<String>, usize> = HashMap::new();
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let mut values = Vec::with_capacity(keys.len() + 1);
        for key in keys {
            let column = batch.column_by_name(key).ok_or_else(|| anyhow::anyhow!("no column \"{key}\""))?;
            values.push(if column.is_null(row) { String::new() } else { array_value_to_string(column, row)? });
        }
        let copies = taken.entry(values.clone()).or_default();
        if *copies > 0 {
            values.push(format!("#{copies}"));
        }
        *copies += 1;
        rows.push(values);
    }
    Ok(rows)
}

impl Interval {
    /// Whether a number lies within, up to rounding.
    fn holds(&self, value: f64) -> bool {
        let slack = 1e-9 * (self.low.abs().max(self.high.abs()));
        (self.low - slack..=self.high + slack).contains(&value)
    }

    fn column(batch: &RecordBatch, estimate: Estimate) -> Result<Vec<Option<Interval>>> {
        let values = |name: &str| -> Result<Vec<Option<f64>>> {
            let column = batch.column_by_name(name).ok_or_else(|| anyhow::anyhow!("no column \"{name}\""))?;
            let column = arrow::compute::cast(column, &DataType::Float64)?;
            Ok(column
                .as_primitive::<Float64Type>()
                .iter()
                .map(|value| value.filter(|value| value.is_finite()))
                .collect())
        };
        let (value, low, high) = (values(estimate.value)?, values(estimate.low)?, values(estimate.high)?);
        let one = |((value, low), high): ((&Option<f64>, &Option<f64>), &Option<f64>)| {
            Some(Interval { value: (*value)?, low: (*low)?, high: (*high)? })
        };
        Ok(value.iter().zip(&low).zip(&high).map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray, UInt32Array};
    use strata_stages::STAGES;
    use strata_stages::table::column;

    const TABLE: Table = Table {
        name: "summary",
        folders: &[],
        columns: &[
            column("layer", Kind::U32, "the layer"),
            column("kind", Kind::Text, "the kind"),
            column("n", Kind::U32, "number of examples"),
            column("mean", Kind::F64, "the mean"),
            column("std", Kind::F64, "standard deviation over the examples"),
            column("ci_low", Kind::F64, "lower end of the interval"),
            column("ci_high", Kind::F64, "upper end of the interval"),
            column("null_low", Kind::F64, "5 % quantile of the null"),
            column("null_high", Kind::F64, "95 % quantile of the null"),
        ],
    };

    fn batch(rows: &[(u32, &str, u32, [f64; 3])]) -> RecordBatch {
        let number = |of: fn(&[f64; 3]) -> f64| -> Arc<dyn Array> {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| of(&row.3))))
        };
        TABLE
            .batch(vec![
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.0))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.2))),
                number(|[mean, ..]| *mean),
                number(|_| 1.0),
                number(|[_, low, _]| *low),
                number(|[.., high]| *high),
                number(|_| 0.0),
                number(|_| 0.0),
            ])
            .expect("a table")
    }

    #[test]
    fn every_interval_that_a_table_declares_has_its_number() {
        let of = |name: &str| {
            let table = STAGES.iter().filter_map(|stage| stage.table()).find(|table| table.name == name);
            estimates(&table.expect("a table")).into_iter().map(|found| found.value).collect::<Vec<_>>()
        };
        assert_eq!(estimates(&TABLE), [Estimate { value: "mean", low: "ci_low", high: "ci_high" }]);
        assert_eq!(of("loss_difference"), ["difference"]);
        assert_eq!(of("separation"), ["difference", "score"]);
        assert_eq!(of("patching_summary"), ["mean", "effect", "effect_per_change"]);
        assert_eq!(of("distance"), ["cosine_distance"]);
        assert_eq!(of("mean_similarity"), ["cosine"]);
        assert_eq!(of("tokens"), [""; 0]);
        for table in STAGES.iter().filter_map(|stage| stage.table()) {
            assert_eq!(
                estimates(&table).is_empty(),
                !table.columns.iter().any(|column| column.name == "ci_low"),
                "{}",
                table.name
            );
        }
    }

    #[test]
    fn a_number_outside_of_the_others_interval_has_moved() {
        let before = batch(&[(0, "a", 9, [1.0, 0.5, 1.5]), (1, "a", 9, [1.0, 0.9, 1.1]), (2, "a", 9, [1.0, 0.0, 2.0])]);
        let now = batch(&[(2, "a", 8, [1.9, 1.0, 2.1]), (1, "a", 8, [1.2, 0.1, 2.0]), (3, "a", 8, [1.0, 0.0, 2.0])]);
        let numbers = compare(&TABLE, &before, &now).expect("compared");
        let said: Vec<_> = numbers.moved.iter().map(|moved| (moved.row[0].1.as_str(), moved.now.value)).collect();
        assert_eq!(said, [("1", 1.2)], "rows are paired by what they are about, and counts tell nothing apart");
        assert_eq!((numbers.compared, numbers.only_before, numbers.only_now), (2, 1, 1));
    }
}
