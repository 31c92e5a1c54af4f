//! A dataset's first examples, read without a run: what `strata doctor` shows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::read::each;
use crate::contract::pipeline::{Dataset, DatasetSource};
use crate::contract::stage::Task;
use crate::text::chat::Message;
use crate::text::dataset::reading::reading;
use crate::text::dataset::row::Place;
use crate::text::dataset::rows::Rows;
use crate::text::dataset::written;

/// The examples of a dataset as far as they were looked at.
pub struct First {
    pub examples: Vec<(String, Vec<Message>)>,
    /// What is to be said of a column that none of the rows looked at has, though a later one may.
    pub doubt: Option<String>,
}

/// The first `most` examples that the filter keeps, each with its place in the file; with `to_the_end` the rows after them are read too.
///
/// # Errors
/// As a run's, as far as the file is read for it: a row before the last of them that cannot be read, or no example at all.
pub fn first(dataset: &Dataset, most: usize, to_the_end: bool) -> Result<First> {
    let reading = reading(dataset)?;
    let mut rows = match (&dataset.source, written::conversations(dataset)?) {
        (_, Some(conversations)) => Rows::written(conversations),
        (DatasetSource::File(path), None) => Rows::open(path, reading.format)?,
        (_, None) => bail!("the dataset is no file"),
    };
    let nothing = Value::Null;
    let task = Task { params: &nothing, inputs: BTreeMap::new(), cancelled: &|| false, progress: &|_, _| () };
    let mut found: Vec<(Place, String)> = Vec::new();
    let doubt = each(&mut rows, &reading, &task, &mut |kept| {
        if found.len() < most {
            found.push((kept.place, kept.example.messages));
        }
        Ok(if found.len() < most || to_the_end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    let example = |(place, messages): (Place, String)| {
        let messages = serde_json::from_str(&messages).context("its messages are no list of role and content")?;
        Ok((rows.place(place), messages))
    };
    Ok(First { examples: found.into_iter().map(example).collect::<Result<_>>()?, doubt })
}
