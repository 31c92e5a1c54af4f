//! `strata query`: SQL over the tables, through Polars.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use polars::prelude::{AnyValue, DataFrame, DataType, HiveOptions, LazyFrame, PlRefPath, ScanArgsParquet, Schema};
use polars::sql::{SQLContext, extract_table_identifiers};
use serde_json::{Value, json};
use strata_stages::PlanError;

use super::share::{self, named};
use super::{Outcome, Place, usage};
use crate::progress::Verbosity;

/// Ask the tables something in SQL
///
/// Every folder below artifacts/tables is a table; the names of its folders (model=…, dataset=…) are columns. A table for
/// people shows five digits of a number; CSV, JSON and Parquet have all of them. With --remote the tables that the query names are
/// fetched first, and nothing that they were made from: pipeline.toml says which they are, and neither models nor data need be here.
#[derive(Args)]
#[command(after_help = "Examples:
  strata query \"SELECT model, layer, mean, ci_low, ci_high FROM projection_summary ORDER BY layer\"
  strata query \"SELECT * FROM tokens LIMIT 3\" --format json
  strata query \"SELECT count(*) FROM separation\" --remote team
  strata query \"SELECT example, vector FROM hidden_states WHERE layer = 2\" --format parquet > states.parquet")]
pub struct Query {
    sql: String,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Ask for what lies in a remote: one of pipeline.toml, a folder, file://…, s3://bucket/prefix, gs://…, az://… or https://…
    #[arg(long, value_name = "REMOTE")]
    remote: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
    Parquet,
}

impl Query {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let tables = place.layout()?.tables();
        let mut context = SQLContext::new();
        let bad_sql = |error: polars::error::PolarsError| usage(PlanError::new("", format!("in the query: {error}")));
        let asked = extract_table_identifiers(&self.sql, false, true).map_err(bad_sql)?;
        if let Some(remote) = &self.remote
            && let Some(outcome) = fetch(place, remote, &asked)?
        {
            return Ok(outcome);
        }
        let known = names(&tables);
        for name in asked {
            if known.contains(&name) {
                context.register(&name, scan(&tables.join(&name))?);
            } else if !self.sql.to_lowercase().contains(&format!("{} as", name.to_lowercase())) {
                let error = PlanError::unknown("", "table", &name, known.iter().map(String::as_str));
                let missing = known
                    .is_empty()
                    .then(|| usage(PlanError::new("", "there are no tables yet").help("`strata run` makes them")));
                return Err(missing.unwrap_or_else(|| usage(error)).into());
            }
        }
        let result = context.execute(&self.sql).and_then(LazyFrame::collect).map_err(bad_sql)?;
        let mut out = io::stdout().lock();
        match self.format {
            Format::Table => print_table(&mut out, &result)?,
            Format::Csv => print_csv(&mut out, &result)?,
            Format::Json => print_json(&mut out, &result)?,
            Format::Parquet => {
                let mut frame = result;
                let mut bytes = Vec::new();
                polars::prelude::ParquetWriter::new(&mut bytes).finish(&mut frame).context("writing Parquet")?;
                out.write_all(&bytes)?;
            }
        }
        out.flush()?;
        Ok(Outcome::Done)
    }
}

/// Brings tables from a remote. Returns how it ended, where it did not bring them all.
fn fetch(place: &Place, remote: &str, asked: &[String]) -> Result<Option<Outcome>> {
    let workspace = place.open()?;
    let setting = named(&workspace, remote)?;
    let tables: BTreeSet<&str> = workspace.graph.nodes().map(|(_, node)| node.stage.name).collect();
    let targets: Vec<String> = asked.iter().filter(|name| tables.contains(name.as_str())).cloned().collect();
    if targets.is_empty() {
        return Ok(None);
    }
    let fetched = share::fetch(place, &workspace, &[setting], &targets, false)?;
    if fetched.absent > 0 {
        let words = fetched.words.clone();
        fetched.outcome()?;
        bail!("not all of {} is in {remote}: it has {words}", targets.join(", "));
    }
    if place.verbosity != Verbosity::Quiet {
        eprintln!("fetched {}", fetched.words);
    }
    match fetched.outcome()? {
        Outcome::Done => Ok(None),
        ended => Ok(Some(ended)),
    }
}

fn names(tables: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(tables).into_iter().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn scan(folder: &Path) -> Result<LazyFrame> {
    // Folder names are text, whatever they look like: a dataset may be called "2024".
    let mut schema = Schema::default();
    let mut below = folder.to_path_buf();
    while let Some(next) = std::fs::read_dir(&below).ok().and_then(|mut entries| entries.next()?.ok()) {
        if let Some((name, _)) = next.file_name().to_str().and_then(|name| name.split_once('=')) {
            schema.with_column(name.into(), DataType::String);
        }
        below = next.path();
    }
    let hive_options = HiveOptions { schema: Some(schema.into()), ..HiveOptions::new_enabled() };
    let arguments = ScanArgsParquet { hive_options, ..Default::default() };
    let path = PlRefPath::try_from_path(folder).context("the store's path is not UTF-8")?;
    LazyFrame::scan_parquet(path, arguments).with_context(|| format!("reading {}", folder.display()))
}

fn rows(frame: &DataFrame) -> impl Iterator<Item = Vec<AnyValue<'_>>> {
    (0..frame.height())
        .map(|row| frame.columns().iter().map(|column| column.get(row).unwrap_or(AnyValue::Null)).collect())
}

