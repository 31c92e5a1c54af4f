//! Which rows of a dataset become examples: `filter = { label = 1, unsafe = { at_least = 50 } }`, or an expression in SQL.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cell::cell;
use crate::contract::pipeline::PlanError;
use crate::contract::row_sql::engine;
use crate::contract::toml_path::TomlPath;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Filter {
    /// What is true of a row that is kept ([`super::sql`]).
    Sql(String),
    Conditions(Conditions),
}

/// Conditions on columns; a row is kept when it meets all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions {
    columns: BTreeMap<String, Condition>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter::Conditions(Conditions::default())
    }
}

/// What one column's value must meet. A column that a row lacks counts as null, which equals nothing and
/// compares with nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    is: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<f64>,
}

const CONDITIONS: [&str; 6] = ["is", "not", "at_least", "at_most", "above", "below"];

impl Filter {
    /// The filter as written in pipeline.toml: a text in SQL, or a table in which a column's value is what it must equal,
    /// a list of which it must equal one, or a table of `is`, `not`, `at_least`, `at_most`, `above`, `below`.
    ///
    /// # Errors
    /// Anything wrong with it, at its place.
    pub fn parse(written: &Value, at: &TomlPath) -> Result<Filter, PlanError> {
        let table = match written {
            Value::Object(table) => table,
            Value::String(sql) => {
                let columns = engine().and_then(|engine| (engine.columns)(sql));
                return match columns {
                    Ok(_) => Ok(Filter::Sql(sql.clone())),
                    Err(why) => Err(PlanError::new(at, format!("the filter is no SQL condition on a row: {why}"))
                        .help("for example filter = \"language IN ('python', 'go') AND length(output) > 20\"")),
                };
            }
            _ => {
                let message = format!("a filter is a table of columns or a text in SQL, found {}", cell(written));
                return Err(PlanError::new(at, message).help("for example filter = { label = 1 }"));
            }
        };
        let mut columns = BTreeMap::new();
        for (column, condition) in table {
            columns.insert(column.clone(), Condition::parse(condition, &at.key(column))?);
        }
        Ok(Filter::Conditions(Conditions { columns }))
    }

    /// Whether it keeps every row.
    pub fn is_empty(&self) -> bool {
        matches!(self, Filter::Conditions(conditions) if conditions.columns.is_empty())
    }
}

