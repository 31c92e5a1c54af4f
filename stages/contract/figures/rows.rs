//! Rows of a stage's tables, picked step by step. Each step is kept as an SQL condition, so that the query under a
//! figure returns the rows that it was drawn from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::DataType;

use crate::chart::figure::sql;
use crate::chart::{Figure, Name, Point, Summary};
use crate::contract::site::{Site, Stream};
use crate::table::values;

/// Some rows of a stage's tables. The names of their nodes (`model`, `dataset`) are columns like the others.
#[derive(Clone)]
pub struct Rows {
    columns: Arc<Columns>,
    rows: Vec<u32>,
    conditions: Vec<String>,
    /// The names that the conditions ask for.
    kept: Vec<String>,
}

#[derive(Default)]
struct Columns {
    stage: &'static str,
    values: HashMap<String, Values>,
}

enum Values {
    /// Texts in the order in which figures show them, each with its rank, and for each row the place of its own.
    Text { names: Vec<(usize, String)>, codes: Vec<u32> },
    /// Numbers of any type, flags as 0 and 1, nulls as NaN.
    Number(Vec<f64>),
}

/// One of the rows. A column that the figures do not declare in their `reads` is a mistake in the stage, and panics.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    columns: &'a Columns,
    row: usize,
}

impl Rows {
    /// The rows of tables with one set of columns, each with the names of its node. `order` says in which order the
    /// names of a column come; the others of its texts come after them in alphabetical order.
    ///
    /// # Errors
    /// When the tables differ in their columns, or a column has a type that no figure can show.
    pub fn new<'a>(
        stage: &'static str,
        tables: &[(&[(String, String)], RecordBatch)],
        order: impl Fn(&str) -> Vec<&'a str>,
    ) -> Result<Rows> {
        let mut columns = Columns { stage, values: HashMap::new() };
        let count: usize = tables.iter().map(|(_, batch)| batch.num_rows()).sum();
        let (bindings, fields) = match tables.first() {
            Some((bindings, batch)) => (*bindings, batch.schema().fields().clone()),
            None => (&[][..], Default::default()),
        };
        for (place, (role, _)) in bindings.iter().enumerate() {
            let mut texts = Texts::default();
            for (bindings, batch) in tables {
                let code = texts.code(&bindings[place].1);
                texts.codes.extend(std::iter::repeat_n(code, batch.num_rows()));
            }
            columns.values.insert(role.clone(), texts.sorted(&order(role)));
        }
        for field in fields.iter() {
            let name = field.name();
            let (mut texts, mut numbers) = (Texts::default(), Vec::new());
            for (_, batch) in tables {
                match field.data_type() {
                    DataType::Utf8 => texts.extend(values(batch, name)?),
                    _ => push_numbers(batch, name, &mut numbers)?,
                }
            }
            let column = match field.data_type() {
                DataType::Utf8 => texts.sorted(&order(name)),
                _ => Values::Number(numbers),
            };
            columns.values.insert(name.clone(), column);
        }
        let rows = (0..count as u32).collect();
        Ok(Rows { columns: Arc::new(columns), rows, conditions: Vec::new(), kept: Vec::new() })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Row<'_>> + Clone {
        self.rows.iter().map(|&row| Row { columns: &self.columns, row: row as usize })
    }

    /// A column of numbers, looked up once for all rows; NaN for null.
    pub fn numbers(&self, column: &str) -> impl Iterator<Item = f64> + '_ {
        let Values::Number(numbers) = self.columns.get(column) else {
            panic!("column {} of {} holds texts", column, self.columns.stage)
        };
        self.rows.iter().map(|&row| numbers[row as usize])
    }

    /// The texts of a column, and for each row the place of its own among them.
    pub fn texts(&self, column: &str) -> (Vec<&str>, impl Iterator<Item = usize> + '_) {
        let Values::Text { names, codes } = self.columns.get(column) else {
            panic!("column {} of {} holds numbers", column, self.columns.stage)
        };
        let names = names.iter().map(|(_, name)| name.as_str()).collect();
        (names, self.rows.iter().map(|&row| codes[row as usize] as usize))
    }

    /// The rows that have this name or whole number in a column.
    pub fn keep(&self, column: &str, value: impl std::fmt::Display) -> Rows {
        let value = value.to_string();
        if self.is_empty() {
            return self.clone();
        }
        let rows = self.rows.iter().copied();
        let rows = match self.columns.get(column) {
            Values::Text { names, codes } => {
                let code = names.iter().position(|(_, name)| *name == value);
                rows.filter(|&row| Some(codes[row as usize] as usize) == code).collect()
            }
            Values::Number(numbers) => {
                let number = value.parse::<f64>().ok();
                let same =
                    |other: f64| number.is_some_and(|number| number == other || number.is_nan() && other.is_nan());
                rows.filter(|&row| same(numbers[row as usize])).collect()
            }
        };
        self.narrowed(rows, self.columns.condition(column, &value), Some(value))
    }

    /// The rows that `keep` chooses, which is what the SQL condition says.
    pub fn keep_if(&self, condition: &str, keep: impl Fn(Row) -> bool) -> Rows {
        let here = |row: &u32| keep(Row { columns: &self.columns, row: *row as usize });
        self.narrowed(self.rows.iter().copied().filter(here).collect(), condition.to_string(), None)
    }

    fn narrowed(&self, rows: Vec<u32>, condition: String, name: Option<String>) -> Rows {
        let mut narrowed = Rows { rows, ..self.clone() };
        narrowed.conditions.push(condition);
        narrowed.kept.extend(name);
        narrowed
    }

    /// The rows with each combination of names or whole numbers in some columns, in order.
    pub fn groups(&self, columns: &[&str]) -> Vec<(Vec<String>, Rows)> {
        let mut found: BTreeMap<Vec<u64>, Vec<u32>> = BTreeMap::new();
        if !self.is_empty() {
            let columns: Vec<&Values> = columns.iter().map(|column| self.columns.get(column)).collect();
            let key = |row: u32| columns.iter().map(move |values| values.order(row as usize));
            // Rows of one group mostly follow one another.
            for rows in self.rows.chunk_by(|&one, &next| key(one).eq(key(next))) {
                found.entry(key(rows[0]).collect()).or_default().extend_from_slice(rows);
            }
        }
        let group = |rows: Vec<u32>| {
            let mut group = Rows { rows, ..self.clone() };
            let mut names = Vec::new();
            for column in columns {
                let name = self.columns.name(column, group.rows[0] as usize).into_owned();
                group.conditions.push(self.columns.condition(column, &name));
                names.push(name);
            }
            group.kept.extend(names.clone());
            (names, group)
        };
        found.into_values().map(group).collect()
    }

    /// The distinct names in some columns, in order.
    pub fn names(&self, columns: &[&str]) -> Vec<String> {
        let all = columns.iter().flat_map(|column| self.iter().map(|row| row.name(column)));
        let names: BTreeSet<Name> = all.collect();
        names.into_iter().map(|name| name.text().to_string()).collect()
    }

    /// The first so many different texts of a column, in the order of the rows.
    pub fn first(&self, column: &str, count: usize) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for row in self.iter() {
            if found.len() == count {
                break;
            }
            if !found.iter().any(|known| known == row.text(column)) {
                found.push(row.text(column).to_string());
            }
        }
        found
    }

    /// The sites of the rows, in the order in which a forward pass comes to them.
    pub fn sites(&self) -> Vec<Site> {
        let mut sites: Vec<Site> = self.iter().map(|row| row.site()).collect();
        sites.sort();
        sites.dedup();
        sites
    }

    /// The least and the greatest of a column of counts: `40`, or `38 to 40`.
    pub fn count_range(&self, column: &str) -> String {
        let counts = || self.iter().map(|row| row.number(column));
        let (least, most) = (counts().fold(f64::INFINITY, f64::min), counts().fold(f64::NEG_INFINITY, f64::max));
        match least <= most {
            true if least == most => least.to_string(),
            true => format!("{least} to {most}"),
            false => "–".into(),
        }
    }

    /// The query that returns these columns of these rows.
    pub fn query(&self, columns: &str, order: &str) -> String {
        let conditions = match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join(" AND ")),
        };
        format!("SELECT {columns} FROM {}{conditions} ORDER BY {order}", self.columns.stage)
    }

    /// A figure of these rows: its file is named for `what` and the names that the rows were picked by.
    pub fn figure(&self, what: &str, question: String, columns: &str, order: &str) -> Figure {
        let figure = Figure::new(format!("{what} {}", self.kept.join(" ")), question);
        Figure { query: self.query(columns, order), table: self.columns.stage, ..figure }
    }
}