fn header(frame: &DataFrame) -> Vec<String> {
    frame.get_column_names().iter().map(|name| name.to_string()).collect()
}

fn text(value: &AnyValue) -> String {
    match to_json(value) {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A number keeps the digits that its own type needs: a float32 0.1 is 0.1, not 0.10000000149011612.
fn to_json(value: &AnyValue) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(flag) => json!(flag),
        AnyValue::String(text) => json!(text),
        AnyValue::StringOwned(text) => json!(text.as_str()),
        AnyValue::Float32(number) => serde_json::from_str(&number.to_string()).unwrap_or(Value::Null),
        AnyValue::Float64(number) => json!(number),
        AnyValue::List(series) | AnyValue::Array(series, _) => {
            Value::Array(series.iter().map(|item| to_json(&item)).collect())
        }
        other => serde_json::from_str(&other.to_string()).unwrap_or_else(|_| json!(other.to_string())),
    }
}

fn print_json(out: &mut impl Write, frame: &DataFrame) -> Result<()> {
    let names = header(frame);
    writeln!(out, "[")?;
    for (index, row) in rows(frame).enumerate() {
        // Written field by field, so that an object keeps the order of the columns.
        let fields = names.iter().zip(&row).map(|(name, value)| format!("{}:{}", json!(name), to_json(value)));
        let comma = if index + 1 < frame.height() { "," } else { "" };
        writeln!(out, "{{{}}}{comma}", fields.collect::<Vec<_>>().join(","))?;
    }
    writeln!(out, "]")?;
    Ok(())
}

fn print_csv(out: &mut impl Write, frame: &DataFrame) -> Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(header(frame))?;
    for row in rows(frame) {
        writer.write_record(row.iter().map(text))?;
    }
    writer.flush()?;
    Ok(())
}

const WIDEST: usize = 48;

/// As `text`, with five digits of each number that is not whole.
fn shown(value: &AnyValue) -> String {
    match value {
        AnyValue::Float32(number) => rounded(f64::from(*number)),
        AnyValue::Float64(number) => rounded(*number),
        AnyValue::List(series) | AnyValue::Array(series, _) => {
            // More of them than fit is not looked at.
            let items = series.iter().take(WIDEST).map(|item| shown(&item));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        other => text(other),
    }
}

fn rounded(number: f64) -> String {
    const DIGITS: i32 = 5;
    let size = number.abs();
    if size == 0.0 || !size.is_finite() {
        return number.to_string();
    }
    let without_zeros = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if !(1e-4..1e15).contains(&size) {
        let text = format!("{number:.*e}", DIGITS as usize - 1);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", without_zeros(digits));
    }
    let decimals = (DIGITS - 1 - size.log10().floor() as i32).max(0) as usize;
    without_zeros(&format!("{number:.decimals$}"))
}

fn print_table(out: &mut impl Write, frame: &DataFrame) -> Result<()> {
    let shorten = |text: String| {
        let text = text.replace('\n', "⏎");
        if text.chars().count() <= WIDEST { text } else { text.chars().take(WIDEST - 1).chain(['…']).collect() }
    };
    let header = header(frame);
    let cells: Vec<Vec<String>> =
        rows(frame).map(|row| row.iter().map(|value| shorten(shown(value))).collect()).collect();
    let numeric: Vec<bool> = frame.columns().iter().map(|column| column.dtype().is_primitive_numeric()).collect();
    let width = |column: usize| {
        let cells = cells.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut line = |row: &[String]| -> io::Result<()> {
        let cells = row.iter().enumerate().map(|(i, cell)| {
            if numeric[i] {
                format!("{cell:>width$}", width = widths[i])
            } else {
                format!("{cell:<width$}", width = widths[i])
            }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(&header)?;
    for row in &cells {
        line(row)?;
    }
    writeln!(out, "({} rows)", frame.height())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_five_digits() {
        let cases = [
            (0.1f32 as f64, "0.1"),
            (-3.241592653, "-3.2416"),
            (12345.678, "12346"),
            (1234567.8, "1234568"),
            (0.00012345678, "0.00012346"),
            (9.999999, "10"),
            (2.5e-9, "2.5e-9"),
            (6.02214076e23, "6.0221e23"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
        ];
        for (number, expected) in cases {
            assert_eq!(rounded(number), expected);
        }
    }
}
