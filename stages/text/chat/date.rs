//! The day that chat templates are told. A task must not depend on the clock, so it is a parameter.

use std::fmt::Write;

use anyhow::{Context, Result};

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: i32,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Date {
    /// From `2024-07-26`.
    pub fn parse(text: &str) -> Result<Date> {
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
        let parsed = (|| Some(Date { year: next()? as i32, month: next()?, day: next()? }))();
        parsed
            .filter(|date| (1..=12).contains(&date.month) && (1..=31).contains(&date.day))
            .with_context(|| format!("\"{text}\" is no date; expected one such as \"2024-07-26\""))
    }

    /// C's strftime at midnight of the day, for the directives that name a day or a time; others stay as they are.
    pub fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let month = MONTHS[self.month as usize - 1];
            let weekday = DAYS[self.weekday()];
            // Writing to a string cannot fail.
            let _ = match rest.next() {
                Some('d') => write!(out, "{:02}", self.day),
                Some('e') => write!(out, "{:2}", self.day),
                Some('m') => write!(out, "{:02}", self.month),
                Some('Y') => write!(out, "{:04}", self.year),
                Some('y') => write!(out, "{:02}", self.year % 100),
                Some('B') => write!(out, "{month}"),
                Some('b') => write!(out, "{}", &month[..3]),
                Some('A') => write!(out, "{weekday}"),
                Some('a') => write!(out, "{}", &weekday[..3]),
                Some('F') => write!(out, "{:04}-{:02}-{:02}", self.year, self.month, self.day),
                Some('H' | 'M' | 'S') => write!(out, "00"),
                Some('%') => write!(out, "%"),
                Some(other) => write!(out, "%{other}"),
                None => write!(out, "%"),
            };
        }
        out
    }

    /// Days since Sunday, by Sakamoto's method.
    fn weekday(self) -> usize {
        const SHIFT: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let days = year + year / 4 - year / 100 + year / 400 + SHIFT[self.month as usize - 1] + self.day as i32;
        days.rem_euclid(7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_strftime_does() {
        let date = Date::parse("2024-07-26").unwrap();
        assert_eq!(date.format("%d %b %Y"), "26 Jul 2024");
        assert_eq!(date.format("%A, %B %e %y %H:%M 100%%"), "Friday, July 26 24 00:00 100%");
        assert_eq!(Date::parse("2023-02-05").unwrap().format("%a %F"), "Sun 2023-02-05");
        assert!(Date::parse("July").unwrap_err().to_string().contains("\"July\""));
    }
}
