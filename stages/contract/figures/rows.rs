//! Rows of a stage's tables, picked step by step. Each step is kept as an SQL condition, so that the query under a
//! figure returns the rows that it was drawn from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::DataType;

use super::depth::Depth;
use crate::chart::figure::{Figure, slug, sql};
use crate::chart::lines::Point;
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
    /// The places of the names that come first.
    order: HashMap<String, usize>,
}

enum Values {
    /// Texts and, for each row, the place of its own. They are in the order in which figures show them.
    Text { names: Vec<String>, codes: Vec<u32> },
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
    /// The rows of tables with one set of columns, each with the names of its node. Texts that are names in `order`
    /// come in that order, others after them in alphabetical order.
    ///
    /// # Errors
    /// When the tables differ in their columns, or a column has a type that no figure can show.
    pub fn new(
        stage: &'static str,
        tables: &[(&[(String, String)], RecordBatch)],
        order: impl IntoIterator<Item = String>,
    ) -> Result<Rows> {
        let order = order.into_iter().enumerate().map(|(place, name)| (name, place)).collect();
        let mut columns = Columns { stage, values: HashMap::new(), order };
        let count: usize = tables.iter().map(|(_, batch)| batch.num_rows()).sum();
        if let Some((bindings, batch)) = tables.first() {
            for (role, _) in bindings.iter() {
                let name = |bindings: &[(String, String)]| {
                    bindings.iter().find(|(key, _)| key == role).map_or(String::new(), |(_, name)| name.clone())
                };
                let mut texts = Texts::default();
                for (bindings, batch) in tables {
                    let code = texts.code(&name(bindings));
                    texts.codes.extend(std::iter::repeat_n(code, batch.num_rows()));
                }
                let column = texts.sorted(&columns);
                columns.values.insert(role.clone(), column);
            }
            for field in batch.schema().fields() {
                let name = field.name();
                let column = match field.data_type() {
                    DataType::Utf8 => {
                        let mut texts = Texts::default();
                        for (_, batch) in tables {
                            let array: &StringArray = values(batch, name)?;
                            for value in array {
                                let code = texts.code(value.unwrap_or_default());
                                texts.codes.push(code);
                            }
                        }
                        texts.sorted(&columns)
                    }
                    _ => {
                        let mut numbers = Vec::with_capacity(count);
                        for (_, batch) in tables {
                            push_numbers(batch, name, &mut numbers)?;
                        }
                        Values::Number(numbers)
                    }
                };
                columns.values.insert(name.clone(), column);
            }
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

    /// The rows that have this name or whole number in a column.
    pub fn keep(&self, column: &str, value: impl std::fmt::Display) -> Rows {
        if self.is_empty() {
            return self.clone();
        }
        let value = value.to_string();
        let (rows, condition) = match self.columns.get(column) {
            Values::Text { names, codes } => {
                let wanted = names.iter().position(|name| *name == value).map(|code| code as u32);
                let here = |row: &u32| Some(codes[*row as usize]) == wanted;
                (self.rows.iter().copied().filter(here).collect(), format!("{} = {}", identifier(column), sql(&value)))
            }
            Values::Number(numbers) => {
                let wanted: f64 = value.parse().unwrap_or(f64::NAN);
                let here = |row: &u32| numbers[*row as usize] == wanted;
                (self.rows.iter().copied().filter(here).collect(), format!("{} = {value}", identifier(column)))
            }
        };
        self.narrowed(rows, condition, Some(value))
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
            for &row in &self.rows {
                let key = columns.iter().map(|values| values.order(row as usize)).collect();
                found.entry(key).or_default().push(row);
            }
        }
        let group = |rows: Vec<u32>| {
            let mut group = Rows { rows, ..self.clone() };
            let mut names = Vec::new();
            for column in columns {
                let (name, condition) = group.columns.named(column, group.rows[0] as usize);
                group.conditions.push(format!("{} = {condition}", identifier(column)));
                names.push(name);
            }
            group.kept.extend(names.clone());
            (names, group)
        };
        found.into_values().map(group).collect()
    }

    /// The distinct names in some columns, in order.
    pub fn names(&self, columns: &[&str]) -> Vec<String> {
        let all = columns.iter().flat_map(|column| self.groups(&[column]));
        let mut found: Vec<String> = all.flat_map(|(names, _)| names).collect();
        found.sort_by_key(|name| (self.columns.rank(name), name.clone()));
        found.dedup();
        found
    }

    /// The sites of the rows, in the order in which a forward pass comes to them.
    pub fn depths(&self) -> Vec<Depth> {
        let mut depths: Vec<Depth> = self.iter().map(|row| row.depth()).collect();
        depths.sort();
        depths.dedup();
        depths
    }

    /// What `point` makes of the row of each of these sites; nothing where there is no row.
    pub fn points(&self, depths: &[Depth], point: impl Fn(Row) -> Point) -> Vec<Point> {
        let mut points = vec![Point::NONE; depths.len()];
        for row in self.iter() {
            if let Ok(place) = depths.binary_search(&row.depth()) {
                points[place] = point(row);
            }
        }
        points
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

    /// A figure of these rows, with its file's name, its table and its query.
    pub fn figure(&self, what: &str, columns: &str, order: &str) -> Figure {
        Figure {
            name: slug(&format!("{what} {}", self.kept.join(" "))),
            query: self.query(columns, order),
            table: self.columns.stage,
            ..Figure::default()
        }
    }
}

impl<'a> Row<'a> {
    /// A name or text; empty for null.
    pub fn text(self, column: &str) -> &'a str {
        match self.columns.get(column) {
            Values::Text { names, codes } => &names[codes[self.row] as usize],
            Values::Number(_) => panic!("column {} of {} holds numbers", column, self.columns.stage),
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

    /// The site that the columns `layer` and `site` name.
    pub fn depth(self) -> Depth {
        Depth::new(self.number("layer") as u32, self.text("site"))
    }

    /// A value with the interval in `ci_low` and `ci_high`.
    pub fn estimate(self, column: &str) -> Point {
        Point { value: self.number(column), low: self.number("ci_low"), high: self.number("ci_high") }
    }
}

impl Columns {
    fn get(&self, column: &str) -> &Values {
        let found = self.values.get(column);
        found.unwrap_or_else(|| panic!("the figures do not read the column {column} of {}", self.stage))
    }

    fn rank(&self, name: &str) -> usize {
        self.order.get(name).copied().unwrap_or(usize::MAX)
    }

    /// The name in a row, and the same in SQL.
    fn named(&self, column: &str, row: usize) -> (String, String) {
        match self.get(column) {
            Values::Text { names, codes } => {
                let name = &names[codes[row] as usize];
                (name.clone(), sql(name))
            }
            Values::Number(numbers) => (numbers[row].to_string(), numbers[row].to_string()),
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
    places: HashMap<String, u32>,
}

impl Texts {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.places.get(text) {
            return *code;
        }
        let code = self.places.len() as u32;
        self.places.insert(text.to_string(), code);
        code
    }

    fn sorted(self, columns: &Columns) -> Values {
        let mut names: Vec<(usize, String, u32)> =
            self.places.into_iter().map(|(name, code)| (columns.rank(&name), name, code)).collect();
        names.sort();
        let mut places = vec![0; names.len()];
        names.iter().enumerate().for_each(|(place, (.., code))| places[*code as usize] = place as u32);
        let codes = self.codes.into_iter().map(|code| places[code as usize]).collect();
        Values::Text { names: names.into_iter().map(|(_, name, _)| name).collect(), codes }
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

/// A column's name in SQL; `of` is a word of SQL's own.
fn identifier(column: &str) -> String {
    if column == "of" { "\"of\"".into() } else { column.into() }
}