impl<'a> Row<'a> {
    /// A name or text; empty for null.
    pub fn text(self, column: &str) -> &'a str {
        match self.columns.get(column) {
            Values::Text { names, codes } => &names[codes[self.row] as usize].1,
            Values::Number(_) => panic!("column {} of {} holds numbers", column, self.columns.stage),
        }
    }

    /// A text with its rank: a model or a dataset has that of the pipeline.
    pub fn name(self, column: &str) -> Name {
        match self.columns.get(column) {
            Values::Text { names, codes } => {
                let (rank, name) = &names[codes[self.row] as usize];
                Name::new(*rank, name)
            }
            Values::Number(numbers) => Name::new(numbers[self.row] as usize, numbers[self.row].to_string()),
        }
    }

    /// A number; NaN for null.
    pub fn number(self, column: &str) -> f64 {
        match self.columns.get(column) {
            Values::Number(numbers) => numbers[self.row],
            Values::Text { .. } => panic!("column {} of {} holds texts", column, self.columns.stage),
        }
    }

    pub fn flag(self, column: &str) -> bool {
        self.number(column) == 1.0
    }

    /// The site that the columns `layer` and `site` name; of a null one the residual stream.
    pub fn site(self) -> Site {
        let layer = self.number("layer") as u32;
        Site::parse(layer, self.text("site")).unwrap_or(Site::residual(layer as usize))
    }

    /// The row's site as a place on an axis.
    pub fn place(self) -> Name {
        place(self.site())
    }

    /// A value with the interval in `ci_low` and `ci_high`.
    pub fn estimate(self, column: &str) -> Point {
        Point { value: self.number(column), low: self.number("ci_low"), high: self.number("ci_high") }
    }

    /// The box plot in the columns of [`BOX_COLUMNS`](crate::statistics::box_plot::BOX_COLUMNS).
    pub fn box_plot(self) -> Summary {
        let whiskers = (self.number("whisker_low"), self.number("whisker_high"));
        let (min, max) = (self.number("min"), self.number("max"));
        let outside = [min].into_iter().filter(|min| *min < whiskers.0);
        Summary {
            n: self.number("n") as usize,
            whiskers,
            quartiles: (self.number("q1"), self.number("q3")),
            median: self.number("median"),
            outside: outside.chain([max].into_iter().filter(|max| *max > whiskers.1)).collect(),
        }
    }
}

