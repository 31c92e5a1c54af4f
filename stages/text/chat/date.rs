//! The day that chat templates are told. A task must not depend on the clock, so it is a parameter.

use std::fmt::Write;

use anyhow::{Context, Result};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use minijinja::{Error, ErrorKind};

/// Midnight of a day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(NaiveDateTime);

impl Date {
    /// From `2024-07-26`.
    pub fn parse(text: &str) -> Result<Date> {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d");
        let day = day.with_context(|| format!("\"{text}\" is no date; expected one such as \"2024-07-26\""))?;
        Ok(Date(day.and_time(NaiveTime::MIN)))
    }

    /// As `strftime_now(format)` tells it to a template.
    ///
    /// # Errors
    /// When a directive of the format is unknown.
    pub fn format(self, format: &str) -> Result<String, Error> {
        let mut out = String::new();
        let written = write!(out, "{}", self.0.format(format));
        let unknown = |_| Error::new(ErrorKind::InvalidOperation, format!("strftime_now cannot write \"{format}\""));
        written.map(|()| out).map_err(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_strftime_does() {
        let written = |date: &str, format: &str| Date::parse(date).unwrap().format(format);
        assert_eq!(written("2024-07-26", "%d %b %Y").unwrap(), "26 Jul 2024");
        assert_eq!(written("2024-07-26", "%A, %B %e %y %H:%M 100%%").unwrap(), "Friday, July 26 24 00:00 100%");
        assert_eq!(written("2023-02-05", "%a %F, %-d %B").unwrap(), "Sun 2023-02-05, 5 February");
        assert!(written("2023-02-05", "%Q").unwrap_err().to_string().contains("\"%Q\""));
        assert!(Date::parse("July").unwrap_err().to_string().contains("\"July\""));
        assert!(Date::parse("2024-02-30").is_err());
    }
}
