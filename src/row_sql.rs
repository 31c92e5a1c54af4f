//! Conditions on a dataset's rows in SQL (`filter = "…"`), which Polars evaluates.

use polars::prelude::{
    AggExpr, BooleanChunked, Column as Series, DataFrame, DataType, Expr, Float64Chunked, Int64Chunked, IntoColumn,
    IntoLazy, LazyFrame, NewChunkedArray, PolarsError, StringChunked,
};
use polars::sql::sql_expr;
use polars_plan::plans::{IR, is_elementwise_rec};
use strata_stages::contract::row_sql::{Column, RowSql, Values};

pub const ENGINE: RowSql = RowSql { columns, is_true };

const OTHER_ROWS: &str =
    "it looks at more than one row (an aggregate, a window or a query), and a filter looks at each row by itself";

fn columns(sql: &str) -> Result<Vec<String>, String> {
    let expression = sql_expr(sql).map_err(in_words)?;
    let gathers = |part: &Expr| match part {
        // The list after IN.
        Expr::Agg(AggExpr::Implode { .. }) => false,
        Expr::Agg(_) | Expr::Over { .. } | Expr::Len | Expr::SubPlan(..) => true,
        _ => false,
    };
    if expression.into_iter().any(gathers) {
        return Err(OTHER_ROWS.into());
    }
    let meta = expression.meta();
    if meta.has_multiple_outputs() {
        return Err("it stands for several columns; write the name of each".into());
    }
    let mut names: Vec<String> = meta.root_names().iter().map(|name| name.to_string()).collect();
    names.sort();
    names.dedup();
    match names.is_empty() {
        true => Err("it looks at no column, so it says the same of every row".into()),
        false => Ok(names),
    }
}

fn is_true(sql: &str, columns: &[Column]) -> Result<Vec<bool>, String> {
    // A column of which no row says what it is may be of any type: of that in which the expression makes sense.
    let types = [DataType::Null, DataType::String, DataType::Float64, DataType::Boolean];
    let known = columns.iter().all(|column| !matches!(column.values, Values::Nulls(_)));
    let mut found =
        types.iter().take(if known { 1 } else { types.len() }).map(|of_nulls| evaluate(sql, columns, of_nulls));
    let first = found.next().unwrap_or_else(|| Ok(Vec::new()));
    first.or_else(|why| found.find_map(Result::ok).ok_or(why))
}

fn evaluate(sql: &str, columns: &[Column], of_nulls: &DataType) -> Result<Vec<bool>, String> {
    let expression = sql_expr(sql).map_err(in_words)?;
    let rows = columns.first().map_or(0, |column| column.values.rows());
    let series = columns.iter().map(|column| series(column, of_nulls)).collect();
    let frame = DataFrame::new(rows, series).map_err(in_words)?;
    let filtered = frame.lazy().select([expression.alias("is true")]);
    let typed = |error| with_types(in_words(error), columns);
    if !is_by_row(&filtered).map_err(typed)? {
        return Err(OTHER_ROWS.into());
    }
    let filtered = filtered.collect().map_err(typed)?;
    let column = filtered.columns().first().ok_or("it gives no column")?;
    match column.dtype() {
        // Every row of these lacks what it looks at.
        DataType::Null => return Ok(vec![false; rows]),
        DataType::Boolean => {}
        other => return Err(with_types(format!("it gives values of type {other}; expected true or false"), columns)),
    }
    let booleans = column.bool().map_err(in_words)?;
    match booleans.len() == rows {
        true => Ok(booleans.iter().map(|value| value == Some(true)).collect()),
        false => Err(OTHER_ROWS.into()),
    }
}

fn series(column: &Column, of_nulls: &DataType) -> Series {
    let name = column.name.into();
    match &column.values {
        Values::Nulls(rows) => Series::full_null(name, *rows, of_nulls),
        Values::Text(values) => StringChunked::from_slice_options(name, values).into_column(),
        Values::Booleans(values) => BooleanChunked::from_slice_options(name, values).into_column(),
        Values::Whole(values) => Int64Chunked::from_slice_options(name, values).into_column(),
        Values::Numbers(values) => Float64Chunked::from_slice_options(name, values).into_column(),
    }
}

/// Whether each row's value follows from that row.
fn is_by_row(filtered: &LazyFrame) -> Result<bool, PolarsError> {
    let plan = filtered.clone().to_alp()?;
    Ok(match plan.lp_arena.get(plan.lp_top) {
        IR::Select { expr, .. } => expr.iter().all(|expr| is_elementwise_rec(expr.node(), &plan.expr_arena)),
        _ => false,
    })
}