/// A site as a place on an axis: `3`, or `norm` for the final norm.
pub fn place(site: Site) -> Name {
    let label = match site.stream {
        Stream::Residual => site.layer.to_string(),
        Stream::FinalNorm => "norm".into(),
    };
    Name::new(2 * site.layer + site.stream as usize, label)
}

impl Columns {
    fn get(&self, column: &str) -> &Values {
        let found = self.values.get(column);
        found.unwrap_or_else(|| panic!("the figures do not read the column {column} of {}", self.stage))
    }

    fn name(&self, column: &str, row: usize) -> Cow<'_, str> {
        match self.get(column) {
            Values::Text { names, codes } => Cow::Borrowed(&names[codes[row] as usize].1),
            Values::Number(numbers) => Cow::Owned(numbers[row].to_string()),
        }
    }

    fn condition(&self, column: &str, name: &str) -> String {
        // A word of SQL's own.
        let column_name = if column == "of" { "\"of\"" } else { column };
        match self.get(column) {
            Values::Text { .. } => format!("{column_name} = {}", sql(name)),
            Values::Number(_) => format!("{column_name} = {name}"),
        }
    }
}

impl Values {
    /// Ascending in the order of the values.
    fn order(&self, row: usize) -> u64 {
        match self {
            Values::Text { codes, .. } => u64::from(codes[row]),
            Values::Number(numbers) => {
                let bits = numbers[row].to_bits();
                if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
            }
        }
    }
}

/// A column of texts as it is read: each text once, in the order of its first row.
#[derive(Default)]
struct Texts {
    codes: Vec<u32>,
    places: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// For each text the one that came after it last, which tends to come after it again.
    next: Vec<u32>,
    last: usize,
}

