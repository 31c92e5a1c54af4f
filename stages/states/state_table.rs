//! Reads hidden states one place (position, layer, site) at a time, so that a table larger than memory can
//! be compared layer by layer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{StringArray, UInt32Array};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::file::metadata::PageIndexPolicy;

use crate::contract::node::Part;
use crate::contract::site::Site;
use crate::table;

/// The columns of `hidden_states` that a [`StateTable`] reads.
pub const STATE_COLUMNS: &[&str] = &["example", "position", "layer", "site", "vector"];

/// Where in the text and in the network states were read. Ordered by position, layer, and at one layer the
/// residual stream before the final norm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub position: String,
    pub site: Site,
}

impl Place {
    pub fn new(position: &str, layer: u32, site: &str) -> Result<Place> {
        Ok(Place { position: position.to_string(), site: Site::parse(layer, site)? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "position {}, {}", self.position, self.site)
    }
}

/// Vectors of the examples at one place, one row each.
#[derive(Debug, Clone, Default)]
pub struct States {
    pub examples: Vec<String>,
    pub width: usize,
    /// Row-major [examples, width].
    pub values: Vec<f64>,
}

impl States {
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The mean vector, in f64.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.width];
        for row in self.values.chunks_exact(self.width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
        }
        mean.iter_mut().for_each(|mean| *mean /= self.examples.len() as f64);
        mean
    }

    /// The mean of each example's states, which are adjacent.
    fn pooled(self) -> States {
        if self.examples.windows(2).all(|two| two[0] != two[1]) {
            return self;
        }
        let mut pooled = States { width: self.width, ..States::default() };
        let mut rows = self.values.chunks_exact(self.width.max(1));
        for states in self.examples.chunk_by(|one, next| one == next) {
            let mut sum = vec![0.0; self.width];
            for row in rows.by_ref().take(states.len()) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            pooled.values.extend(sum.iter().map(|sum| sum / states.len() as f64));
            pooled.examples.push(states[0].clone());
        }
        pooled
    }

    /// The states of some of the examples, in order.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> States {
        let mut states = States { width: self.width, ..States::default() };
        for (example, row) in self.examples.iter().zip(self.values.chunks_exact(self.width.max(1))) {
            if keep(example) {
                states.examples.push(example.clone());
                states.values.extend_from_slice(row);
            }
        }
        states
    }

    /// For every example of `self` in order, its row in `other`.
    ///
    /// # Errors
    /// When an example has states in one of the two only.
    pub fn joined(&self, other: &States) -> Result<Vec<usize>> {
        if self.width != other.width {
            bail!("the states of the one model have {} numbers, those of the other {}", self.width, other.width);
        }
        let rows: HashMap<&str, usize> =
            other.examples.iter().enumerate().map(|(row, example)| (example.as_str(), row)).collect();
        let own: HashSet<&String> = self.examples.iter().collect();
        if let Some(extra) = other.examples.iter().find(|example| !own.contains(example)) {
            bail!("example {extra} has states in the second model only");
        }
        let row = |example: &String| {
            let found = rows.get(example.as_str()).copied();
            found.with_context(|| format!("example {example} has states in the first model only"))
        };
        self.examples.iter().map(row).collect()
    }
}

/// An opened `hidden_states` node.
pub struct StateTable {
    places: BTreeMap<Place, Vec<Arc<Rows>>>,
}

/// Rows of one place in one part.
struct Rows {
    path: PathBuf,
    total: usize,
    ranges: Vec<Range<usize>>,
    examples: Vec<String>,
}

