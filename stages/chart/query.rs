//! The SQL that gives a figure's numbers, as a reader can run it.

use std::fmt::{Display, Formatter, Result};

/// A value in a condition: a text is quoted.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal(String);

impl From<&str> for Literal {
    fn from(text: &str) -> Literal {
        Literal(format!("'{}'", text.replace('\'', "''")))
    }
}

impl From<&String> for Literal {
    fn from(text: &String) -> Literal {
        text.as_str().into()
    }
}

impl From<u32> for Literal {
    fn from(number: u32) -> Literal {
        Literal(number.to_string())
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter) -> Result {
        f.write_str(&self.0)
    }
}

/// `SELECT columns FROM table WHERE … GROUP BY … ORDER BY …`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    pub table: &'static str,
    columns: &'static str,
    conditions: Vec<String>,
    group: &'static str,
    order: &'static str,
}

impl Query {
    /// Columns of a table, as SQL has them after SELECT.
    pub fn of(table: &'static str, columns: &'static str) -> Query {
        Query { table, columns, ..Query::default() }
    }

    /// The rows in which a column has this value.
    pub fn is(self, column: &str, value: impl Into<Literal>) -> Query {
        let condition = format!("{column} = {}", value.into());
        self.when(condition)
    }

    /// The rows that meet a condition written as SQL.
    pub fn when(mut self, condition: impl Into<String>) -> Query {
        self.conditions.push(condition.into());
        self
    }

    pub fn group(self, columns: &'static str) -> Query {
        Query { group: columns, ..self }
    }

    pub fn order(self, columns: &'static str) -> Query {
        Query { order: columns, ..self }
    }

    /// As a shell command, for a POSIX shell's double quotes.
    pub fn command(&self) -> String {
        let mut quoted = String::new();
        for c in self.to_string().chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        format!("strata query \"{quoted}\"")
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter) -> Result {
        write!(f, "SELECT {} FROM {}", self.columns, self.table)?;
        for (i, condition) in self.conditions.iter().enumerate() {
            write!(f, " {} {condition}", if i == 0 { "WHERE" } else { "AND" })?;
        }
        for (word, columns) in [("GROUP", self.group), ("ORDER", self.order)] {
            if !columns.is_empty() {
                write!(f, " {word} BY {columns}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_shell_and_sql() {
        let query = Query::of("pca", "dataset").is("\"of\"", "it's").is("layer", 3).when("a <> '$x`'").order("dataset");
        assert_eq!(
            query.to_string(),
            r#"SELECT dataset FROM pca WHERE "of" = 'it''s' AND layer = 3 AND a <> '$x`' ORDER BY dataset"#
        );
        let command = query.command();
        assert!(command.starts_with(r#"strata query "SELECT dataset FROM pca WHERE \"of\""#), "{command}");
        assert!(command.contains(r"'\$x\`'"), "{command}");
    }
}
