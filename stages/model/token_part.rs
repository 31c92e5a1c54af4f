//! A part of a `tokens` table, as the sequences that pass.

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ListArray, StringArray, UInt32Array};

use crate::contract::node::Part;
use crate::contract::sequences::Sequences;
use crate::table;

/// The columns of a `tokens` table that a pass reads.
pub const TOKEN_COLUMNS: &[&str] = &["example", "ids", "response_start", "response_end", "turn_start"];

/// What the parts of a `tokens` table hold.
///
/// # Errors
/// When a part cannot be read or lacks one of [`TOKEN_COLUMNS`].
pub fn read_sequences(parts: &[Part]) -> Result<Sequences> {
    let batch = table::read(parts, TOKEN_COLUMNS)?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let ids: &ListArray = table::values(&batch, "ids")?;
    let start: &UInt32Array = table::values(&batch, "response_start")?;
    let end: &UInt32Array = table::values(&batch, "response_end")?;
    let turn: &UInt32Array = table::values(&batch, "turn_start")?;
    let mut sequences = Sequences::default();
    for row in 0..batch.num_rows() {
        let list = ids.value(row);
        let list = list.as_any().downcast_ref::<UInt32Array>().context("the column \"ids\" does not hold u32")?;
        if list.is_empty() {
            bail!("example {} has no tokens", examples.value(row));
        }
        sequences.examples.push(examples.value(row).to_string());
        sequences.ids.push(list.values().to_vec());
        sequences.response.push((start.value(row), end.value(row)));
        sequences.turn.push(turn.value(row));
    }
    Ok(sequences)
}
