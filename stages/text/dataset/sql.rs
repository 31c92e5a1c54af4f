//! A filter in SQL over chunks of rows: the columns that it looks at, each of one type in the whole file.

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value};

use super::cell::cell;
use crate::contract::row_sql::{Column, RowSql, Values, engine};

/// An expression and what is known of its columns.
pub struct SqlFilter<'a> {
    sql: &'a str,
    engine: RowSql,
    columns: Vec<(String, Option<Kind>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Boolean,
    Number,
}

impl SqlFilter<'_> {
    /// # Errors
    /// When the expression is none, which planning has ruled out.
    pub fn new(sql: &str) -> Result<SqlFilter<'_>> {
        let engine = engine().map_err(anyhow::Error::msg)?;
        let names = (engine.columns)(sql).map_err(|why| anyhow!("the filter: {why}"))?;
        Ok(SqlFilter { sql, engine, columns: names.into_iter().map(|name| (name, None)).collect() })
    }

    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Which of the rows the expression is true of.
    ///
    /// # Errors
    /// When a column is of two types, a list or an object, or the expression does not fit the columns' types. The number
    /// is that of the row, where it is one row's.
    pub fn is_true(&mut self, rows: &[&Map<String, Value>]) -> Result<Vec<bool>, (Option<usize>, anyhow::Error)> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        for (name, kind) in &mut self.columns {
            for (i, row) in rows.iter().enumerate() {
                learn(kind, row.get(name.as_str()))
                    .map_err(|why| (Some(i), why.context(format!("the filter looks at column \"{name}\""))))?;
            }
        }
        let columns: Vec<Column> =
            self.columns.iter().map(|(name, kind)| Column { name, values: values(*kind, name, rows) }).collect();
        (self.engine.is_true)(self.sql, &columns).map_err(|why| (None, anyhow!("the filter {:?}: {why}", self.sql)))
    }
}

fn learn(kind: &mut Option<Kind>, value: Option<&Value>) -> Result<()> {
    let found = match value.unwrap_or(&Value::Null) {
        Value::Null => return Ok(()),
        Value::String(_) => Kind::Text,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(_) => Kind::Number,
        other => bail!("it holds {}; SQL looks at text, numbers and booleans", cell(other)),
    };
    match kind {
        None => *kind = Some(found),
        Some(before) if *before != found => {
            let before = match before {
                Kind::Text => "text",
                Kind::Boolean => "booleans",
                Kind::Number => "numbers",
            };
            let value = cell(value.unwrap_or(&Value::Null));
            bail!("it holds {value}, and {before} in rows before; SQL wants a column of one type")
        }
        Some(_) => {}
    }
    Ok(())
}

fn values<'a>(kind: Option<Kind>, name: &str, rows: &[&'a Map<String, Value>]) -> Values<'a> {
    let column = || rows.iter().map(|row| row.get(name));
    match kind {
        None => Values::Nulls(rows.len()),
        Some(Kind::Text) => Values::Text(column().map(|value| value?.as_str()).collect()),
        Some(Kind::Boolean) => Values::Booleans(column().map(|value| value?.as_bool()).collect()),
        Some(Kind::Number) if column().flatten().all(|value| value.is_null() || value.is_i64()) => {
            Values::Whole(column().map(|value| value?.as_i64()).collect())
        }
        Some(Kind::Number) => Values::Numbers(column().map(|value| value?.as_f64()).collect()),
    }
}