impl Conditions {
    /// The columns it looks at.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// Whether the row is kept.
    ///
    /// # Errors
    /// When a value that is compared with a number is not one.
    pub fn keeps(&self, row: &Map<String, Value>) -> Result<bool> {
        for (column, condition) in &self.columns {
            let value = row.get(column).unwrap_or(&Value::Null);
            if !condition.holds(value).with_context(|| format!("the filter on column \"{column}\""))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Condition {
    fn parse(written: &Value, at: &TomlPath) -> Result<Condition, PlanError> {
        let Value::Object(table) = written else {
            return Ok(Condition { is: Some(scalars(written, at)?), ..Condition::default() });
        };
        if table.is_empty() {
            let message = "an empty condition keeps every row";
            return Err(PlanError::new(at, message).help(format!("expected one of: {}", CONDITIONS.join(", "))));
        }
        let mut condition = Condition::default();
        for (name, value) in table {
            let at = at.key(name);
            let number = || {
                let message = || format!("{name} compares numbers, found {}", cell(value));
                value.as_f64().map(Some).ok_or_else(|| PlanError::new(&at, message()))
            };
            match name.as_str() {
                "is" => condition.is = Some(scalars(value, &at)?),
                "not" => condition.not = Some(scalars(value, &at)?),
                "at_least" => condition.at_least = number()?,
                "at_most" => condition.at_most = number()?,
                "above" => condition.above = number()?,
                "below" => condition.below = number()?,
                _ => return Err(PlanError::unknown(at, "condition", name, CONDITIONS)),
            }
        }
        Ok(condition)
    }

    fn holds(&self, value: &Value) -> Result<bool> {
        let among = |list: &[Value]| list.iter().any(|wanted| equal(wanted, value));
        if self.is.as_ref().is_some_and(|list| !among(list)) || self.not.as_ref().is_some_and(|list| among(list)) {
            return Ok(false);
        }
        let bounds = [self.at_least, self.at_most, self.above, self.below];
        if bounds.iter().all(Option::is_none) {
            return Ok(true);
        }
        if value.is_null() {
            return Ok(false);
        }
        let number =
            number(value).with_context(|| format!("compares with a number, and this row holds {}", cell(value)))?;
        Ok(self.at_least.is_none_or(|bound| number >= bound)
            && self.at_most.is_none_or(|bound| number <= bound)
            && self.above.is_none_or(|bound| number > bound)
            && self.below.is_none_or(|bound| number < bound))
    }
}

/// One value or a list of them.
fn scalars(written: &Value, at: &TomlPath) -> Result<Vec<Value>, PlanError> {
    let list = match written {
        Value::Array(list) if list.is_empty() => return Err(PlanError::new(at, "the list of values is empty")),
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    match list.iter().find(|value| matches!(value, Value::Object(_) | Value::Array(_) | Value::Null)) {
        Some(other) => Err(PlanError::new(at, format!("expected text, a number or a boolean, found {}", cell(other)))),
        None => Ok(list),
    }
}

/// Equality across formats: CSV knows only text, so `1` also equals "1" and `true` also equals "True".
fn equal(wanted: &Value, value: &Value) -> bool {
    match (wanted, value) {
        (Value::String(wanted), Value::String(value)) => wanted == value,
        (Value::Bool(wanted), Value::Bool(value)) => wanted == value,
        (Value::Bool(wanted), Value::String(value)) => {
            value.eq_ignore_ascii_case(if *wanted { "true" } else { "false" })
        }
        (Value::Number(wanted), Value::Number(value)) if wanted == value => true,
        (Value::Number(wanted), Value::Number(_) | Value::String(_)) => wanted.as_f64() == number(value),
        _ => false,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(value) => value.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::toml_path::at;
    use serde_json::json;

    fn keeps(filter: Value, row: Value) -> Result<bool> {
        let Value::Object(row) = row else { panic!("a row is an object") };
        match Filter::parse(&filter, &at("datasets.d.filter")).unwrap() {
            Filter::Conditions(conditions) => conditions.keeps(&row),
            Filter::Sql(sql) => panic!("{sql} is SQL"),
        }
    }

    #[test]
    fn equality_lists_and_bounds() {
        for (filter, row, expected) in [
            (json!({"label": 1}), json!({"label": 1}), true),
            (json!({"label": 1}), json!({"label": 1.0}), true),
            (json!({"label": 1}), json!({"label": "1"}), true),
            (json!({"label": 1}), json!({"label": 0}), false),
            (json!({"label": 1}), json!({"label": true}), false),
            (json!({"label": true}), json!({"label": "True"}), true),
            (json!({"kind": ["a", "b"]}), json!({"kind": "b"}), true),
            (json!({"kind": ["a", "b"]}), json!({"kind": "c"}), false),
            (json!({"kind": {"not": ["a", "b"]}}), json!({"kind": "c"}), true),
            (json!({"kind": {"not": "a"}}), json!({"kind": "a"}), false),
            (json!({"kind": {"not": "a"}}), json!({}), true),
            (json!({"kind": "a"}), json!({"kind": null}), false),
            (json!({"score": {"at_least": 50, "below": 60}}), json!({"score": 50}), true),
            (json!({"score": {"at_least": 50, "below": 60}}), json!({"score": "60"}), false),
            (json!({"score": {"above": 50, "at_most": 60}}), json!({"score": 50}), false),
            (json!({"score": {"above": 50, "at_most": 60}}), json!({"score": 60}), true),
            (json!({"score": {"above": 50}}), json!({"score": null}), false),
            (json!({"kind": "a", "score": {"above": 1}}), json!({"kind": "a", "score": 1}), false),
            (json!({}), json!({"kind": "a"}), true),
        ] {
            assert_eq!(keeps(filter.clone(), row.clone()).unwrap(), expected, "{filter} on {row}");
        }
    }

    #[test]
    fn a_comparison_with_text_is_an_error() {
        let error = keeps(json!({"score": {"above": 50}}), json!({"score": "high"})).unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains("\"score\"") && message.contains("\"high\""), "{message}");
    }

    #[test]
    fn mistakes_point_at_the_condition() {
        let error = |filter: Value| Filter::parse(&filter, &at("datasets.d.filter")).unwrap_err();
        let near = error(json!({"score": {"at_lest": 3}}));
        assert_eq!(near.at, "datasets.d.filter.score.at_lest");
        assert_eq!(near.help.as_deref(), Some("did you mean \"at_least\"?"));
        assert_eq!(error(json!({"score": {"above": "x"}})).at, "datasets.d.filter.score.above");
        assert_eq!(error(json!({"score": {}})).at, "datasets.d.filter.score");
        assert_eq!(error(json!({"score": []})).at, "datasets.d.filter.score");
        assert_eq!(error(json!(3)).at, "datasets.d.filter");
    }

    #[test]
    fn survives_a_key() {
        let filter = Filter::parse(&json!({"a": 1, "b": {"not": ["x"], "above": 2}}), &at("f")).unwrap();
        let stored = serde_json::to_value(&filter).unwrap();
        assert_eq!(stored, json!({"a": {"is": [1]}, "b": {"not": ["x"], "above": 2.0}}));
        assert_eq!(serde_json::from_value::<Filter>(stored).unwrap(), filter);
    }
}