impl StateTable {
    /// Reads which rows belong to which place, but no vectors.
    ///
    /// # Errors
    /// When a part cannot be read or lacks a column.
    pub fn open(parts: &[Part]) -> Result<StateTable> {
        let mut places: BTreeMap<Place, Vec<Arc<Rows>>> = BTreeMap::new();
        for part in parts {
            // About what the names of the examples take.
            let size = |rows: &PartRows| rows.iter().map(|(_, rows)| 48 * (2 + rows.examples.len())).sum();
            for (place, rows) in table::lately(&part.path, "places of states", size, || rows_of(part))?.iter() {
                places.entry(place.clone()).or_default().push(Arc::clone(rows));
            }
        }
        Ok(StateTable { places })
    }

    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.keys()
    }

    /// The places at these positions, in order.
    ///
    /// # Errors
    /// When the table has no state at one of the positions.
    pub fn places_at(&self, positions: &[String]) -> Result<Vec<Place>> {
        for position in positions {
            if !self.places.keys().any(|place| place.position == *position) {
                let mut known: Vec<&str> = self.places.keys().map(|place| place.position.as_str()).collect();
                known.dedup();
                bail!("hidden_states holds no position \"{position}\", only: {}", known.join(", "));
            }
        }
        Ok(self.places.keys().filter(|place| positions.contains(&place.position)).cloned().collect())
    }

    /// The examples that have a state at one place, in the order of the table.
    ///
    /// # Errors
    /// When the table has none there.
    pub fn examples(&self, place: &Place) -> Result<Vec<&str>> {
        let rows = self.places.get(place).with_context(|| format!("no hidden states at {place}"))?;
        Ok(rows.iter().flat_map(|rows| &rows.examples).map(String::as_str).collect())
    }

    /// One state for each example at a place, in the order of the table: where the position keeps several, their mean.
    ///
    /// # Errors
    /// When the table has none there, cannot be read, or holds a number that is not finite.
    pub fn load(&self, place: &Place) -> Result<States> {
        Ok(self.load_tokens(place)?.pooled())
    }

    /// Every state at one place, in the order of the table: those of one example are adjacent, in the order of its tokens.
    ///
    /// # Errors
    /// As [`StateTable::load`].
    pub fn load_tokens(&self, place: &Place) -> Result<States> {
        let rows = self.places.get(place).with_context(|| format!("no hidden states at {place}"))?;
        let mut states = States::default();
        for rows in rows {
            let size = |vectors: &Vectors| 8 * vectors.values.len();
            let loaded = table::lately(&rows.path, &format!("states at {place}"), size, || rows.load());
            let vectors = loaded.with_context(|| format!("{place} of {}", rows.path.display()))?;
            if states.width != 0 && states.width != vectors.width {
                bail!(
                    "{place} of {}: vectors of {} numbers beside vectors of {}",
                    rows.path.display(),
                    vectors.width,
                    states.width
                );
            }
            states.width = vectors.width;
            states.values.extend_from_slice(&vectors.values);
            states.examples.extend(rows.examples.iter().cloned());
        }
        Ok(states)
    }
}

/// The rows of each place in one part, in order.
type PartRows = Vec<(Place, Arc<Rows>)>;

fn rows_of(part: &Part) -> Result<PartRows> {
    let keys = table::read(std::slice::from_ref(part), &["example", "position", "layer", "site"])?;
    let examples: &StringArray = table::values(&keys, "example")?;
    let positions: &StringArray = table::values(&keys, "position")?;
    let layers: &UInt32Array = table::values(&keys, "layer")?;
    let sites: &StringArray = table::values(&keys, "site")?;
    let mut found: BTreeMap<Place, Rows> = BTreeMap::new();
    for row in 0..keys.num_rows() {
        let place = Place::new(positions.value(row), layers.value(row), sites.value(row))?;
        let rows = found.entry(place).or_insert_with(|| Rows {
            path: part.path.clone(),
            total: keys.num_rows(),
            ranges: Vec::new(),
            examples: Vec::new(),
        });
        rows.examples.push(examples.value(row).to_string());
        match rows.ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => rows.ranges.push(row..row + 1),
        }
    }
    Ok(found.into_iter().map(|(place, rows)| (place, Arc::new(rows))).collect())
}

/// The vectors of one place in one part, row-major.
struct Vectors {
    width: usize,
    values: Vec<f64>,
}