/// Polars' own words, without its kinds of error.
fn in_words(error: PolarsError) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.trim_start_matches("sql parser error: ").to_string()
}

/// What went wrong, and of which type each column is: most often one is of another than the expression takes it for.
fn with_types(message: String, columns: &[Column]) -> String {
    let named = |column: &Column| format!("{} ({})", column.name, column.values.kind());
    let named: Vec<String> = columns.iter().map(named).collect();
    let text = columns.iter().any(|column| matches!(column.values, Values::Text(_)));
    let cast = if text { "; CAST(column AS DOUBLE) reads text as numbers" } else { "" };
    format!("{message}. It looks at {}{cast}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Map, Value};

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        rows: Vec<Map<String, Value>>,
        kept: BTreeMap<String, Vec<usize>>,
    }

    fn golden() -> Golden {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sql_filter.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("golden rows")).expect("as written by the script")
    }

    fn column<'a>(name: &'a str, rows: &'a [Map<String, Value>]) -> Column<'a> {
        let values = || rows.iter().map(|row| &row[name]);
        let values = match name {
            "language" | "output" => Values::Text(values().map(Value::as_str).collect()),
            "score" => Values::Numbers(values().map(Value::as_f64).collect()),
            "good" => Values::Booleans(values().map(Value::as_bool).collect()),
            _ => Values::Whole(values().map(Value::as_i64).collect()),
        };
        Column { name, values }
    }

    #[test]
    fn the_rows_that_duckdb_keeps() {
        let golden = golden();
        let mut wrong = Vec::new();
        for (sql, expected) in &golden.kept {
            let names = match columns(sql) {
                Ok(names) => names,
                Err(why) => {
                    wrong.push(format!("{sql}: {why}"));
                    continue;
                }
            };
            let given: Vec<Column> = names.iter().map(|name| column(name, &golden.rows)).collect();
            let kept = is_true(sql, &given)
                .map(|kept| kept.iter().enumerate().filter(|(_, kept)| **kept).map(|(i, _)| i).collect::<Vec<usize>>());
            if kept.as_ref() != Ok(expected) {
                wrong.push(format!("{sql}: {kept:?} instead of {expected:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_looks_at_other_rows_or_gives_no_truth_is_refused() {
        let golden = golden();
        for (sql, expected) in [
            ("score > avg(score)", "more than one row"),
            ("score > max(score) - 1", "more than one row"),
            ("count(*) > 3", "more than one row"),
            ("rank() OVER (ORDER BY score) < 3", ""),
            ("row_number() OVER () < 3", ""),
            ("score > (SELECT 3)", ""),
            ("score > lag(score) OVER (ORDER BY id)", "more than one row"),
            ("length(output)", "expected true or false"),
            ("score", "expected true or false"),
            ("language", "expected true or false"),
            ("language > 3", "language (text)"),
            ("CAST(language AS DOUBLE) > 3", ""),
            ("score LIKE 'x'", ""),
            ("1 = 1", "looks at no column"),
            ("*", ""),
            ("score >", ""),
            ("", ""),
            ("score > 3; DROP TABLE x", ""),
            ("SELECT score FROM rows", ""),
            ("score > 3 WHERE good", ""),
            ("nonsense(score) > 3", "nonsense"),
        ] {
            let found = columns(sql).and_then(|names| {
                let given: Vec<Column> = names.iter().map(|name| column(name, &golden.rows)).collect();
                is_true(sql, &given)
            });
            match found {
                Ok(kept) => panic!("{sql} kept {kept:?}"),
                Err(why) => assert!(why.contains(expected), "{sql}: {why}"),
            }
        }
    }

    #[test]
    fn rows_without_a_column_count_as_null() {
        let given = |values| [Column { name: "x", values }];
        for sql in ["x > 3", "x = 'a'", "x IN ('a', 'b')", "length(x) > 2", "lower(x) = 'a'", "x LIKE 'a%'", "NOT x"] {
            assert_eq!(is_true(sql, &given(Values::Nulls(3))), Ok(vec![false; 3]), "{sql}");
        }
        assert_eq!(is_true("x IS NULL", &given(Values::Nulls(2))), Ok(vec![true; 2]));
        assert_eq!(is_true("x > 3", &given(Values::Whole(vec![Some(4), None]))), Ok(vec![true, false]));
    }
}
