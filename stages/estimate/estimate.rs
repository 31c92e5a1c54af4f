//! An estimate as it is shown: a table for people, an object for programs.

use serde_json::{Value, json};

use super::quantity::{bytes, duration, si};
use super::row::Row;
use crate::model::size::Speed;

pub struct Estimate {
    /// Each model's passes up and back, then one for each stage that has a cost of its own.
    pub rows: Vec<Row>,
    /// Of this machine at the largest model's products.
    pub speed: Speed,
    pub notes: Vec<String>,
}

impl Estimate {
    pub fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({ "what": row.what, "tokens": row.tokens.round(), "flops": row.flops, "read": row.read.round(),
                "written": row.written.round(), "memory": row.memory.round(), "hours": self.hours(row) })
        };
        json!({ "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "total": row(&Row::total(&self.rows)),
            "flops_per_second": self.speed.flops_per_second, "notes": self.notes })
    }

    /// A table with the notes below it, under this heading.
    pub fn text(&self, heading: &str) -> String {
        let mut lines = vec![format!(
            "{:<36} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            heading, "tokens", "FLOPs", "read", "written", "memory", "time"
        )];
        for row in self.rows.iter().chain([&Row::total(&self.rows)]) {
            let dash = |value: f64, text: String| if value > 0.0 { text } else { "-".into() };
            lines.push(format!(
                "{:<36} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                row.what,
                dash(row.tokens, si(row.tokens)),
                dash(row.flops, si(row.flops)),
                dash(row.read, bytes(row.read)),
                dash(row.written, bytes(row.written)),
                dash(row.memory, bytes(row.memory)),
                dash(row.flops, duration(self.hours(row))),
            ));
        }
        let Speed { flops_per_second, rows, inputs, outputs } = self.speed;
        lines.push(format!(
            "time: the FLOPs at {}FLOP/s, as this machine just made a product of {rows} x {inputs} x {outputs}; \
             reading and writing come on top",
            si(flops_per_second)
        ));
        lines.extend(self.notes.iter().cloned());
        lines.join("\n")
    }

    fn hours(&self, row: &Row) -> f64 {
        row.flops / self.speed.flops_per_second / 3600.0
    }
}
