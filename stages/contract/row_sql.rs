//! Conditions on rows in SQL. The program has an SQL engine, for `strata query`, without which this crate is built; it
//! hands it in when it starts.

use std::sync::OnceLock;

/// An SQL engine, as far as conditions on rows need one. Errors say what is wrong with the expression.
#[derive(Debug, Clone, Copy)]
pub struct RowSql {
    /// The columns that an expression looks at, each once. An error too where it looks at more than one row.
    pub columns: fn(&str) -> Result<Vec<String>, String>,
    /// For each row whether the expression is true of it: neither false nor null. The columns are those it looks at, and
    /// all of one length.
    pub is_true: fn(&str, &[Column]) -> Result<Vec<bool>, String>,
}

/// One column of some rows.
#[derive(Debug)]
pub struct Column<'a> {
    pub name: &'a str,
    pub values: Values<'a>,
}

#[derive(Debug)]
pub enum Values<'a> {
    /// So many nulls, of which no row says what they are.
    Nulls(usize),
    Text(Vec<Option<&'a str>>),
    Booleans(Vec<Option<bool>>),
    Whole(Vec<Option<i64>>),
    Numbers(Vec<Option<f64>>),
}

impl Values<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Values::Nulls(rows) => *rows,
            Values::Text(values) => values.len(),
            Values::Booleans(values) => values.len(),
            Values::Whole(values) => values.len(),
            Values::Numbers(values) => values.len(),
        }
    }

    /// For messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Values::Nulls(_) => "nulls",
            Values::Text(_) => "text",
            Values::Booleans(_) => "booleans",
            Values::Whole(_) => "whole numbers",
            Values::Numbers(_) => "numbers",
        }
    }
}

static ENGINE: OnceLock<RowSql> = OnceLock::new();

/// Hands the engine in. The first one stays.
pub fn provide(engine: RowSql) {
    ENGINE.get_or_init(|| engine);
}

/// # Errors
/// When none was handed in.
pub fn engine() -> Result<RowSql, String> {
    ENGINE.get().copied().ok_or_else(|| "this program has no SQL engine for filters".into())
}
