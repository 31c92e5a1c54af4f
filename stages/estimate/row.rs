//! One row of an estimate: a model's passes, a stage, or the sum of all.

use super::memory::PROCESS;

/// What some of a run takes.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub what: String,
    pub tokens: f64,
    pub flops: f64,
    /// Bytes.
    pub read: f64,
    pub written: f64,
    /// Bytes resident at most, mapped weights included, while the one task runs that takes most.
    pub memory: f64,
    /// How many such tasks run at once; 0 for one.
    pub at_once: usize,
    /// Whether it compares examples with each other, or keeps what is compared.
    pub compares: bool,
}

impl Row {
    pub fn of(what: impl Into<String>) -> Row {
        Row { what: what.into(), ..Row::default() }
    }

    /// Bytes resident while as many of its tasks run as do so at once.
    fn peak(&self) -> f64 {
        self.memory + (self.memory - PROCESS).max(0.0) * self.at_once.saturating_sub(1) as f64
    }

    pub fn total(rows: &[Row]) -> Row {
        let sum = |field: fn(&Row) -> f64| rows.iter().map(field).sum();
        Row {
            what: "total".into(),
            tokens: sum(|row| row.tokens),
            flops: sum(|row| row.flops),
            read: sum(|row| row.read),
            written: sum(|row| row.written),
            // One row's tasks follow another's.
            memory: rows.iter().map(Row::peak).fold(0.0, f64::max),
            ..Row::default()
        }
    }
}
