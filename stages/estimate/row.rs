//! One row of an estimate: a model's passes, a stage, or the sum of all.

/// What some of a run takes.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub what: String,
    pub tokens: f64,
    pub flops: f64,
    /// Bytes.
    pub read: f64,
    pub written: f64,
    /// Bytes resident at most, mapped weights included, of the one task that takes most.
    pub memory: f64,
    /// Whether it compares examples with each other, or keeps what is compared.
    pub compares: bool,
}

impl Row {
    pub fn of(what: impl Into<String>) -> Row {
        Row { what: what.into(), ..Row::default() }
    }

    pub fn total(rows: &[Row]) -> Row {
        let sum = |field: fn(&Row) -> f64| rows.iter().map(field).sum();
        Row {
            what: "total".into(),
            tokens: sum(|row| row.tokens),
            flops: sum(|row| row.flops),
            read: sum(|row| row.read),
            written: sum(|row| row.written),
            // Tasks follow one another.
            memory: rows.iter().map(|row| row.memory).fold(0.0, f64::max),
            compares: false,
        }
    }
}
