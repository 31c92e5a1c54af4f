//! A dataset's rows one after the other: which the filter keeps, and which are repeats.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow, bail};
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::example::{Example, RowReader};
use crate::contract::stage::Task;
use crate::text::dataset::cell::{cell, no_column};
use crate::text::dataset::filter::Filter;
use crate::text::dataset::reading::Reading;
use crate::text::dataset::row::{Found, Place, Row};
use crate::text::dataset::rows::Rows;
use crate::text::dataset::sample::Sample;
use crate::text::dataset::sql::SqlFilter;

/// An example and where it is found again.
pub struct Kept {
    pub example: Example,
    pub place: Place,
    pub found: Found,
    /// Its value in the column by which the sample is stratified.
    pub stratum: Option<String>,
}

type Columns = Map<String, Value>;

/// Gives the examples of the rows that the filter keeps, in the file's order, until `take` breaks it off: of the rows
/// after that, none beyond their chunk is read. Where it was broken off, what is said of a column that no row so far has.
///
/// # Errors
/// The first row that cannot be read, with its line; a filter or a sample on a column that no row has; no example.
pub fn each(
    rows: &mut Rows,
    reading: &Reading,
    task: &Task,
    take: &mut dyn FnMut(Kept) -> Result<ControlFlow<()>>,
) -> Result<Option<String>> {
    let reader = RowReader::new(reading)?;
    let mut filter = match &reading.filter {
        Filter::Sql(sql) => Some(SqlFilter::new(sql)?),
        Filter::Conditions(_) => None,
    };
    let mut unseen = Unseen::new(reading, filter.as_ref());
    let mut repeats = Repeats::default();
    let (mut count, mut kept) = (0u64, 0u64);
    loop {
        if (task.cancelled)() {
            bail!("stopped while reading the dataset");
        }
        let chunk = rows.chunk()?;
        if chunk.is_empty() {
            break;
        }
        let parse = |row: Row| (row.place, Found { index: row.index, at: row.at, turn: 0 }, row.content.columns());
        let mut parsed: Vec<(Place, Found, Result<Columns>)> = chunk.into_par_iter().map(parse).collect();
        unseen.look(parsed.iter().filter_map(|(_, _, columns)| columns.as_ref().ok()));
        let is_true = match &mut filter {
            Some(filter) => Some(is_true(filter, &mut parsed).with_context(|| rows.path().display().to_string())?),
            None => None,
        };
        let convert = |(i, (place, found, columns)): (usize, (Place, Found, Result<Columns>))| {
            let columns = columns.and_then(|columns| match (&reading.filter, &is_true) {
                (Filter::Conditions(conditions), _) => Ok((conditions.keeps(&columns)?, columns)),
                (Filter::Sql(_), is_true) => Ok((is_true.as_ref().is_some_and(|is_true| is_true[i]), columns)),
            });
            let kept = columns.and_then(|(keeps, columns)| match keeps {
                false => Ok(Vec::new()),
                true => {
                    let (examples, stratum) = (reader.examples(found.index, &columns)?, stratum(reading, &columns)?);
                    let kept = |(turn, example)| {
                        let found = Found { turn: turn as u32, ..found };
                        Kept { example, place, found, stratum: stratum.clone() }
                    };
                    Ok(examples.into_iter().enumerate().map(kept).collect())
                }
            });
            (place, kept)
        };
        let read: Vec<(Place, Result<Vec<Kept>>)> = parsed.into_par_iter().enumerate().map(convert).collect();
        for (place, read) in read {
            count += 1;
            for mut one in read.with_context(|| rows.place(place))? {
                kept += 1;
                one.example.repeat = repeats.number(one.example.identity);
                if take(one)?.is_break() {
                    return Ok(unseen.none().err().map(|error| format!("{error:#}")));
                }
            }
        }
        (task.progress)(count, 0);
    }
    let path = rows.path().display();
    if count == 0 {
        bail!("{path}: the dataset is empty: the file has no rows");
    }
    unseen.none().with_context(|| path.to_string())?;
    if kept == 0 {
        bail!("{path}: the dataset is empty: {count} rows were read, and the filter kept none of them");
    }
    Ok(None)
}

/// For each row whether the expression is true of it. A row that has no place in its columns becomes an error itself, and
/// those after it are as good as not read.
fn is_true(filter: &mut SqlFilter, parsed: &mut [(Place, Found, Result<Columns>)]) -> Result<Vec<bool>> {
    let mut readable = parsed.iter().position(|(_, _, columns)| columns.is_err()).unwrap_or(parsed.len());
    loop {
        let columns: Vec<&Columns> =
            parsed[..readable].iter().filter_map(|(_, _, columns)| columns.as_ref().ok()).collect();
        match filter.is_true(&columns) {
            Ok(mut is_true) => {
                is_true.resize(parsed.len(), false);
                return Ok(is_true);
            }
            Err((Some(row), error)) => {
                readable = row;
                parsed[row].2 = Err(error);
            }
            Err((None, error)) => return Err(error),
        }
    }
}

/// A row's value in the column by which a sample is stratified, as JSON.
fn stratum(reading: &Reading, columns: &Columns) -> Result<Option<String>> {
    let Some(Sample::Strata(strata)) = &reading.sample else { return Ok(None) };
    match columns.get(&strata.by).unwrap_or(&Value::Null) {
        value @ (Value::Array(_) | Value::Object(_)) => {
            Err(anyhow!("the sample is by column \"{}\", which holds {}", strata.by, cell(value)))
        }
        value => Ok(Some(value.to_string())),
    }
}

/// Columns that filter and sample look at and no row so far has.
struct Unseen {
    columns: Vec<(&'static str, String)>,
    first_row: Option<Columns>,
}

impl Unseen {
    fn new(reading: &Reading, sql: Option<&SqlFilter>) -> Unseen {
        let filter: Vec<&str> = match &reading.filter {
            Filter::Conditions(conditions) => conditions.columns().collect(),
            Filter::Sql(_) => sql.into_iter().flat_map(SqlFilter::columns).collect(),
        };
        let mut columns: Vec<_> = filter.into_iter().map(|name| ("filter", name.to_string())).collect();
        if let Some(Sample::Strata(strata)) = &reading.sample {
            columns.push(("sample", strata.by.clone()));
        }
        Unseen { columns, first_row: None }
    }

    fn look<'a>(&mut self, rows: impl Iterator<Item = &'a Columns>) {
        for row in rows {
            if self.columns.is_empty() {
                return;
            }
            self.columns.retain(|(_, name)| !row.contains_key(name));
            let names = || row.keys().map(|name| (name.clone(), Value::Null)).collect();
            self.first_row.get_or_insert_with(names);
        }
    }

    fn none(&self) -> Result<()> {
        match (self.columns.first(), &self.first_row) {
            (Some((who, name)), Some(row)) => {
                Err(no_column(row, name).context(format!("the {who} looks at a column that no row has")))
            }
            _ => Ok(()),
        }
    }
}

/// Which examples have been there before. Of each, eight bytes and their place in a set are all that is kept of it.
#[derive(Default)]
struct Repeats {
    once: HashSet<u64>,
    more: HashMap<u64, u32>,
}

impl Repeats {
    /// How often this one has been there, with now.
    fn number(&mut self, identity: u64) -> u32 {
        if self.once.insert(identity) {
            return 1;
        }
        let times = self.more.entry(identity).or_insert(1);
        *times += 1;
        *times
    }
}