impl Rows {
    fn load(&self) -> Result<Vectors> {
        // With the page index only the pages that hold this place's rows are read.
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(&self.path)?, options)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["vector"]);
        let selection = RowSelection::from_consecutive_ranges(self.ranges.iter().cloned(), self.total);
        let reader = builder.with_projection(mask).with_row_selection(selection).build()?;
        let mut vectors = Vectors { width: 0, values: Vec::with_capacity(self.examples.len()) };
        for batch in reader {
            let batch = batch?;
            let (values, width) = table::vectors(&batch, "vector")?;
            if vectors.width != 0 && vectors.width != width {
                bail!("vectors of {width} numbers beside vectors of {}", vectors.width);
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let row = (vectors.values.len() + at) / width.max(1);
                bail!("the hidden state of example {} is not finite", self.examples[row]);
            }
            vectors.width = width;
            vectors.values.extend(values.iter().map(|&value| f64::from(value)));
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tables::TestTables;

    fn states(examples: &[&str], values: &[f64]) -> States {
        States {
            examples: examples.iter().map(|name| name.to_string()).collect(),
            width: values.len() / examples.len(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn the_states_of_an_examples_tokens_are_read_one_by_one_or_as_their_mean() {
        let tables = TestTables::new();
        let part = |names: &[&str], first: f32| {
            let value = move |_: &str, _, i: usize| vec![first + i as f32, -(i as f32)];
            tables.hidden_states(names, &["role_first_2"], 0, false, value)
        };
        let table = StateTable::open(&[part(&["a", "a", "b", "b"], 0.0), part(&["c", "c"], 10.0)]).unwrap();
        let place = Place::new("role_first_2", 0, "residual").unwrap();
        let each = table.load_tokens(&place).unwrap();
        assert_eq!(each.examples, ["a", "a", "b", "b", "c", "c"]);
        assert_eq!(each.values[2..6], [1.0, -1.0, 2.0, -2.0]);
        let pooled = table.load(&place).unwrap();
        assert_eq!(pooled.examples, ["a", "b", "c"]);
        assert_eq!(pooled.values, [0.5, -0.5, 2.5, -2.5, 10.5, -0.5]);
    }

    #[test]
    fn places_are_read_alone_and_across_parts() {
        let tables = TestTables::new();
        let value = |example: usize, site: Site| vec![example as f32 + 10.0 * site.layer as f32, -1.0];
        let parts = [
            tables.hidden_states(&["a", "b"], &["last"], 3, true, |_, site, i| value(i, site)),
            tables.hidden_states(&["c"], &["last"], 3, true, |_, site, _| value(2, site)),
        ];
        let table = StateTable::open(&parts).unwrap();
        assert_eq!(table.places().count(), 5, "layers 0 to 3 and the final norm");
        let last = table.places().last().unwrap().clone();
        assert_eq!(last.site, Site::final_norm(3));
        let found = table.load(&Place::new("last", 2, "residual").unwrap()).unwrap();
        assert_eq!(found.examples, ["a", "b", "c"]);
        assert_eq!(found.values, [20.0, -1.0, 21.0, -1.0, 22.0, -1.0]);
        let error = table.places_at(&["response_mean".into()]).unwrap_err().to_string();
        assert!(error.contains("\"response_mean\", only: last"), "{error}");
    }

    #[test]
    fn a_state_that_is_not_finite_is_an_error_with_its_place() {
        let tables = TestTables::new();
        let broken = |_: &str, site: Site, i: usize| vec![if site.layer == 1 && i == 1 { f32::NAN } else { 1.0 }];
        let part = tables.hidden_states(&["a", "b"], &["last"], 1, false, broken);
        let error = StateTable::open(&[part]).unwrap().load(&Place::new("last", 1, "residual").unwrap()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("layer 1 (residual)") && error.contains("example b is not finite"), "{error}");
    }

    #[test]
    fn examples_are_joined_by_identity() {
        let first = states(&["a", "b", "c"], &[1.0, 2.0, 3.0]);
        assert_eq!(first.joined(&states(&["c", "a", "b"], &[0.0; 3])).unwrap(), [1, 2, 0]);
        let error = |other: &States| first.joined(other).unwrap_err().to_string();
        assert!(error(&states(&["a", "b"], &[0.0; 2])).contains("example c has states in the first"));
        assert!(error(&states(&["a", "b", "c", "d"], &[0.0; 4])).contains("example d has states in the second"));
        assert!(error(&states(&["a"], &[0.0; 2])).contains("1 numbers"));
    }
}