impl Texts {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(&next) = self.next.get(self.last)
            && *self.texts[next as usize] == *text
        {
            self.last = next as usize;
            return next;
        }
        let code = self.places.get(text).copied().unwrap_or_else(|| {
            let (code, text) = (self.texts.len() as u32, Arc::from(text));
            self.places.insert(Arc::clone(&text), code);
            self.texts.push(text);
            self.next.push(code);
            code
        });
        self.next[self.last] = code;
        self.last = code as usize;
        code
    }

    fn extend(&mut self, array: &StringArray) {
        for value in array {
            let code = self.code(value.unwrap_or_default());
            self.codes.push(code);
        }
    }

    fn sorted(self, order: &[&str]) -> Values {
        let rank = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
        let texts = self.texts.iter().enumerate();
        let mut names: Vec<(usize, String, u32)> =
            texts.map(|(code, name)| (rank(name), name.to_string(), code as u32)).collect();
        names.sort();
        let mut places = vec![0; names.len()];
        names.iter().enumerate().for_each(|(place, (.., code))| places[*code as usize] = place as u32);
        let codes = self.codes.into_iter().map(|code| places[code as usize]).collect();
        let unknown = names.iter().position(|(rank, ..)| *rank == order.len()).unwrap_or_default();
        let ranked = names.into_iter().enumerate().map(|(place, (rank, name, _))| match rank == order.len() {
            true => (rank + place - unknown, name),
            false => (rank, name),
        });
        Values::Text { names: ranked.collect(), codes }
    }
}

fn push_numbers(batch: &RecordBatch, name: &str, numbers: &mut Vec<f64>) -> Result<()> {
    let array = batch.column_by_name(name).with_context(|| format!("no column \"{name}\""))?;
    match array.data_type() {
        DataType::Float64 => {
            let array: &Float64Array = values(batch, name)?;
            numbers.extend(array.iter().map(|value| value.unwrap_or(f64::NAN)));
        }
        DataType::Float32 => {
            let array: &Float32Array = values(batch, name)?;
            numbers.extend(array.iter().map(|value| value.map_or(f64::NAN, f64::from)));
        }
        DataType::UInt32 => {
            let array: &UInt32Array = values(batch, name)?;
            numbers.extend(array.iter().map(|value| value.map_or(f64::NAN, f64::from)));
        }
        DataType::Boolean => {
            let array: &BooleanArray = values(batch, name)?;
            numbers.extend(array.iter().map(|value| value.map_or(f64::NAN, |flag| f64::from(u8::from(flag)))));
        }
        other => bail!("column \"{name}\" has the type {other}, which no figure can show"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;

    use super::*;

    #[test]
    fn rows_are_kept_and_grouped_by_names_and_by_numbers() {
        let layers: ArrayRef = Arc::new(UInt32Array::from(vec![Some(1), Some(10), None, Some(1), Some(10), Some(1)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "b", "a", "a", "b"]));
        let batch = RecordBatch::try_from_iter([("layer", layers), ("name", names)]).unwrap();
        let rows = Rows::new("s", &[(&[][..], batch)], |_| Vec::new()).unwrap();
        assert_eq!(rows.keep("layer", 1).rows, [0, 3, 5]);
        assert_eq!(rows.keep("layer", 10).rows, [1, 4]);
        assert_eq!(rows.keep("layer", f64::NAN).rows, [2]);
        assert!(rows.keep("layer", 2).is_empty() && rows.keep("layer", "b").is_empty());
        assert_eq!(rows.keep("name", "b").rows, [0, 2, 5]);
        assert_eq!(rows.keep("name", "b").keep("layer", 1).rows, [0, 5]);
        // Rows of a group that do not follow one another are one group all the same, in the order of the rows.
        let groups: Vec<(Vec<String>, Vec<u32>)> =
            rows.groups(&["name", "layer"]).into_iter().map(|(names, group)| (names, group.rows)).collect();
        let group = |name: &str, layer: &str, rows: &[u32]| (vec![name.to_string(), layer.to_string()], rows.to_vec());
        let expected =
            [group("a", "1", &[3]), group("a", "10", &[1, 4]), group("b", "1", &[0, 5]), group("b", "NaN", &[2])];
        assert_eq!(groups, expected);
    }
}
